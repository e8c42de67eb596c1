// The geometry of a windowed operation on tensors, as the row kernels take it.
#pragma once

#include "core/backend.h"
#include "core/cpu/simd_kernels.h"

namespace riffle {

inline RowGeometry row_geometry(const Tensor& x, const Window& window, const Tensor& y) {
  return {x.shape().h,     x.shape().w,     y.shape().h,   y.shape().w,        x.channels(),
          window.kernel_h, window.kernel_w, window.stride, window.padding.top, window.padding.left};
}

}  // namespace riffle
