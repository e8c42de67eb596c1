// What kernels call: the functions behind device.h's barriers, warp operations and launches.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace riffle::emulation {

enum class Barrier { kPlain, kCount, kAnd, kOr };
enum class Collective { kSyncWarp, kShuffle, kBallot, kAny, kAll };

int barrier(Barrier kind, bool predicate, const char* file, int line);
// Returns a shuffle's value from `source_lane`, a vote's result, or nothing of meaning.
uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source_lane, const char* file, int line);
int lane();
unsigned active_lanes();
void* dynamic_shared();
void fence();
void note_atomic(const void* address, int bytes);

// One launch's kernel, with copies of its arguments.
struct KernelCall {
  const void* kernel = nullptr;
  std::shared_ptr<void> closure;
  size_t closure_bytes = 0;
  void (*invoke)(void* closure) = nullptr;
  std::vector<const void*> pointers;  // arguments that are pointers
};
cudaError_t launch(KernelCall call, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream);

}  // namespace riffle::emulation
