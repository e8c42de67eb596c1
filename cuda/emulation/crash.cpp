#include "cuda/emulation/crash.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <ucontext.h>
#include <unistd.h>

#include "cuda/emulation/block.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/report.h"

namespace riffle::emulation {
namespace {

constexpr size_t kStackBytes = 64 << 10;
alignas(16) char handler_stack[kStackBytes];
alignas(16) char resume_stack[kStackBytes];
void (*resume_function)();
bool crashed;
thread_local bool thread_is_prepared = false;

void report_crash(const void* address) {
  if (on_fiber_stack(address))
    report("stack overflow", "a thread needs more than 64 KB of stack");
  else if (static_cast<size_t>(static_cast<const unsigned char*>(address) - running.dynamic_shared) <
           running.dynamic_shared_bytes + kPageBytes)
    report("out of bounds", "crash at offset %td of %zu bytes of dynamic shared memory",
           static_cast<const unsigned char*>(address) - running.dynamic_shared, running.dynamic_shared_bytes);
  else if (device_of(address) >= 0)
    report("out of bounds", "crash at %p, device memory outside every allocation", address);
  else
    report("crash", "crash at address %p", address);
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (!in_kernel) {
    if (device_of(info->si_addr) >= 0)
      std::fprintf(stderr, "[emulation] host code touched device memory at %p, outside every allocation\n",
                   info->si_addr);
    std::signal(signal, SIG_DFL);  // and the instruction runs once more
    return;
  }
  report_crash(info->si_addr);
  crashed = true;
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  // As if it had been called: the stack is 8 bytes off a multiple of 16.
  registers[REG_RSP] = reinterpret_cast<greg_t>(resume_stack + kStackBytes - 8);
  registers[REG_RIP] = reinterpret_cast<greg_t>(resume_function);
}

}  // namespace

void handle_crashes(void (*resume)()) {
  if (thread_is_prepared) return;
  thread_is_prepared = true;
  resume_function = resume;
  stack_t stack{};
  sigaltstack(nullptr, &stack);
  if ((stack.ss_flags & SS_DISABLE) != 0) {  // AddressSanitizer brings one
    stack = {};
    stack.ss_sp = handler_stack;  // one for all OS threads: they run kernels in turns
    stack.ss_size = kStackBytes;
    sigaltstack(&stack, nullptr);
  }
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

bool take_crash() {
  const bool result = crashed;
  crashed = false;
  return result;
}

}  // namespace riffle::emulation
