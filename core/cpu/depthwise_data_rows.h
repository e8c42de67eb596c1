// The data gradient of a 3x3 depthwise convolution, row by row. At stride 1 it is a forward convolution of dy with the
// filter turned by 180 degrees and padding 2 - pad.
#pragma once

#include <algorithm>
#include <vector>

#include "core/cpu/simd_kernels.h"

namespace riffle {

class DepthwiseDataRows {
 public:
  // w (9,C) and `geometry` are the forward convolution's.
  DepthwiseDataRows(const SimdKernels& simd, const float* w, const RowGeometry& geometry)
      : simd_(simd), w_(w), geometry_(geometry) {
    if (geometry.stride != 1) return;
    const RowGeometry& g = geometry;
    turned_.resize(static_cast<size_t>(9 * g.channels));
    for (int64_t t = 0; t < 9; ++t) std::copy_n(w + t * g.channels, g.channels, turned_.begin() + (8 - t) * g.channels);
    turned_geometry_ = {g.out_height,  g.out_width,   g.height, g.width, g.channels, 3, 3, 1,
                        2 - g.pad_top, 2 - g.pad_left};
  }

  // Input row `ih` of an image; dy is the image, dx the row.
  void operator()(const float* dy, int64_t lddy, int64_t ih, bool accumulate, float* dx, int64_t lddx) const {
    if (geometry_.stride == 1) {
      simd_.depthwise3x3_row(dy, lddy, turned_geometry_, ih, turned_.data(), nullptr, false, accumulate, dx, lddx);
    } else {
      simd_.depthwise3x3_data_row(dy, lddy, geometry_, ih, w_, accumulate, dx, lddx);
    }
  }

 private:
  const SimdKernels& simd_;
  const float* w_;
  RowGeometry geometry_, turned_geometry_{};
  std::vector<float> turned_;
};

}  // namespace riffle
