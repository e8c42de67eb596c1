// Depthwise 3x3 kernels. Compiled once for each instruction set: see simd_vector.h and core/CMakeLists.txt.
#include "core/cpu/simd_geometry.h"
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

// One output pixel, any taps missing.
template <class Lane, class V = typename Lane::Vector>
inline V depthwise_pixel(Lane lane, const float* x, int64_t ldx, const RowGeometry& g, int64_t ih0, int64_t iw0,
                         const float* w, IndexRange rows, IndexRange columns) {
  V sum{};
  for (int64_t r = rows.begin; r < rows.end; ++r)
    for (int64_t s = columns.begin; s < columns.end; ++s)
      sum += lane.load(x + ((ih0 + r) * g.width + iw0 + s) * ldx) * lane.load(w + (r * 3 + s) * g.channels);
  return sum;
}

// Output pixels with all three columns and kRows rows inside: x points to the first window's first row, w to its weights.
template <int kRows, class Lane, class Finish>
inline void depthwise_run(Lane lane, const float* x, int64_t ldx, const RowGeometry& g, const float* w,
                          IndexRange outputs, const Finish& finish) {
  using V = typename Lane::Vector;
  V weight[3 * kRows];
  for (int t = 0; t < 3 * kRows; ++t) weight[t] = lane.load(w + t * g.channels);
  for (int64_t ow = outputs.begin; ow < outputs.end; ++ow, x += g.stride * ldx) {
    V sum{};
    for (int r = 0; r < kRows; ++r) {
      const float* p = x + r * g.width * ldx;
      sum += lane.load(p) * weight[3 * r] + lane.load(p + ldx) * weight[3 * r + 1] +
             lane.load(p + 2 * ldx) * weight[3 * r + 2];
    }
    finish(sum, ow);
  }
}

void depthwise3x3_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, const float* w, const float* bias,
                      bool relu, bool accumulate, float* y, int64_t ldy) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const IndexRange rows = taps_inside(ih0, 3, g.height);
  const IndexRange inner = interior(3, g.stride, g.pad_left, g.width, g.out_width);
  const int64_t first = ((ih0 + rows.begin) * g.width + inner.begin * g.stride - g.pad_left) * ldx;
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V offset = bias ? lane.load(bias + c) : V{};
    const auto finish = [&](V sum, int64_t ow) {
      sum += offset;
      if (relu) sum = relu_of(sum);
      float* out = y + ow * ldy + c;
      if (accumulate) sum += lane.load(out);
      lane.store(out, sum);
    };
    const auto edge = [&](int64_t begin, int64_t end) {
      for (int64_t ow = begin; ow < end; ++ow) {
        const int64_t iw0 = ow * g.stride - g.pad_left;
        finish(depthwise_pixel(lane, x + c, ldx, g, ih0, iw0, w + c, rows, taps_inside(iw0, 3, g.width)), ow);
      }
    };
    edge(0, inner.begin);
    const float* w_first = w + rows.begin * 3 * g.channels + c;
    switch (rows.end - rows.begin) {
      case 3:
        depthwise_run<3>(lane, x + first + c, ldx, g, w_first, inner, finish);
        break;
      case 2:
        depthwise_run<2>(lane, x + first + c, ldx, g, w_first, inner, finish);
        break;
      case 1:
        depthwise_run<1>(lane, x + first + c, ldx, g, w_first, inner, finish);
        break;
      default:
        edge(inner.begin, inner.end);  // a window in the padding altogether
    }
    edge(inner.end, g.out_width);
  });
}

void depthwise3x3_data_row(const float* dy, int64_t lddy, const RowGeometry& g, int64_t ih, const float* w,
                           bool accumulate, float* dx, int64_t lddx) {
  Contribution rows[3], columns[3];
  const int row_count = contributions(ih, 3, g.stride, g.pad_top, g.out_height, rows);
  for (int64_t iw = 0; iw < g.width; ++iw) {
    const int column_count = contributions(iw, 3, g.stride, g.pad_left, g.out_width, columns);
    float* out = dx + iw * lddx;
    for_lanes(g.channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      V sum = accumulate ? lane.load(out + c) : V{};
      for (int i = 0; i < row_count; ++i)
        for (int j = 0; j < column_count; ++j)
          sum += lane.load(dy + (rows[i].output * g.out_width + columns[j].output) * lddy + c) *
                 lane.load(w + (rows[i].tap * 3 + columns[j].tap) * g.channels + c);
      lane.store(out + c, sum);
    });
  }
}

void depthwise3x3_weights_row(const float* x, int64_t ldx, const float* dy, int64_t lddy, const RowGeometry& g,
                              int64_t oh, float* dw) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const IndexRange rows = taps_inside(ih0, 3, g.height);
  const IndexRange inner = interior(3, g.stride, g.pad_left, g.width, g.out_width);
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const float* x_row = x + (ih0 + r) * g.width * ldx + c;
      float* out = dw + r * 3 * g.channels + c;
      V sum[3];
      for (int s = 0; s < 3; ++s) sum[s] = lane.load(out + s * g.channels);
      const auto edge = [&](int64_t begin, int64_t end) {
        for (int64_t ow = begin; ow < end; ++ow) {
          const V gradient = lane.load(dy + ow * lddy + c);
          for (int s = 0; s < 3; ++s) {
            const int64_t iw = ow * g.stride - g.pad_left + s;
            if (iw >= 0 && iw < g.width) sum[s] += gradient * lane.load(x_row + iw * ldx);
          }
        }
      };
      edge(0, inner.begin);
      const float* p = x_row + (inner.begin * g.stride - g.pad_left) * ldx;
      const float* q = dy + inner.begin * lddy + c;
      for (int64_t ow = inner.begin; ow < inner.end; ++ow, p += g.stride * ldx, q += lddy) {
        const V gradient = lane.load(q);
        for (int s = 0; s < 3; ++s) sum[s] += gradient * lane.load(p + s * ldx);
      }
      edge(inner.end, g.out_width);
      for (int s = 0; s < 3; ++s) lane.store(out + s * g.channels, sum[s]);
    }
  });
}

}  // namespace

extern const DepthwiseKernels kDepthwiseKernels;
const DepthwiseKernels kDepthwiseKernels = {depthwise3x3_row, depthwise3x3_data_row, depthwise3x3_weights_row};

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
