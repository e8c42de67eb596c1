// Compiled once for each instruction set (core/CMakeLists.txt), into a namespace of its own. Everything here is static
// and uses no library templates: an inline function shared with other files could otherwise be linked in the version of
// an instruction set that the processor lacks. Vectors are GCC's, so one source serves all.
#include "core/cpu/simd_kernels.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

typedef float F16 __attribute__((vector_size(64)));
typedef float F8 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));

// Unaligned, since channel slices start anywhere; the copies compile to single moves.
template <class V>
inline V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
inline void store(float* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class V>
inline V splat(float value) {
  return V{} + value;
}
template <class V>
inline V relu_of(V v) {
  return v > splat<V>(0) ? v : splat<V>(0);
}

// Calls body.template operator()<V>(c) over all channels: 16 at a time, then at most one 8 and one 4, then singles.
template <class Body>
inline void for_lanes(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) body(F16{}, c);
  if (c + 8 <= channels) {
    body(F8{}, c);
    c += 8;
  }
  if (c + 4 <= channels) {
    body(F4{}, c);
    c += 4;
  }
  for (; c < channels; ++c) body(float{}, c);
}

// --- rows ---------------------------------------------------------------------------------------------------------

void bias_relu(float* y, int64_t ld, int64_t rows, int64_t channels, const float* bias, bool relu) {
  for (int64_t r = 0; r < rows; ++r, y += ld) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      V v = load<V>(y + c);
      if (bias) v = v + load<V>(bias + c);
      store(y + c, relu ? relu_of(v) : v);
    });
  }
}

template <class V>
inline V affine_of(V x, const ChannelAffine& a, int64_t c) {
  return (x - load<V>(a.mean + c)) * load<V>(a.scale + c) + load<V>(a.shift + c);
}

void affine(const float* x, int64_t ldx, int64_t rows, int64_t channels, const ChannelAffine& a, bool relu, float* y,
            int64_t ldy) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      const V v = affine_of(load<V>(x + c), a, c);
      store(y + c, relu ? relu_of(v) : v);
    });
  }
}

// Sums over rows keep two accumulators each: shorter dependency chains and smaller rounding errors.
void shifted_moments(const float* x, int64_t ld, int64_t rows, int64_t channels, float* sum, float* squares) {
  for_lanes(channels, [&](auto lane, int64_t c) {
    using V = decltype(lane);
    const V first = load<V>(x + c);
    V sum0{}, sum1{}, squares0{}, squares1{};
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      const V d0 = load<V>(x + r * ld + c) - first, d1 = load<V>(x + (r + 1) * ld + c) - first;
      sum0 += d0;
      sum1 += d1;
      squares0 += d0 * d0;
      squares1 += d1 * d1;
    }
    if (r < rows) {
      const V d0 = load<V>(x + r * ld + c) - first;
      sum0 += d0;
      squares0 += d0 * d0;
    }
    store(sum + c, V(sum0 + sum1));
    store(squares + c, V(squares0 + squares1));
  });
}

void column_sums(const float* x, int64_t ld, int64_t rows, int64_t channels, float* sum) {
  for_lanes(channels, [&](auto lane, int64_t c) {
    using V = decltype(lane);
    V sum0{}, sum1{};
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      sum0 += load<V>(x + r * ld + c);
      sum1 += load<V>(x + (r + 1) * ld + c);
    }
    if (r < rows) sum0 += load<V>(x + r * ld + c);
    store(sum + c, V(sum0 + sum1));
  });
}

void norm_backward_sums(const float* x, int64_t ldx, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                        const ChannelAffine& a, bool relu, float* sum_g, float* sum_gx) {
  for_lanes(channels, [&](auto lane, int64_t c) {
    using V = decltype(lane);
    const V mean = load<V>(a.mean + c), scale = load<V>(a.scale + c), shift = load<V>(a.shift + c);
    V g_sum{}, gx_sum{};
    for (int64_t r = 0; r < rows; ++r) {
      const V centred = load<V>(x + r * ldx + c) - mean;
      V g = load<V>(dy + r * lddy + c);
      if (relu) g = centred * scale + shift > splat<V>(0) ? g : splat<V>(0);
      g_sum += g;
      gx_sum += g * centred;
    }
    store(sum_g + c, g_sum);
    store(sum_gx + c, gx_sum);
  });
}

