// Division of pixel indices by sizes that a launch knows. GPUs have no instruction for it: a division costs about 20 of
// others in 32 bits and three times that in 64, beside a load that is to run at memory speed. With numbers computed once
// on the host it is a multiplication, an addition and a shift.
#pragma once

#include <cstdint>

#include "core/check.h"
#include "cuda/gpu.h"

namespace riffle {

// n / divisor for 0 <= n < 2^31. With s = ceil(log2 d) and m = floor(2^32 (2^s - d) / d) + 1 the quotient is
// (floor(m n / 2^32) + n) / 2^s (Granlund and Montgomery, 1994).
class IndexDivisor {
 public:
  IndexDivisor() = default;
  explicit IndexDivisor(int64_t divisor) : divisor_(static_cast<int>(divisor)) {
    RIFFLE_CHECK(divisor > 0 && divisor < (int64_t{1} << 31), "an index is divided by ", divisor);
    while ((uint64_t{1} << shift_) < static_cast<uint64_t>(divisor)) ++shift_;
    const auto d = static_cast<uint64_t>(divisor);
    multiplier_ = static_cast<uint32_t>((((uint64_t{1} << shift_) - d) << 32) / d + 1);
  }

  __host__ __device__ int quotient(int n) const {
    const auto index = static_cast<uint32_t>(n);
    const auto high = static_cast<uint32_t>((uint64_t{index} * multiplier_) >> 32);
    return static_cast<int>((high + index) >> shift_);
  }
  // n - quotient * divisor.
  __host__ __device__ int remainder(int n, int quotient) const { return n - quotient * divisor_; }
  __host__ __device__ int remainder(int n) const { return remainder(n, quotient(n)); }

 private:
  int divisor_ = 1;
  uint32_t multiplier_ = 1, shift_ = 0;
};

// Where a pixel lies in a batch of images of height x width.
struct PixelPosition {
  int image, row, column;
};

class PixelIndex {
 public:
  PixelIndex() = default;
  PixelIndex(int64_t height, int64_t width) : height_(height), width_(width) {}

  __host__ __device__ PixelPosition operator()(int index) const {
    const int line = width_.quotient(index), image = height_.quotient(line);
    return {image, height_.remainder(line, image), width_.remainder(index, line)};
  }

 private:
  IndexDivisor height_, width_;
};

}  // namespace riffle
