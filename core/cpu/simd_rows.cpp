// Kernels over rows of channels. Compiled once for each instruction set: see simd_vector.h and core/CMakeLists.txt.
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

void bias_relu(float* y, int64_t ld, int64_t rows, int64_t channels, const float* bias, bool relu) {
  for (int64_t r = 0; r < rows; ++r, y += ld) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      V v = lane.load(y + c);
      if (bias) v = v + lane.load(bias + c);
      lane.store(y + c, relu ? relu_of(v) : v);
    });
  }
}

// prepare(lane, c) loads what channels from c need and returns what is to be done for a row. Few channels keep it in
// registers and run down the rows; many stream row by row, as memory is best read.
template <class Prepare>
inline void for_rows(int64_t rows, int64_t channels, const Prepare& prepare) {
  constexpr int64_t kFewChannels = 32;
  if (channels <= kFewChannels) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      const auto row = prepare(lane, c);
      for (int64_t r = 0; r < rows; ++r) row(r);
    });
  } else {
    for (int64_t r = 0; r < rows; ++r) for_lanes(channels, [&](auto lane, int64_t c) { prepare(lane, c)(r); });
  }
}

void affine(const float* x, int64_t ldx, int64_t rows, int64_t channels, const ChannelAffine& a, bool relu, float* y,
            int64_t ldy) {
  for_rows(rows, channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V mean = lane.load(a.mean + c), scale = lane.load(a.scale + c), shift = lane.load(a.shift + c);
    return [=](int64_t r) {
      const V v = (lane.load(x + r * ldx + c) - mean) * scale + shift;
      lane.store(y + r * ldy + c, relu ? relu_of(v) : v);
    };
  });
}

// Sums over rows keep two accumulators each: shorter dependency chains and smaller rounding errors.
// Two passes over rows that are in the cache: the squares are of deviations from (nearly) the mean, so neither a large
// mean nor an outlier costs digits.
void moments(const float* x, int64_t ld, int64_t rows, int64_t channels, float* centre, float* sum, float* squares) {
  for_lanes(channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V first = lane.load(x + c);
    V sum0{}, sum1{}, squares0{}, squares1{};
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      sum0 += lane.load(x + r * ld + c) - first;
      sum1 += lane.load(x + (r + 1) * ld + c) - first;
    }
    if (r < rows) sum0 += lane.load(x + r * ld + c) - first;
    const V middle = first + (sum0 + sum1) / splat<V>(static_cast<float>(rows));
    sum0 = sum1 = V{};
    for (r = 0; r + 2 <= rows; r += 2) {
      const V d0 = lane.load(x + r * ld + c) - middle, d1 = lane.load(x + (r + 1) * ld + c) - middle;
      sum0 += d0;
      sum1 += d1;
      squares0 += d0 * d0;
      squares1 += d1 * d1;
    }
    if (r < rows) {
      const V d0 = lane.load(x + r * ld + c) - middle;
      sum0 += d0;
      squares0 += d0 * d0;
    }
    lane.store(centre + c, middle);
    lane.store(sum + c, V(sum0 + sum1));
    lane.store(squares + c, V(squares0 + squares1));
  });
}

void column_sums(const float* x, int64_t ld, int64_t rows, int64_t channels, float* sum) {
  for_lanes(channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    V sum0{}, sum1{};
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      sum0 += lane.load(x + r * ld + c);
      sum1 += lane.load(x + (r + 1) * ld + c);
    }
    if (r < rows) sum0 += lane.load(x + r * ld + c);
    lane.store(sum + c, V(sum0 + sum1));
  });
}