void norm_backward_apply(const float* x, int64_t ldx, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                         const ChannelAffine& a, bool relu, const float* from_x, const float* offset, float* dx,
                         int64_t lddx) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, dy += lddy, dx += lddx) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      const V scale = load<V>(a.scale + c);
      const V centred = load<V>(x + c) - load<V>(a.mean + c);
      V g = load<V>(dy + c);
      if (relu) g = centred * scale + load<V>(a.shift + c) > splat<V>(0) ? g : splat<V>(0);
      store(dx + c, V(scale * g + load<V>(from_x + c) * centred + load<V>(offset + c)));
    });
  }
}

void relu_backward(const float* y, int64_t ldy, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                   float* dx, int64_t lddx) {
  for (int64_t r = 0; r < rows; ++r, y += ldy, dy += lddy, dx += lddx) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      store(dx + c, load<V>(y + c) > splat<V>(0) ? load<V>(dy + c) : splat<V>(0));
    });
  }
}

void add(const float* x, int64_t ldx, int64_t rows, int64_t channels, float* y, int64_t ldy) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = decltype(lane);
      store(y + c, V(load<V>(y + c) + load<V>(x + c)));
    });
  }
}

void interleave(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, int64_t half, float* y,
                int64_t ldy) {
  for (int64_t r = 0; r < rows; ++r, a += lda, b += ldb, y += ldy) {
    int64_t i = 0;
    for (; i + 16 <= half; i += 16) {
      const F16 va = load<F16>(a + i), vb = load<F16>(b + i);
      store(y + 2 * i, F16(__builtin_shufflevector(va, vb, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)));
      store(y + 2 * i + 16,
            F16(__builtin_shufflevector(va, vb, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)));
    }
    for (; i < half; ++i) {
      y[2 * i] = a[i];
      y[2 * i + 1] = b[i];
    }
  }
}

void deinterleave(const float* x, int64_t ldx, int64_t rows, int64_t half, float* a, int64_t lda, float* b,
                  int64_t ldb) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, a += lda, b += ldb) {
    int64_t i = 0;
    for (; i + 16 <= half; i += 16) {
      const F16 low = load<F16>(x + 2 * i), high = load<F16>(x + 2 * i + 16);
      store(a + i, F16(__builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)));
      store(b + i, F16(__builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)));
    }
    for (; i < half; ++i) {
      a[i] = x[2 * i];
      b[i] = x[2 * i + 1];
    }
  }
}

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

// --- optimiser
// ----------------------------------------------------------------------------------------------------------

void sgd(float* __restrict w, const float* __restrict grad, float* __restrict velocity, int64_t count, float lr,
         float momentum, float decay, float grad_scale, bool nesterov) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = grad[i] * grad_scale + decay * w[i];
    const float v = momentum * velocity[i] + g;
    velocity[i] = v;
    w[i] -= lr * (nesterov ? g + momentum * v : v);
  }
}

void ema(float* __restrict average, const float* __restrict value, int64_t count, float decay) {
  for (int64_t i = 0; i < count; ++i) average[i] = decay * average[i] + (1.0f - decay) * value[i];
}

}  // namespace

extern const SimdKernels kTable;
const SimdKernels kTable = {
    bias_relu,
    affine,
    shifted_moments,
    column_sums,
    norm_backward_sums,
    norm_backward_apply,
    relu_backward,
    add,
    interleave,
    deinterleave,
    depthwise3x3_row,
    depthwise3x3_data_row,
    depthwise3x3_weights_row,
    max_pool_row,
    max_pool_data_row,
    sgd,
    ema,
};

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
