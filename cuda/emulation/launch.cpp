#include "cuda/emulation/launch.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "cuda/emulation/block.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/image.h"
#include "cuda/emulation/queue.h"
#include "cuda/emulation/report.h"
#include "cuda/emulation/shadow.h"

namespace riffle::emulation {
namespace {

constexpr size_t kSharedPages = 228 << 10;  // kMaxDynamicShared in whole pages

std::map<const void*, size_t>& allowed_dynamic_shared() {
  static std::map<const void*, size_t> allowed;
  return allowed;
}

cudaError_t reject(cudaError_t status, const Kernel& kernel, const char* reason) {
  report_refused("launch limit", "%s: %s", kernel.name.c_str(), reason);
  return refuse(status);
}

cudaError_t check_limits(const Kernel& kernel, const void* function, const GridShape& shape) {
  const dim3 &grid = shape.grid, &block = shape.block;
  const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64)
    return reject(cudaErrorInvalidConfiguration, kernel, "a block has 1 to 1024 threads, at most 64 in z");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return reject(cudaErrorInvalidConfiguration, kernel, "a grid has 1 to 2^31-1 blocks in x, 1 to 65535 in y and z");
  if (kernel.shared_bytes > kDefaultShared)
    return reject(cudaErrorInvalidValue, kernel, "more than 48 KB of static shared memory");
  const auto allowed = allowed_dynamic_shared().find(function);
  const bool opted_in = allowed != allowed_dynamic_shared().end();
  if (shape.shared_bytes + kernel.shared_bytes > (opted_in ? kMaxDynamicShared : kDefaultShared))
    return reject(cudaErrorInvalidValue, kernel, "static and dynamic shared memory together are above the limit");
  if (opted_in && shape.shared_bytes > allowed->second)
    return reject(cudaErrorInvalidValue, kernel,
                  "more dynamic shared memory than cudaFuncSetAttribute allowed this kernel");
  return cudaSuccess;
}

// Arguments that no device could follow. What structures carry is left to the check build.
void check_pointers(const KernelCall& call, const Kernel& kernel, int device) {
  for (const void* pointer : call.pointers) {
    if (pointer == nullptr || image().contains(pointer) || is_pinned(pointer)) continue;
    const int owner = device_of(pointer);
    if (owner < 0)
      report("host pointer", "%s is passed %p, which is not device memory", kernel.name.c_str(), pointer);
    else if (owner != device)
      report("wrong device", "%s runs on device %d and is passed memory of device %d", kernel.name.c_str(), device,
             owner);
  }
}

}  // namespace

void place_dynamic_shared(size_t bytes) {
  static auto* pages = [] {
    void* mapped = mmap(nullptr, kSharedPages + kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
      std::perror("[emulation] no memory for dynamic shared memory");
      std::abort();
    }
    mprotect(static_cast<char*>(mapped) + kSharedPages, kPageBytes, PROT_NONE);
    return static_cast<unsigned char*>(mapped);
  }();
  // The shadow remembers by address, and blocks of one kernel have one size.
  running.dynamic_shared = pages + kSharedPages - (bytes + 15) / 16 * 16;
  running.dynamic_shared_bytes = bytes;
}

bool allow_dynamic_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > kMaxDynamicShared) return false;
  allowed_dynamic_shared()[kernel] = static_cast<size_t>(bytes);
  return true;
}

cudaError_t launch(KernelCall call, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  const Lock lock;
  Stream* queue = find_stream(stream);
  if (queue == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (queue->device != current_device()) return refuse(cudaErrorInvalidResourceHandle);
  const Kernel& kernel = image().kernel(call.kernel);
  const GridShape shape{grid, block, shared_bytes};
  const cudaError_t status = check_limits(kernel, call.kernel, shape);
  if (status != cudaSuccess) return status;
  check_pointers(call, kernel, queue->device);
  return submit(queue, [call = std::move(call), shape, device = queue->device] { run_grid(call, shape, device); });
}

}  // namespace riffle::emulation
