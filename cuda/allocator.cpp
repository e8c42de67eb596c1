// DeviceAllocator: size classes, pools, and what happens when memory runs out.
#include "cuda/allocator.h"

#include <algorithm>
#include <utility>

#include "core/out_of_memory.h"
#include "cuda/runtime.h"
#include "cuda/status.h"

namespace riffle {
namespace {

constexpr size_t kGranule = 512;
constexpr size_t kLargest = size_t{1} << 46;
constexpr int kPoison = 0xFF;  // every byte: NaN in f64, f32, bf16 and f16

// Eight sizes between two powers of two, so that near-equal requests share blocks and at most an eighth is wasted.
size_t rounded(size_t bytes) {
  size_t power = kGranule;
  while (power * 2 <= bytes) power *= 2;
  const size_t step = std::max(kGranule, power / 8);
  return std::max(kGranule, (bytes + step - 1) / step * step);
}

std::string mebibytes(int64_t bytes) {
  return join((bytes + (int64_t{1} << 20) - 1) >> 20, " MiB");
}

void append_free(DeviceAllocator::Pool* from, DeviceAllocator::Pool* to) {
  for (auto& [size, blocks] : from->free) {
    std::vector<void*>& others = to->free[size];
    others.insert(others.end(), blocks.begin(), blocks.end());
  }
  from->free.clear();
}

}  // namespace

DeviceAllocator::CapturedMemory::CapturedMemory(std::shared_ptr<DeviceAllocator> allocator)
    : allocator_(std::move(allocator)), pool_(std::make_shared<Pool>()) {
  pool_->of_capture = true;
}

DeviceAllocator::CapturedMemory::~CapturedMemory() {
  std::lock_guard<std::mutex> lock(allocator_->mutex_);
  append_free(pool_.get(), allocator_->general_.get());
  pool_->of_capture = false;  // for blocks that still live
}

DeviceAllocator::DeviceAllocator(int device, cudaStream_t stream, bool poison)
    : device_(device), stream_(stream), poison_(poison) {}

DeviceAllocator::~DeviceAllocator() {
  for (auto& [size, blocks] : general_->free)
    for (void* block : blocks) cudaFree(block);
}

void DeviceAllocator::release_cached() {
  for (auto& [size, blocks] : general_->free) {
    for (void* block : blocks) RIFFLE_CUDA(cudaFree(block));  // waits for the work that uses it
    statistics_.bytes_held -= static_cast<int64_t>(size * blocks.size());
  }
  general_->free.clear();
}

void DeviceAllocator::fail_out_of_memory(size_t size) const {
  size_t free = 0, total = 0;
  RIFFLE_CUDA(cudaMemGetInfo(&free, &total));
  const int64_t asked = static_cast<int64_t>(size), held = statistics_.bytes_held;
  const int64_t used = statistics_.bytes_in_use, left = static_cast<int64_t>(free);
  throw OutOfMemory(join("out of memory on cuda:", device_, ": ", mebibytes(asked), " asked for; tensors use ",
                         mebibytes(used), ", ", mebibytes(held - used), " are held for captured graphs, ",
                         mebibytes(left), " of ", mebibytes(static_cast<int64_t>(total)),
                         " are free. A smaller batch needs less; so does precision bf16 or fp16."),
                    {asked, used, used + left});
}

void* DeviceAllocator::allocate_from_driver(size_t size) {
  use_device(device_);
  void* block = nullptr;
  cudaError_t status = cudaMalloc(&block, size);
  if (status == cudaErrorMemoryAllocation) {  // give back what is cached in other sizes, and try again
    cudaGetLastError();
    release_cached();
    status = cudaMalloc(&block, size);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      fail_out_of_memory(size);
    }
  }
  RIFFLE_CUDA(status);
  ++statistics_.system_allocations;
  statistics_.bytes_held += static_cast<int64_t>(size);
  return block;
}

void* DeviceAllocator::take(Pool* pool, size_t size) {
  const auto found = pool->free.find(size);
  if (found == pool->free.end() || found->second.empty()) return nullptr;
  void* block = found->second.back();
  found->second.pop_back();
  return block;
}

std::shared_ptr<void> DeviceAllocator::allocate(size_t bytes) {
  RIFFLE_CHECK(bytes <= kLargest, "a tensor of ", bytes >> 20, " MiB was asked for");
  const size_t size = rounded(bytes);
  void* block = nullptr;
  std::shared_ptr<Pool> owner;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    owner = capture_ ? capture_ : general_;
    block = take(owner.get(), size);
    if (!block && capture_) {
      block = take(general_.get(), size);
      if (!block)
        fail("work that is captured needs ", mebibytes(static_cast<int64_t>(size)),
             " more memory than it did before; run it twice on the same shapes, then capture it");
    }
    if (!block) block = allocate_from_driver(size);
    statistics_.bytes_in_use += static_cast<int64_t>(size);
    statistics_.peak_bytes = std::max(statistics_.peak_bytes, statistics_.bytes_in_use);
  }
  std::shared_ptr<void> handle(block, [self = shared_from_this(), size, home = std::weak_ptr<Pool>(owner)](void* p) {
    self->release(p, size, home);
  });
  if (poison_) RIFFLE_CUDA(cudaMemsetAsync(block, kPoison, size, stream_));
  return handle;
}

// A block that was allocated before a capture and is freed during it may have been used by the captured work, so it
// stays with that too.
void DeviceAllocator::release(void* block, size_t size, const std::weak_ptr<Pool>& owner) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<Pool> home = owner.lock();
  Pool* pool = general_.get();
  if (home && home->of_capture) {
    pool = home.get();
  } else if (capture_) {
    pool = capture_.get();
  }
  pool->free[size].push_back(block);
  statistics_.bytes_in_use -= static_cast<int64_t>(size);
}

MemoryStatistics DeviceAllocator::statistics() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return statistics_;
}

void DeviceAllocator::begin_capture(const CapturedMemory& memory) {
  std::lock_guard<std::mutex> lock(mutex_);
  RIFFLE_CHECK(!capture_, "work is being captured already");
  capture_ = memory.pool_;
}

void DeviceAllocator::end_capture() {
  std::lock_guard<std::mutex> lock(mutex_);
  capture_ = nullptr;
}

}  // namespace riffle
