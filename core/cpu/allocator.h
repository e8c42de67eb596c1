// Caching allocator: freed blocks are kept, by size, and handed out again, so that a training step that has run twice
// asks the system for nothing.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/backend.h"

namespace riffle {

class CachingAllocator : public std::enable_shared_from_this<CachingAllocator> {
 public:
  ~CachingAllocator();
  // 64-byte aligned, contents undefined. Freed blocks come back to the allocator, which outlives them.
  std::shared_ptr<void> allocate(size_t bytes);
  MemoryStatistics statistics() const;

 private:
  void* allocate_from_system(size_t size);  // with the mutex held
  void release(void* block, size_t size);

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;  // rounded size -> blocks
  MemoryStatistics statistics_;
};

}  // namespace riffle
