// CachingAllocator for host memory.
#include "core/cpu/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "core/check.h"

namespace riffle {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLargest = size_t{1} << 46;

// Eight sizes between two powers of two, whole huge pages where large: near-equal requests share blocks.
size_t rounded(size_t bytes) {
  if (bytes > kLargest) fail("out of memory: a tensor of ", bytes >> 20, " MiB was asked for");
  size_t power = kAlignment;
  while (power * 2 <= bytes) power *= 2;
  const size_t page = power >= kHugePage ? kHugePage : kAlignment;
  const size_t step = std::max(page, power / 8);
  return std::max(kAlignment, (bytes + step - 1) / step * step);
}

}  // namespace

CachingAllocator::~CachingAllocator() {
  for (auto& [size, blocks] : free_)
    for (void* block : blocks) std::free(block);
}

void* CachingAllocator::allocate_from_system(size_t size) {
  const size_t alignment = size >= kHugePage ? kHugePage : kAlignment;
  void* block = std::aligned_alloc(alignment, size);
  if (!block) {  // give back what is cached in other sizes, and try again
    for (auto& [cached_size, blocks] : free_) {
      for (void* cached : blocks) std::free(cached);
      statistics_.bytes_held -= static_cast<int64_t>(cached_size * blocks.size());
      blocks.clear();
    }
    block = std::aligned_alloc(alignment, size);
  }
  if (!block)
    fail("out of memory: ", size >> 20, " MiB asked for, ", statistics_.bytes_held >> 20,
         " MiB held; a smaller batch needs less");
#ifdef MADV_HUGEPAGE
  // Large tensors are streamed from end to end: huge pages save most of their TLB misses. A hint; refusal is fine.
  if (size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);
#endif
  ++statistics_.system_allocations;
  statistics_.bytes_held += static_cast<int64_t>(size);
  return block;
}

std::shared_ptr<void> CachingAllocator::allocate(size_t bytes) {
  const size_t size = rounded(bytes);
  void* block = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<void*>& blocks = free_[size];
    if (blocks.empty()) {
      block = allocate_from_system(size);
    } else {
      block = blocks.back();
      blocks.pop_back();
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
