// Encoded images kept in memory, up to a budget that several data sets share. What was read first stays: an epoch reads
// every image once, so that replacing the least recently used one would never find anything.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace riffle {

using EncodedImage = std::shared_ptr<const std::vector<uint8_t>>;

class CacheBudget {
 public:
  explicit CacheBudget(int64_t bytes) : left_(bytes) {}
  // True if the bytes fit, which then are taken. Thread-safe.
  bool take(int64_t bytes) {
    int64_t left = left_.load();
    while (bytes <= left) {
      if (left_.compare_exchange_weak(left, left - bytes)) return true;
    }
    return false;
  }
  void give_back(int64_t bytes) { left_ += bytes; }
  int64_t left() const { return left_; }

 private:
  std::atomic<int64_t> left_;
};

// Thread-safe. Each image counts with its bytes and kOverhead for its bookkeeping.
class EncodedCache {
 public:
  static constexpr int64_t kOverhead = 64;

  EncodedCache(size_t images, std::shared_ptr<CacheBudget> budget) : budget_(std::move(budget)), images_(images) {}

  EncodedImage find(size_t index) const { return std::atomic_load(&images_[index]); }
  void offer(size_t index, const EncodedImage& image) {
    const int64_t bytes = static_cast<int64_t>(image->size()) + kOverhead;
    if (!budget_->take(bytes)) return;
    EncodedImage none;
    if (!std::atomic_compare_exchange_strong(&images_[index], &none, image)) budget_->give_back(bytes);
  }

 private:
  std::shared_ptr<CacheBudget> budget_;
  std::vector<EncodedImage> images_;
};

}  // namespace riffle
