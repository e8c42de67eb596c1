// The convolution that the twin of cuDNN computes, from the definition.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/emulation/library_twin_support.h"

namespace riffle::emulation {

// Dimensions in the order N,C,H,W, as cuDNN has them, with the distance in elements between neighbours in each.
struct StridedTensor {
  void* data = nullptr;
  Element type = Element::kF32;
  int64_t dimensions[4] = {}, strides[4] = {};

  int64_t offset(int64_t n, int64_t c, int64_t h, int64_t w) const {
    return n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3];
  }
  // Whether neighbours lie side by side: channels last, or columns last.
  bool packed() const {
    const int64_t c = dimensions[1], h = dimensions[2], w = dimensions[3];
    const int64_t channels_last[] = {h * w * c, 1, w * c, c}, columns_last[] = {c * h * w, h * w, w, 1};
    return std::equal(strides, strides + 4, channels_last) || std::equal(strides, strides + 4, columns_last);
  }
  // From the first element to behind the last.
  int64_t span() const {
    return 1 + offset(dimensions[0] - 1, dimensions[1] - 1, dimensions[2] - 1, dimensions[3] - 1);
  }
};

// Which of the three is computed from the other two.
enum class Unknown { kY, kX, kW };

struct PlainConvolution {
  Unknown unknown = Unknown::kY;
  StridedTensor x, w, y;                                      // w: K, C/groups, R, S
  int64_t stride[2] = {1, 1}, before[2] = {}, after[2] = {};  // vertical, horizontal
  bool tf32 = false;

  // What y must be.
  int64_t out_size(int axis) const {
    return (x.dimensions[2 + axis] + before[axis] + after[axis] - w.dimensions[2 + axis]) / stride[axis] + 1;
  }
  void compute() const;
};

}  // namespace riffle::emulation
