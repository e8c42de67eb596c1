// Max-pooling kernels, alone and fused with the batch norm and ReLU before it. Compiled once for each instruction set: see
// simd_vector.h and core/CMakeLists.txt.
#include "core/cpu/simd_geometry.h"
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

template <class Lane, class V = typename Lane::Vector>
inline V centred(Lane lane, const float* x, const ChannelAffine& a, int64_t c) {
  return lane.load(x + c) - lane.load(a.mean + c);
}

// Whether v takes best's place: the first of equal values stays; NaN beats every number, and the first NaN stays.
template <class V>
inline auto exceeds(V v, V best) {
  return ~(v <= best) & (best == best);
}
inline bool exceeds(float v, float best) {
  return !(v <= best) && best == best;
}

// Pools value(lane, pixel, c). The winner's tap travels as a float beside the maximum (at most 255, so exact).
template <class Value>
inline void pool_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, float* y, int64_t ldy,
                     uint8_t* winner, const Value& value) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const IndexRange rows = taps_inside(ih0, g.kernel_h, g.height);
  for (int64_t ow = 0; ow < g.out_width; ++ow) {
    const int64_t iw0 = ow * g.stride - g.pad_left;
    const IndexRange columns = taps_inside(iw0, g.kernel_w, g.width);
    for_lanes(g.channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      V best = value(lane, x + ((ih0 + rows.begin) * g.width + iw0 + columns.begin) * ldx, c);
      V tap = splat<V>(static_cast<float>(rows.begin * g.kernel_w + columns.begin));
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        for (int64_t s = columns.begin; s < columns.end; ++s) {
          const V v = value(lane, x + ((ih0 + r) * g.width + iw0 + s) * ldx, c);
          const auto wins = exceeds(v, best);
          tap = wins ? splat<V>(static_cast<float>(r * g.kernel_w + s)) : tap;
          best = wins ? v : best;
        }
      }
      lane.store(y + ow * ldy + c, best);
      lane.store_bytes(winner + ow * g.channels + c, tap);
    });
  }
}

void max_pool_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, float* y, int64_t ldy,
                  uint8_t* winner) {
  pool_row(x, ldx, g, oh, y, ldy, winner,
           [](auto lane, const float* pixel, int64_t c) { return lane.load(pixel + c); });
}

void norm_max_pool_row(const float* x, int64_t ldx, const ChannelAffine& a, const RowGeometry& g, int64_t oh, float* y,
                       int64_t ldy, uint8_t* winner) {
  pool_row(x, ldx, g, oh, y, ldy, winner, [&a](auto lane, const float* pixel, int64_t c) {
    return relu_of(centred(lane, pixel, a, c) * lane.load(a.scale + c) + lane.load(a.shift + c));
  });
}

// Calls body(lane, c, pixel, gradient) for the pixels of input row `ih` with the sum of dy over the windows they won.
template <class Body>
inline void for_each_won(const float* dy, int64_t lddy, const uint8_t* winner, const RowGeometry& g, int64_t ih,
                         const Body& body) {
  Contribution rows[256], columns[256];  // a window holds at most 256 taps
  const int row_count = contributions(ih, g.kernel_h, g.stride, g.pad_top, g.out_height, rows);
  for (int64_t iw = 0; iw < g.width; ++iw) {
    const int column_count = contributions(iw, g.kernel_w, g.stride, g.pad_left, g.out_width, columns);
    for_lanes(g.channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      V sum{};
      for (int i = 0; i < row_count; ++i) {
        for (int j = 0; j < column_count; ++j) {
          const int64_t pixel = rows[i].output * g.out_width + columns[j].output;
          const auto tap = static_cast<uint8_t>(rows[i].tap * g.kernel_w + columns[j].tap);
          sum += lane.load_where(winner + pixel * g.channels + c, tap, dy + pixel * lddy + c, V{});
        }
      }
      body(lane, c, iw, sum);
    });
  }
}

void max_pool_data_row(const float* dy, int64_t lddy, const uint8_t* winner, const RowGeometry& g, int64_t ih,
                       float* dx, int64_t lddx) {
  for_each_won(dy, lddy, winner, g, ih,
               [&](auto lane, int64_t c, int64_t iw, auto gradient) { lane.store(dx + iw * lddx + c, gradient); });
}

void norm_max_pool_data_row(const float* x, int64_t ldx, const float* dy, int64_t lddy, const uint8_t* winner,
                            const ChannelAffine& a, const float* from_x, const float* offset, const RowGeometry& g,
                            int64_t ih, float* dx, int64_t lddx) {
  for_each_won(dy, lddy, winner, g, ih, [&](auto lane, int64_t c, int64_t iw, auto gradient) {
    using V = decltype(gradient);
    const V deviation = centred(lane, x + iw * ldx, a, c), scale = lane.load(a.scale + c);
    const V active = deviation * scale + lane.load(a.shift + c) > splat<V>(0) ? gradient : splat<V>(0);
    lane.store(dx + iw * lddx + c, V(scale * active + lane.load(from_x + c) * deviation + lane.load(offset + c)));
  });
}

void norm_max_pool_sums_row(const float* x, int64_t ldx, const float* dy, int64_t lddy, const uint8_t* winner,
                            const ChannelAffine& a, const RowGeometry& g, int64_t oh, float* sum_g, float* sum_gx) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const IndexRange rows = taps_inside(ih0, g.kernel_h, g.height);
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V mean = lane.load(a.mean + c), scale = lane.load(a.scale + c), shift = lane.load(a.shift + c);
    V g_sum = lane.load(sum_g + c), gx_sum = lane.load(sum_gx + c);
    for (int64_t ow = 0; ow < g.out_width; ++ow) {
      const int64_t iw0 = ow * g.stride - g.pad_left;
      const IndexRange columns = taps_inside(iw0, g.kernel_w, g.width);
      const uint8_t* won = winner + ow * g.channels + c;
      V value{};
      for (int64_t r = rows.begin; r < rows.end; ++r)
        for (int64_t s = columns.begin; s < columns.end; ++s)
          value = lane.load_where(won, static_cast<uint8_t>(r * g.kernel_w + s),
                                  x + ((ih0 + r) * g.width + iw0 + s) * ldx + c, value);
      const V deviation = value - mean;
      const V gradient = deviation * scale + shift > splat<V>(0) ? lane.load(dy + ow * lddy + c) : splat<V>(0);
      g_sum += gradient;
      gx_sum += gradient * deviation;
    }
    lane.store(sum_g + c, g_sum);
    lane.store(sum_gx + c, gx_sum);
  });
}

}  // namespace

extern const PoolingKernels kPoolingKernels;
const PoolingKernels kPoolingKernels = {max_pool_row, max_pool_data_row, norm_max_pool_row, norm_max_pool_sums_row,
                                        norm_max_pool_data_row};

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