void norm_backward_sums(const float* x, int64_t ldx, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                        const ChannelAffine& a, bool relu, float* sum_g, float* sum_gx) {
  for_lanes(channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V mean = lane.load(a.mean + c), scale = lane.load(a.scale + c), shift = lane.load(a.shift + c);
    V g_sum[2] = {V{}, V{}}, gx_sum[2] = {V{}, V{}};
    const auto add_row = [&](int64_t r, int which) {
      const V deviation = lane.load(x + r * ldx + c) - mean;
      V g = lane.load(dy + r * lddy + c);
      if (relu) g = deviation * scale + shift > splat<V>(0) ? g : splat<V>(0);
      g_sum[which] += g;
      gx_sum[which] += g * deviation;
    };
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      add_row(r, 0);
      add_row(r + 1, 1);
    }
    if (r < rows) add_row(r, 0);
    lane.store(sum_g + c, V(g_sum[0] + g_sum[1]));
    lane.store(sum_gx + c, V(gx_sum[0] + gx_sum[1]));
  });
}

void norm_backward_apply(const float* x, int64_t ldx, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                         const ChannelAffine& a, bool relu, const float* from_x, const float* offset, float* dx,
                         int64_t lddx) {
  for_rows(rows, channels, [&](auto lane, int64_t c) {
    using V = typename decltype(lane)::Vector;
    const V mean = lane.load(a.mean + c), scale = lane.load(a.scale + c), shift = lane.load(a.shift + c);
    const V factor = lane.load(from_x + c), constant = lane.load(offset + c);
    return [=](int64_t r) {
      const V centred = lane.load(x + r * ldx + c) - mean;
      V g = lane.load(dy + r * lddy + c);
      if (relu) g = centred * scale + shift > splat<V>(0) ? g : splat<V>(0);
      lane.store(dx + r * lddx + c, V(scale * g + factor * centred + constant));
    };
  });
}

void relu_backward(const float* y, int64_t ldy, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                   float* dx, int64_t lddx) {
  for (int64_t r = 0; r < rows; ++r, y += ldy, dy += lddy, dx += lddx) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      lane.store(dx + c, lane.load(y + c) > splat<V>(0) ? lane.load(dy + c) : splat<V>(0));
    });
  }
}

void add(const float* x, int64_t ldx, int64_t rows, int64_t channels, float* y, int64_t ldy) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      lane.store(y + c, V(lane.load(y + c) + lane.load(x + c)));
    });
  }
}

void add_centred(const float* x, int64_t ldx, int64_t rows, int64_t channels, const float* mean, const float* from_x,
                 const float* dx, int64_t lddx, float* y, int64_t ldy) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, dx += lddx, y += ldy) {
    for_lanes(channels, [&](auto lane, int64_t c) {
      using V = typename decltype(lane)::Vector;
      lane.store(y + c, V(lane.load(dx + c) + lane.load(from_x + c) * (lane.load(x + c) - lane.load(mean + c))));
    });
  }
}

void interleave(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, int64_t half, float* y,
                int64_t ldy) {
  for (int64_t r = 0; r < rows; ++r, a += lda, b += ldb, y += ldy) {
    int64_t i = 0;
    for (; i + 16 <= half; i += 16) {
      const F16 va = WholeLane<F16, U16>::load(a + i), vb = WholeLane<F16, U16>::load(b + i);
      WholeLane<F16, U16>::store(
          y + 2 * i, F16(__builtin_shufflevector(va, vb, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)));
      WholeLane<F16, U16>::store(y + 2 * i + 16, F16(__builtin_shufflevector(va, vb, 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                                             28, 13, 29, 14, 30, 15, 31)));
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
      const F16 low = WholeLane<F16, U16>::load(x + 2 * i), high = WholeLane<F16, U16>::load(x + 2 * i + 16);
      WholeLane<F16, U16>::store(
          a + i, F16(__builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)));
      WholeLane<F16, U16>::store(
          b + i, F16(__builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)));
    }
    for (; i < half; ++i) {
      a[i] = x[2 * i];
      b[i] = x[2 * i + 1];
    }
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

extern const RowKernels kRowKernels;
const RowKernels kRowKernels = {bias_relu,           affine,        moments, column_sums, norm_backward_sums,
                                norm_backward_apply, relu_backward, add,     add_centred, interleave,
                                deinterleave,        sgd,           ema};

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
