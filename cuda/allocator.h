// Caching allocator for device memory. Freed blocks are kept, by size, and handed out again, so that a training step
// that has run twice asks the driver for nothing, which is also what makes it possible to capture it into a graph. A
// freed block may be reused at once, before the work that used it is done: all work runs on one stream, in order.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/backend.h"

namespace riffle {

class DeviceAllocator : public std::enable_shared_from_this<DeviceAllocator> {
 public:
  // Free blocks by size. Every block belongs to one pool: the general one, or that of a captured graph, which goes on
  // using its memory at every replay, so that nobody else may have it while the graph lives.
  struct Pool {
    std::map<size_t, std::vector<void*>> free;
    bool of_capture = false;
  };

  // A captured graph's hold on its memory: given back to the allocator when this goes.
  class CapturedMemory {
   public:
    explicit CapturedMemory(std::shared_ptr<DeviceAllocator> allocator);
    ~CapturedMemory();
    CapturedMemory(const CapturedMemory&) = delete;
    CapturedMemory& operator=(const CapturedMemory&) = delete;

   private:
    friend class DeviceAllocator;
    std::shared_ptr<DeviceAllocator> allocator_;
    std::shared_ptr<Pool> pool_;
  };

  // Poison is written on `stream`, which is used by allocate() only: blocks may outlive it.
  DeviceAllocator(int device, cudaStream_t stream, bool poison);
  ~DeviceAllocator();

  // Aligned to 256 bytes at least, contents undefined. Throws OutOfMemory, or an Error while work is captured and no
  // free block suits. The block comes back to the allocator, which outlives it, with the last handle.
  std::shared_ptr<void> allocate(size_t bytes);
  MemoryStatistics statistics() const;

  // Between these, blocks that are allocated or freed go to the graph's pool, and nothing is asked of the driver.
  void begin_capture(const CapturedMemory& memory);
  void end_capture();

 private:
  void* take(Pool* pool, size_t size);  // null if there is none; these are called with the mutex held
  void* allocate_from_driver(size_t size);
  void release_cached();
  [[noreturn]] void fail_out_of_memory(size_t size) const;
  void release(void* block, size_t size, const std::weak_ptr<Pool>& owner);

  const int device_;
  const cudaStream_t stream_;
  const bool poison_;
  mutable std::mutex mutex_;
  std::shared_ptr<Pool> general_ = std::make_shared<Pool>();
  std::shared_ptr<Pool> capture_;  // of the capture going on, or null
  MemoryStatistics statistics_;
};

}  // namespace riffle
