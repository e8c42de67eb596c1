// Stacks for the threads of a block, and switches between them: 3 ns each, where ucontext takes 1,000 (two system
// calls). Kernels do not throw, so nothing is unwound across a switch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace riffle::emulation {

constexpr int kMaxThreads = 1024;

class Fibers {
 public:
  // Every fiber is free and will call `entry`, which must not return, when first switched to.
  void reset(void (*entry)());
  int acquire() { return free_[--free_count_]; }
  void release(int fiber) { free_[free_count_++] = fiber; }
  // Leaves the running fiber, or the stack that the first switch left.
  void switch_to(int from, int to);
  void leave(int from);  // to the stack that enter() left
  void enter(int to);
  // True for addresses on any fiber's stack or its guard page.
  bool contains(const void* address) const;

 private:
  void prepare(int fiber, void (*entry)());

  char* stacks_ = nullptr;
  void* saved_[kMaxThreads] = {};  // stack pointers
  void* saved_main_ = nullptr;
  int free_[kMaxThreads] = {};
  int free_count_ = 0;
};

}  // namespace riffle::emulation
