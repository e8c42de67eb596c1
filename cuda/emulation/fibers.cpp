#include "cuda/emulation/fibers.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#ifndef __x86_64__
#error "The emulated device switches fibers with x86-64 instructions."
#endif

// Saves the callee-saved registers and the stack pointer in *save, and continues where `load` was saved. It ends with
// an indirect jump because `ret` would miss the processor's return predictor every time.
extern "C" void riffle_emulation_switch(void** save, void* load);
asm(R"(.text
.globl riffle_emulation_switch
.type riffle_emulation_switch,@function
riffle_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size riffle_emulation_switch,.-riffle_emulation_switch
)");

namespace riffle::emulation {
namespace {

constexpr size_t kStackBytes = 64 << 10, kGuardBytes = 64 << 10, kSlotBytes = kStackBytes + kGuardBytes;
constexpr int kSavedRegisters = 6;

char* map_stacks() {
  void* stacks = mmap(nullptr, kSlotBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stacks == MAP_FAILED) {
    std::perror("[emulation] no address space for the threads' stacks");
    std::abort();
  }
  for (int fiber = 0; fiber < kMaxThreads; ++fiber)
    mprotect(static_cast<char*>(stacks) + fiber * kSlotBytes, kGuardBytes, PROT_NONE);
  return static_cast<char*>(stacks);
}

}  // namespace

void Fibers::prepare(int fiber, void (*entry)()) {
  // Multiples of 64 bytes apart, so that not all stacks meet in the same sets of the first-level cache.
  const size_t colour = static_cast<size_t>(fiber % 60) * 64;
  char* top = stacks_ + (fiber + 1) * kSlotBytes - 64 - colour;  // a multiple of 64
  auto** stack = reinterpret_cast<void**>(top);
  *--stack = nullptr;  // entry's return address: none
  *--stack = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--stack = nullptr;
  saved_[fiber] = stack;
}

void Fibers::reset(void (*entry)()) {
  if (stacks_ == nullptr) stacks_ = map_stacks();
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stacks_, kSlotBytes * kMaxThreads);  // what an abandoned block left behind
#endif
  free_count_ = 0;
  for (int fiber = kMaxThreads - 1; fiber >= 0; --fiber) {
    prepare(fiber, entry);
    release(fiber);
  }
}

void Fibers::switch_to(int from, int to) {
  riffle_emulation_switch(&saved_[from], saved_[to]);
}

void Fibers::leave(int from) {
  riffle_emulation_switch(&saved_[from], saved_main_);
}

void Fibers::enter(int to) {
  riffle_emulation_switch(&saved_main_, saved_[to]);
}

bool Fibers::contains(const void* address) const {
  return static_cast<size_t>(static_cast<const char*>(address) - stacks_) < kSlotBytes * kMaxThreads;
}

}  // namespace riffle::emulation
