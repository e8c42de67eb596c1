// CachingAllocator for host memory.
#include "core/cpu/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "core/check.h"

namespace riffle {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Eight sizes between two powers of two: at most 12.5 % is wasted, and near-equal requests share blocks.
size_t rounded(size_t bytes) {
  if (bytes <= 64) return 64;
  size_t power = 64;
  while (power * 2 <= bytes) power *= 2;
  const size_t step = std::max<size_t>(64, power / 8);
  return (bytes + step - 1) / step * step;
}

}  // namespace

CachingAllocator::~CachingAllocator() {
  for (auto& [size, blocks] : free_)
    for (void* block : blocks) std::free(block);
}

std::shared_ptr<void> CachingAllocator::allocate(size_t bytes) {
  const size_t size = rounded(bytes);
  void* block = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<void*>& blocks = free_[size];
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
    } else {
      const size_t alignment = size >= kHugePage ? kHugePage : 64;
      block = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
      if (!block)
        fail("out of memory: ", size >> 20, " MiB asked for, ", statistics_.bytes_held >> 20,
             " MiB held; a smaller batch needs less");
      // Large tensors are streamed from end to end: huge pages save most of their TLB misses. A hint; refusal is fine.
      if (size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);
      ++statistics_.system_allocations;
      statistics_.bytes_held += static_cast<int64_t>(size);
    }
    statistics_.bytes_in_use += static_cast<int64_t>(size);
    statistics_.peak_bytes = std::max(statistics_.peak_bytes, statistics_.bytes_in_use);
  }
  return std::shared_ptr<void>(block, [self = shared_from_this(), size](void* p) { self->release(p, size); });
}

void CachingAllocator::release(void* block, size_t size) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_[size].push_back(block);
  statistics_.bytes_in_use -= static_cast<int64_t>(size);
}

MemoryStatistics CachingAllocator::statistics() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return statistics_;
}

}  // namespace riffle
