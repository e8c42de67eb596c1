// One grid at a time, block after block: each thread a fiber that runs until it waits at a barrier or a warp operation.
#pragma once

#include <string>

#include <cuda_runtime_api.h>

#include "cuda/emulation/kernel_interface.h"

namespace riffle::emulation {

constexpr size_t kMaxDynamicShared = 227 << 10;  // with cudaFuncSetAttribute
constexpr size_t kDefaultShared = 48 << 10;      // static and dynamic together, without it

struct GridShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
};

// Runs every thread of every block, and reports what they do wrong; after a deadlock or a crash the rest does not run.
void run_grid(const KernelCall& call, const GridShape& shape, int device);

// "; KERNEL block (0,0,0) thread (1,0,0)" while a kernel runs, else "".
std::string running_thread();

// What the checks of memory accesses (shadow.h) need to know of the running thread.
struct Running {
  bool fenced = false;  // some thread of this block called __threadfence
  int device = 0;
  int thread = 0;                 // in its block
  int owner = 0;                  // Kernel::id
  uint32_t epoch = 8;             // counts barriers; never goes back
  uint32_t block_epoch = 0;       // the epoch of what happened before the block's first instruction
  uint32_t launch_epoch = 0;      // all epochs of this launch are larger
  uint32_t warp_epoch[32] = {};   // counts __syncwarp in this block
  const char* closure = nullptr;  // kernel arguments
  size_t closure_bytes = 0;
  unsigned char* dynamic_shared = nullptr;
  size_t dynamic_shared_bytes = 0;
  uint64_t instrumented_calls = 0;  // functions entered in this launch that were compiled for the check build
};
extern Running running;

// True in the OS thread that runs a kernel, while it does. Other threads may be in instrumented code too, because the
// linker keeps one copy of each inline function. (Not thread_local: the compiler would call a function to initialise
// it.)
extern __thread bool in_kernel;

// True for addresses on the stack of any thread.
bool on_fiber_stack(const void* address);

}  // namespace riffle::emulation
