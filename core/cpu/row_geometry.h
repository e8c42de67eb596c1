// The geometry of a windowed operation on tensors, as the row kernels take it.
#pragma once

#include <algorithm>

#include "core/backend.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd_kernels.h"

namespace riffle {

inline RowGeometry row_geometry(const Tensor& x, const Window& window, const Tensor& y) {
  return {x.shape().h,     x.shape().w,     y.shape().h,   y.shape().w,        x.channels(),
          window.kernel_h, window.kernel_w, window.stride, window.padding.top, window.padding.left};
}

// Image rows in pieces of several, so that a piece is worth a thread's while.
inline Chunks image_rows(int64_t rows, int64_t width, int64_t channels) {
  return {rows, std::clamp<int64_t>(16384 / (width * channels), 1, 64)};
}

}  // namespace riffle
