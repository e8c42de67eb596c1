// Kernels over windows: depthwise 3x3 and max-pooling. Compiled once for each instruction set: see simd_vector.h and
// core/CMakeLists.txt.
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

// --- depthwise 3x3 --------------------------------------------------------------------------------------------------

inline int64_t min_of(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t max_of(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// The taps of a window that starts at `start` and lie inside [0, size): begin <= tap < end.
struct TapRange {
  int64_t begin, end;
};
inline TapRange taps_inside(int64_t start, int64_t taps, int64_t size) {
  return {max_of(0, -start), min_of(taps, size - start)};
}

// The outputs whose windows lie wholly inside [0, size): first <= o < last.
inline TapRange interior(int64_t taps, int64_t stride, int64_t pad, int64_t size, int64_t outputs) {
  const int64_t first = max_of(0, (pad + stride - 1) / stride);
  const int64_t room = size - taps + pad;
  const int64_t last = room < 0 ? 0 : room / stride + 1;
  return {min_of(first, outputs), max_of(min_of(last, outputs), min_of(first, outputs))};
}

// One output pixel, any taps missing.
template <class V>
inline V depthwise_pixel(const float* x, int64_t ldx, const RowGeometry& g, int64_t ih0, int64_t iw0, const float* w,
                         TapRange rows, TapRange columns) {
  V sum{};
  for (int64_t r = rows.begin; r < rows.end; ++r)
    for (int64_t s = columns.begin; s < columns.end; ++s)
      sum += load<V>(x + ((ih0 + r) * g.width + iw0 + s) * ldx) * load<V>(w + (r * 3 + s) * g.channels);
  return sum;
}

void depthwise3x3_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, const float* w, const float* bias,
                      bool relu, bool accumulate, float* y, int64_t ldy) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const TapRange rows = taps_inside(ih0, 3, g.height);
  TapRange inner = interior(3, g.stride, g.pad_left, g.width, g.out_width);
  if (rows.begin > 0 || rows.end < 3) inner = {g.out_width, g.out_width};  // the first and last rows: the plain way
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = decltype(lane);
    const V offset = bias ? load<V>(bias + c) : V{};
    const auto finish = [&](V sum, int64_t ow) {
      sum += offset;
      if (relu) sum = relu_of(sum);
      float* out = y + ow * ldy + c;
      if (accumulate) sum += load<V>(out);
      store(out, sum);
    };
    const auto edge = [&](int64_t begin, int64_t end) {
      for (int64_t ow = begin; ow < end; ++ow) {
        const int64_t iw0 = ow * g.stride - g.pad_left;
        finish(depthwise_pixel<V>(x + c, ldx, g, ih0, iw0, w + c, rows, taps_inside(iw0, 3, g.width)), ow);
      }
    };
    edge(0, inner.begin);
    V weight[9];
    for (int64_t t = 0; t < 9; ++t) weight[t] = load<V>(w + t * g.channels + c);
    const int64_t step = g.stride * ldx;
    const float* p0 = x + (ih0 * g.width + inner.begin * g.stride - g.pad_left) * ldx + c;
    const float* p1 = p0 + g.width * ldx;
    const float* p2 = p1 + g.width * ldx;
    for (int64_t ow = inner.begin; ow < inner.end; ++ow, p0 += step, p1 += step, p2 += step) {
      const V top = load<V>(p0) * weight[0] + load<V>(p0 + ldx) * weight[1] + load<V>(p0 + 2 * ldx) * weight[2];
      const V middle = load<V>(p1) * weight[3] + load<V>(p1 + ldx) * weight[4] + load<V>(p1 + 2 * ldx) * weight[5];
      const V bottom = load<V>(p2) * weight[6] + load<V>(p2 + ldx) * weight[7] + load<V>(p2 + 2 * ldx) * weight[8];
      finish(top + middle + bottom, ow);
    }
    edge(inner.end, g.out_width);
  });
}

// The outputs o and taps t with o*stride - pad + t == i.
struct Contribution {
  int64_t output, tap;
};
inline int contributions(int64_t i, int64_t taps, int64_t stride, int64_t pad, int64_t outputs, Contribution* list) {
  int count = 0;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t position = i + pad - tap;
    // The strides that occur are spared the division: there is one of these for every pixel.
    const int64_t output = stride == 1 ? position : stride == 2 ? position >> 1 : position / stride;
    if (position < 0 || output * stride != position || output >= outputs) continue;
    list[count++] = {output, tap};
  }
  return count;
}

void depthwise3x3_data_row(const float* dy, int64_t lddy, const RowGeometry& g, int64_t ih, const float* w,
                           bool accumulate, float* dx, int64_t lddx) {
  Contribution rows[3], columns[3];
  const int row_count = contributions(ih, 3, g.stride, g.pad_top, g.out_height, rows);
  for (int64_t iw = 0; iw < g.width; ++iw) {
    const int column_count = contributions(iw, 3, g.stride, g.pad_left, g.out_width, columns);
    float* out = dx + iw * lddx;
    for_lanes(g.channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      V sum = accumulate ? load<V>(out + c) : V{};
      for (int i = 0; i < row_count; ++i)
        for (int j = 0; j < column_count; ++j)
          sum += load<V>(dy + (rows[i].output * g.out_width + columns[j].output) * lddy + c) *
                 load<V>(w + (rows[i].tap * 3 + columns[j].tap) * g.channels + c);
      store(out + c, sum);
    });
  }
}

