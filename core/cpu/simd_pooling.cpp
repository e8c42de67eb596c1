// Max-pooling kernels, alone and fused with the batch norm and ReLU before it. Compiled once for each instruction set: see
// simd_vector.h and core/CMakeLists.txt.
#include "core/cpu/simd_geometry.h"
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

// Whether v takes best's place: the first of equal values stays; NaN beats every number, and the first NaN stays.
template <class V>
inline auto exceeds(V v, V best) {
  return ~(v <= best) & (best == best);
}
inline bool exceeds(float v, float best) {
  return !(v <= best) && best == best;
}

#ifdef __AVX512BW__
// Pools the nine pixels of a 3x3 window that lies wholly inside; false where one of them is NaN (or the sum of all is),
// with nothing done. The maximum first, then its first place: short chains of dependent instructions.
template <class Value>
inline bool pool_nine(const float* window, int64_t ldx, int64_t width, const Value& value, F16& best, F16& tap) {
  F16 v[9];
  for (int t = 0; t < 9; ++t) v[t] = value(window + (t / 3 * width + t % 3) * ldx);
  const auto sum = reinterpret_cast<__m512>(((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])) + v[8]);
  if (_mm512_cmp_ps_mask(sum, sum, _CMP_UNORD_Q) != 0) return false;
  const auto larger = [](F16 a, F16 b) { return a > b ? a : b; };
  best = larger(larger(larger(v[0], v[1]), larger(v[2], v[3])), larger(larger(v[4], v[5]), larger(v[6], v[7])));
  best = larger(best, v[8]);
  __m512 place = _mm512_set1_ps(8);
  for (int t = 7; t >= 0; --t) {
    const __mmask16 equal =
        _mm512_cmp_ps_mask(reinterpret_cast<__m512>(v[t]), reinterpret_cast<__m512>(best), _CMP_EQ_OQ);
    place = _mm512_mask_mov_ps(place, equal, _mm512_set1_ps(static_cast<float>(t)));
  }
  tap = reinterpret_cast<F16>(place);
  return true;
}
#else
template <class Value, class V>
inline bool pool_nine(const float*, int64_t, int64_t, const Value&, V&, V&) {
  return false;
}
#endif

// prepare(lane, c) loads what channels from c need and returns value(pixel), which is pooled. The winner's tap travels as
// a float beside the maximum (at most 255, so exact).
template <class Prepare>
inline void pool_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, float* y, int64_t ldy,
                     uint8_t* winner, const Prepare& prepare) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const IndexRange rows = taps_inside(ih0, g.kernel_h, g.height);
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const auto value = prepare(lane, c);
    for (int64_t ow = 0; ow < g.out_width; ++ow) {
      const int64_t iw0 = ow * g.stride - g.pad_left;
      const IndexRange columns = taps_inside(iw0, g.kernel_w, g.width);
      const float* window = x + (ih0 * g.width + iw0) * ldx;  // of tap (0, 0), which may lie outside
      V best{}, tap{};
      const bool nine =
          g.kernel_h == 3 && g.kernel_w == 3 && rows.end - rows.begin == 3 && columns.end - columns.begin == 3;
      if (!nine || !pool_nine(window, ldx, g.width, value, best, tap)) {
        best = value(window + (rows.begin * g.width + columns.begin) * ldx);
        tap = splat<V>(static_cast<float>(rows.begin * g.kernel_w + columns.begin));
        for (int64_t r = rows.begin; r < rows.end; ++r) {
          for (int64_t s = columns.begin; s < columns.end; ++s) {
            const V v = value(window + (r * g.width + s) * ldx);
            const auto wins = exceeds(v, best);
            tap = wins ? splat<V>(static_cast<float>(r * g.kernel_w + s)) : tap;
            best = wins ? v : best;
          }
        }
      }
      lane.store(y + ow * ldy + c, best);
      lane.store_bytes(winner + ow * g.channels + c, tap);
    }
  });
}

void max_pool_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, float* y, int64_t ldy,
                  uint8_t* winner) {
  pool_row(x, ldx, g, oh, y, ldy, winner,
           [](auto lane, int64_t c) { return [=](const float* pixel) { return lane.load(pixel + c); }; });
}

