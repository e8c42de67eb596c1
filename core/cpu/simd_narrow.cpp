// Convolutions whose windows have rows of 9 or 3 floats: 3x3 on RGB or gray images, which is where every network begins.
// Vectorised along output channels; a matrix product would spend its time gathering such small windows. Compiled once for
// each instruction set: see simd_vector.h and core/CMakeLists.txt.
#include "core/cpu/simd_geometry.h"
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

// kPixels outputs side by side, `step` floats apart in the image, with all their columns inside.
template <int kRun, int kPixels, class Lane>
inline void narrow_pixels(Lane lane, const float* x, int64_t row_pitch, int64_t step, int64_t rows, const float* w,
                          int64_t outputs, typename Lane::Vector* sums) {
  using V = typename Lane::Vector;
  V sum[kPixels];
  for (int i = 0; i < kPixels; ++i) sum[i] = V{};
  for (int64_t r = 0; r < rows; ++r, x += row_pitch) {
    for (int t = 0; t < kRun; ++t, w += outputs) {
      const V weight = lane.load(w);
      for (int i = 0; i < kPixels; ++i) sum[i] += weight * x[i * step + t];
    }
  }
  for (int i = 0; i < kPixels; ++i) sums[i] = sum[i];
}

template <int kRun>
void narrow_row(const float* x, const RowGeometry& g, int64_t oh, const float* w, int64_t outputs, const float* bias,
                bool relu, float* y) {
  const int64_t ih0 = oh * g.stride - g.pad_top, step = g.stride * g.channels;
  const IndexRange rows = taps_inside(ih0, g.kernel_h, g.height);
  const IndexRange inner = interior(g.kernel_w, g.stride, g.pad_left, g.width, g.out_width);
  const int64_t row_pitch = g.width * g.channels;
  const float* x_row = x + (ih0 + rows.begin) * row_pitch;
  const float* w_row = w + rows.begin * kRun * outputs;
  for_lanes(outputs, [&](auto lane, int64_t k) {
    using V = typename decltype(lane)::Vector;
    const V offset = bias ? lane.load(bias + k) : V{};
    const auto finish = [&](V sum, int64_t ow) {
      sum += offset;
      lane.store(y + ow * outputs + k, relu ? relu_of(sum) : sum);
    };
    const auto edge = [&](int64_t begin, int64_t end) {
      for (int64_t ow = begin; ow < end; ++ow) {
        const int64_t iw0 = ow * g.stride - g.pad_left;
        const IndexRange columns = taps_inside(iw0, g.kernel_w, g.width);
        V sum{};
        for (int64_t r = rows.begin; r < rows.end; ++r)
          for (int64_t t = columns.begin * g.channels; t < columns.end * g.channels; ++t)
            sum += lane.load(w + (r * kRun + t) * outputs + k) * x[(ih0 + r) * row_pitch + iw0 * g.channels + t];
        finish(sum, ow);
      }
    };
    edge(0, inner.begin);
    constexpr int kPixels = 8;
    V sums[kPixels];
    int64_t ow = inner.begin;
    const auto window = [&](int64_t o) { return x_row + (o * g.stride - g.pad_left) * g.channels; };
    for (; ow + kPixels <= inner.end; ow += kPixels) {
      narrow_pixels<kRun, kPixels>(lane, window(ow), row_pitch, step, rows.end - rows.begin, w_row + k, outputs, sums);
      for (int i = 0; i < kPixels; ++i) finish(sums[i], ow + i);
    }
    for (; ow < inner.end; ++ow) {
      narrow_pixels<kRun, 1>(lane, window(ow), row_pitch, step, rows.end - rows.begin, w_row + k, outputs, sums);
      finish(sums[0], ow);
    }
    edge(inner.end, g.out_width);
  });
}

template <int kRun>
void narrow_weights_row(const float* x, const RowGeometry& g, int64_t oh, const float* dy, int64_t outputs, float* dw) {
  const int64_t ih0 = oh * g.stride - g.pad_top, step = g.stride * g.channels;
  const IndexRange rows = taps_inside(ih0, g.kernel_h, g.height);
  const IndexRange inner = interior(g.kernel_w, g.stride, g.pad_left, g.width, g.out_width);
  for_lanes(outputs, [&](auto lane, int64_t k) {
    using V = typename decltype(lane)::Vector;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const float* x_row = x + (ih0 + r) * g.width * g.channels;
      float* out = dw + r * kRun * outputs + k;
      V sum[kRun];
      for (int t = 0; t < kRun; ++t) sum[t] = lane.load(out + t * outputs);
      const float* p = x_row + (inner.begin * g.stride - g.pad_left) * g.channels;
      for (int64_t ow = inner.begin; ow < inner.end; ++ow, p += step) {
        const V gradient = lane.load(dy + ow * outputs + k);
        for (int t = 0; t < kRun; ++t) sum[t] += gradient * p[t];
      }
      for (int t = 0; t < kRun; ++t) lane.store(out + t * outputs, sum[t]);
      const auto edge = [&](int64_t begin, int64_t end) {
        for (int64_t ow = begin; ow < end; ++ow) {
          const int64_t iw0 = ow * g.stride - g.pad_left;
          const IndexRange columns = taps_inside(iw0, g.kernel_w, g.width);
          const V gradient = lane.load(dy + ow * outputs + k);
          for (int64_t t = columns.begin * g.channels; t < columns.end * g.channels; ++t)
            lane.store(out + t * outputs, V(lane.load(out + t * outputs) + gradient * x_row[iw0 * g.channels + t]));
        }
      };
      edge(0, inner.begin);
      edge(inner.end, g.out_width);
    }
  });
}

}  // namespace

extern const NarrowKernels kNarrowKernels;
const NarrowKernels kNarrowKernels = {narrow_row<9>, narrow_row<3>, narrow_weights_row<9>, narrow_weights_row<3>};

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