void depthwise3x3_weights_row(const float* x, int64_t ldx, const float* dy, int64_t lddy, const RowGeometry& g,
                              int64_t oh, float* dw) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const TapRange rows = taps_inside(ih0, 3, g.height);
  const TapRange inner = interior(3, g.stride, g.pad_left, g.width, g.out_width);
  for_lanes(g.channels, [&](auto lane, int64_t c) {
    using V = decltype(lane);
    const auto edge = [&](int64_t begin, int64_t end) {
      for (int64_t ow = begin; ow < end; ++ow) {
        const int64_t iw0 = ow * g.stride - g.pad_left;
        const TapRange columns = taps_inside(iw0, 3, g.width);
        const V gradient = load<V>(dy + ow * lddy + c);
        for (int64_t r = rows.begin; r < rows.end; ++r) {
          for (int64_t s = columns.begin; s < columns.end; ++s) {
            float* out = dw + (r * 3 + s) * g.channels + c;
            store(out, V(load<V>(out) + gradient * load<V>(x + ((ih0 + r) * g.width + iw0 + s) * ldx + c)));
          }
        }
      }
    };
    edge(0, inner.begin);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      float* out = dw + r * 3 * g.channels + c;
      V sum0 = load<V>(out), sum1 = load<V>(out + g.channels), sum2 = load<V>(out + 2 * g.channels);
      const float* p = x + ((ih0 + r) * g.width + inner.begin * g.stride - g.pad_left) * ldx + c;
      const float* q = dy + inner.begin * lddy + c;
      for (int64_t ow = inner.begin; ow < inner.end; ++ow, p += g.stride * ldx, q += lddy) {
        const V gradient = load<V>(q);
        sum0 += gradient * load<V>(p);
        sum1 += gradient * load<V>(p + ldx);
        sum2 += gradient * load<V>(p + 2 * ldx);
      }
      store(out, sum0);
      store(out + g.channels, sum1);
      store(out + 2 * g.channels, sum2);
    }
    edge(inner.end, g.out_width);
  });
}

// --- max pooling
// ------------------------------------------------------------------------------------------------------

// The winner's tap travels as a float beside the maximum (at most 255, so exact) and is narrowed when stored.
void max_pool_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, float* y, int64_t ldy,
                  uint8_t* winner) {
  const int64_t ih0 = oh * g.stride - g.pad_top;
  const TapRange rows = taps_inside(ih0, g.kernel_h, g.height);
  for (int64_t ow = 0; ow < g.out_width; ++ow) {
    const int64_t iw0 = ow * g.stride - g.pad_left;
    const TapRange columns = taps_inside(iw0, g.kernel_w, g.width);
    const float* origin = x + (ih0 * g.width + iw0) * ldx;
    for_lanes(g.channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      V best = load<V>(origin + (rows.begin * g.width + columns.begin) * ldx + c);
      V tap = splat<V>(static_cast<float>(rows.begin * g.kernel_w + columns.begin));
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        for (int64_t s = columns.begin; s < columns.end; ++s) {
          const V v = load<V>(origin + (r * g.width + s) * ldx + c);
          const V this_tap = splat<V>(static_cast<float>(r * g.kernel_w + s));
          tap = v > best ? this_tap : tap;
          best = v > best ? v : best;
          tap = (v != v) & (best == best) ? this_tap : tap;  // NaN beats every number; the first NaN stays
          best = v != v ? v : best;
        }
      }
      store(y + ow * ldy + c, best);
      float taps[16];
      store(taps, tap);
      constexpr int kLanes = sizeof(V) / sizeof(float);
      for (int i = 0; i < kLanes; ++i) winner[ow * g.channels + c + i] = static_cast<uint8_t>(taps[i]);
    });
  }
}

// Winners as floats, one for each lane of V.
inline void load_winners(const uint8_t* p, float* v) {
  *v = static_cast<float>(*p);
}
template <class Bytes, class V>
inline void load_winner_vector(const uint8_t* p, V* v) {
  Bytes bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  *v = __builtin_convertvector(bytes, V);
}
typedef uint8_t U16 __attribute__((vector_size(16)));
typedef uint8_t U8 __attribute__((vector_size(8)));
typedef uint8_t U4 __attribute__((vector_size(4)));
inline void load_winners(const uint8_t* p, F16* v) {
  load_winner_vector<U16>(p, v);
}
inline void load_winners(const uint8_t* p, F8* v) {
  load_winner_vector<U8>(p, v);
}
inline void load_winners(const uint8_t* p, F4* v) {
  load_winner_vector<U4>(p, v);
}

void max_pool_data_row(const float* dy, int64_t lddy, const uint8_t* winner, const RowGeometry& g, int64_t ih,
                       float* dx, int64_t lddx) {
  Contribution rows[256], columns[256];  // a window holds at most 256 taps
  const int row_count = contributions(ih, g.kernel_h, g.stride, g.pad_top, g.out_height, rows);
  for (int64_t iw = 0; iw < g.width; ++iw) {
    const int column_count = contributions(iw, g.kernel_w, g.stride, g.pad_left, g.out_width, columns);
    for_lanes(g.channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      V sum{};
      for (int i = 0; i < row_count; ++i) {
        for (int j = 0; j < column_count; ++j) {
          const int64_t pixel = rows[i].output * g.out_width + columns[j].output;
          V won;
          load_winners(winner + pixel * g.channels + c, &won);
          const V tap = splat<V>(static_cast<float>(rows[i].tap * g.kernel_w + columns[j].tap));
          sum += won == tap ? load<V>(dy + pixel * lddy + c) : splat<V>(0);
        }
      }
      store(dx + iw * lddx + c, sum);
    });
  }
}

}  // namespace

extern const WindowKernels kWindowKernels;
const WindowKernels kWindowKernels = {depthwise3x3_row, depthwise3x3_data_row, depthwise3x3_weights_row, max_pool_row,
                                      max_pool_data_row};

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