void norm_max_pool_row(const float* x, int64_t ldx, const ChannelAffine& a, const RowGeometry& g, int64_t oh, float* y,
                       int64_t ldy, uint8_t* winner) {
  pool_row(x, ldx, g, oh, y, ldy, winner, [&a](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V mean = lane.load(a.mean + c), scale = lane.load(a.scale + c), shift = lane.load(a.shift + c);
    return [=](const float* pixel) { return relu_of((lane.load(pixel + c) - mean) * scale + shift); };
  });
}

// For the pixels of input row `ih`: finish(iw, sum of dy over the windows the pixel won), where finish =
// prepare(lane, c) has loaded what channels from c need.
template <class Prepare>
inline void for_each_won(const float* dy, int64_t lddy, const uint8_t* winner, const RowGeometry& g, int64_t ih,
                         const Prepare& prepare) {
  Contribution rows[256];  // a window holds at most 256 taps
  const int row_count = contributions(ih, g.kernel_h, g.stride, g.pad_top, g.out_height, rows);
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const auto finish = prepare(lane, c);
    const auto add_won = [&](int64_t output, int64_t column_tap, V sum) {
      for (int i = 0; i < row_count; ++i) {
        const int64_t pixel = rows[i].output * g.out_width + output;
        const auto tap = static_cast<uint8_t>(rows[i].tap * g.kernel_w + column_tap);
        sum += lane.load_where(lane.bytes(winner + pixel * g.channels + c), tap, dy + pixel * lddy + c, V{});
      }
      return sum;
    };
    const auto columns = [&](int64_t begin, int64_t end) {
      Contribution list[256];
      for (int64_t iw = begin; iw < end; ++iw) {
        const int count = contributions(iw, g.kernel_w, g.stride, g.pad_left, g.out_width, list);
        V sum{};
        for (int j = 0; j < count; ++j) sum = add_won(list[j].output, list[j].tap, sum);
        finish(iw, sum);
      }
    };
    if (g.kernel_w != 3 || g.stride != 2) return columns(0, g.width);
    // Pairs of pixels: the middle of window `output`, and what it shares with the next.
    const auto middle = [&](int64_t output) { return 2 * output - g.pad_left + 1; };
    int64_t output = 0, done = 0;
    while (output < g.out_width && middle(output) < 0) ++output;
    if (output + 1 < g.out_width && middle(output) + 1 < g.width) {
      columns(0, middle(output));
      for (; output + 1 < g.out_width && middle(output) + 1 < g.width; ++output) {
        finish(middle(output), add_won(output, 1, V{}));
        finish(middle(output) + 1, add_won(output + 1, 0, add_won(output, 2, V{})));
      }
      done = middle(output);
    }
    columns(done, g.width);
  });
}

void max_pool_data_row(const float* dy, int64_t lddy, const uint8_t* winner, const RowGeometry& g, int64_t ih,
                       float* dx, int64_t lddx) {
  for_each_won(dy, lddy, winner, g, ih, [&](auto lane, int64_t c) {
    return [=](int64_t iw, auto gradient) { lane.store(dx + iw * lddx + c, gradient); };
  });
}

void norm_max_pool_data_row(const float* x, int64_t ldx, const float* dy, int64_t lddy, const uint8_t* winner,
                            const ChannelAffine& a, const float* from_x, const float* offset, const RowGeometry& g,
                            int64_t ih, float* dx, int64_t lddx) {
  for_each_won(dy, lddy, winner, g, ih, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V mean = lane.load(a.mean + c), scale = lane.load(a.scale + c), shift = lane.load(a.shift + c);
    const V factor = lane.load(from_x + c), constant = lane.load(offset + c);
    return [=](int64_t iw, V gradient) {
      const V deviation = lane.load(x + iw * ldx + c) - mean;
      const V active = deviation * scale + shift > splat<V>(0) ? gradient : splat<V>(0);
      lane.store(dx + iw * lddx + c, V(scale * active + factor * deviation + constant));
    };
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
      const float* window = x + (ih0 * g.width + iw0) * ldx + c;
      const auto won = lane.bytes(winner + ow * g.channels + c);
      V value{};
      const auto meet = [&](int64_t r, int64_t s) {
        value = lane.load_where(won, static_cast<uint8_t>(r * g.kernel_w + s), window + (r * g.width + s) * ldx, value);
      };
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        if (columns.end - columns.begin == 3) {
          for (int64_t s = 0; s < 3; ++s) meet(r, columns.begin + s);
        } else {
          for (int64_t s = columns.begin; s < columns.end; ++s) meet(r, s);
        }
      }
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
