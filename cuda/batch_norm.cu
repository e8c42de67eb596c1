// Batch normalisation: the affine map, in one pass over memory, and its gradients, in two: sums, then dx.
#include "cuda/batch_norm.h"

#include "core/contracts.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

constexpr int kSumsBlockRows = 8;  // a usual depth of blocks; only the size of the parts depends on it

// One read and one write of every element. x and y may be the same: a thread loads before it stores, and only its own.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads)
    apply_kernel(PixelRows<const T> x, int64_t rows, int channels, NormVectors norm, int period, bool relu,
                 PixelRows<T> y) {
  const int channel = first_channel<W>();
  if (channel >= channels) return;
  const ChannelNorms<W> norms = channel_norms<W>(norm, channel, period);
  const int64_t rows_each = divide_up(rows, gridDim.x);
  for_rows_of_part(rows, rows_each, [&](int64_t row, auto count) {
    constexpr int kCount = decltype(count)::value;
    Pack<T, W> packs[kCount];
    GPU_UNROLL
    for (int r = 0; r < kCount; ++r) packs[r] = load_pack<W>(x.at(row + r * int64_t{blockDim.y}, channel));
    GPU_UNROLL
    for (int r = 0; r < kCount; ++r) {
      float values[W];
      widen(packs[r], values);
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const float value = norms.normalised(i, norms.deviation(i, values[i]));
        values[i] = relu && value < 0 ? 0.0f : value;  // keeps NaN
      }
      store_rounded<T, W>(values, y.at(row + r * int64_t{blockDim.y}, channel));
    }
  });
}

// Sums of g = masked dy and of g*(x - mean) over a part's rows, (parts, pitch). Reads x and dy once.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads)
    backward_sums_kernel(PixelRows<const T> x, PixelRows<const T> dy, int64_t rows, int channels, int64_t rows_each,
                         NormVectors norm, int period, bool relu, float* __restrict__ sum_g, float* __restrict__ sum_gx,
                         int64_t pitch) {
  const int channel = first_channel<W>();
  float sums[2 * W] = {};
  if (channel < channels) {
    const ChannelNorms<W> norms = channel_norms<W>(norm, channel, period);
    for_rows_of_part(rows, rows_each, [&](int64_t row, auto count) {
      constexpr int kCount = decltype(count)::value;
      Pack<T, W> xs[kCount], gradients[kCount];
      GPU_UNROLL
      for (int r = 0; r < kCount; ++r) {
        xs[r] = load_pack<W>(x.at(row + r * int64_t{blockDim.y}, channel));
        gradients[r] = load_pack<W>(dy.at(row + r * int64_t{blockDim.y}, channel));
      }
      GPU_UNROLL
      for (int r = 0; r < kCount; ++r) {
        GPU_UNROLL
        for (int i = 0; i < W; ++i) {
          const float deviation = norms.deviation(i, to_float(xs[r].element[i]));
          const bool passes = !relu || norms.normalised(i, deviation) > 0;
          const float g = passes ? to_float(gradients[r].element[i]) : 0.0f;
          sums[i] += g;
          sums[W + i] = fmaf(g, deviation, sums[W + i]);
        }
      }
    });
  }
  sum_over_rows(sums);
  if (threadIdx.y > 0 || channel >= channels) return;
  GPU_UNROLL
  for (int i = 0; i < W; ++i) {
    sum_g[blockIdx.x * pitch + channel + i] = sums[i];
    sum_gx[blockIdx.x * pitch + channel + i] = sums[W + i];
  }
}

// dx = scale*g + from_x*(x - mean) + offset; scale*g alone where the gradient's vectors are absent. Reads x and dy
// once, writes dx, which may be dy.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads)
    backward_apply_kernel(PixelRows<const T> x, PixelRows<const T> dy, int64_t rows, int channels, NormVectors norm,
                          int period, bool relu, NormGradientVectors gradient, PixelRows<T> dx) {
  const int channel = first_channel<W>();
  if (channel >= channels) return;
  const ChannelNorms<W> norms = channel_norms<W>(norm, channel, period);
  float from_x[W] = {}, offset[W] = {};
  const bool from_statistics = gradient.from_x != nullptr;
  if (from_statistics) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      from_x[i] = gradient.from_x[(channel + i) % period];
      offset[i] = gradient.offset[(channel + i) % period];
    }
  }
  const int64_t rows_each = divide_up(rows, gridDim.x);
  for_rows_of_part(rows, rows_each, [&](int64_t row, auto count) {
    constexpr int kCount = decltype(count)::value;
    Pack<T, W> xs[kCount], gradients[kCount];
    GPU_UNROLL
    for (int r = 0; r < kCount; ++r) {
      xs[r] = load_pack<W>(x.at(row + r * int64_t{blockDim.y}, channel));
      gradients[r] = load_pack<W>(dy.at(row + r * int64_t{blockDim.y}, channel));
    }
    GPU_UNROLL
    for (int r = 0; r < kCount; ++r) {
      float values[W];
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const float deviation = norms.deviation(i, to_float(xs[r].element[i]));
        const bool passes = !relu || norms.normalised(i, deviation) > 0;
        const float g = passes ? to_float(gradients[r].element[i]) : 0.0f;
        const float rest = from_statistics ? fmaf(from_x[i], deviation, offset[i]) : 0.0f;
        values[i] = fmaf(norms.scale[i], g, rest);
      }
      store_rounded<T, W>(values, dx.at(row + r * int64_t{blockDim.y}, channel));
    }
  });
}

// Sums of g and of g*(x - mean), (parts, C) each, added up in order: dgamma, dbeta and, where wanted, what dx needs.
__global__ void __launch_bounds__(kMergeLanes* kMergeRows)
    norm_gradient_kernel(const float* sum_g, const float* sum_gx, int64_t parts, int64_t channels, NormVectors norm,
                         int64_t pixels, bool accumulate, float* dgamma, float* dbeta, NormGradientVectors gradient) {
  const int64_t c = blockIdx.x * int64_t{kMergeLanes} + threadIdx.x;
  double g = 0, gx = 0;
  for (int64_t i = threadIdx.y; c < channels && i < parts; i += kMergeRows) {
    g += sum_g[i * channels + c];
    gx += sum_gx[i * channels + c];
  }
  g = merged_over_rows(g);
  gx = merged_over_rows(gx);
  if (threadIdx.y > 0 || c >= channels) return;
  const float inv_std = inv_std_of(norm, c);
  const float beta_gradient = static_cast<float>(g), gamma_gradient = static_cast<float>(gx * inv_std);
  if (gradient.from_x != nullptr) {
    const float each = norm.gamma[c] * inv_std / static_cast<float>(pixels);
    gradient.from_x[c] = -each * inv_std * gamma_gradient;
    gradient.offset[c] = -each * beta_gradient;
  }
  dbeta[c] = accumulate ? dbeta[c] + beta_gradient : beta_gradient;
  dgamma[c] = accumulate ? dgamma[c] + gamma_gradient : gamma_gradient;
}

NormGradientVectors from_channel(const NormGradientVectors& v, int64_t begin) {
  return v.from_x == nullptr ? v : NormGradientVectors{v.from_x + begin, v.offset + begin};
}

// The channels of x whose gradient has memory of its own, as one part of dy.
struct NormPart {
  int64_t begin;
  Tensor x, dy, dx;
  ChannelLayout layout;
};

// dx: null where it is not touched.
std::vector<NormPart> norm_parts(const Tensor& x, const ChannelParts& dy, const Tensor* dx) {
  std::vector<NormPart> parts;
  int64_t begin = 0;
  for (const Tensor& part : dy.parts()) {
    const Tensor from = x.channel_slice(begin, part.channels());
    const Tensor to = dx ? dx->channel_slice(begin, part.channels()) : from;
    parts.push_back({begin, from, part, to, layout_of({&from, &part, &to})});
    begin += part.channels();
  }
  return parts;
}

void check_norm_backward(const Tensor& x, const ChannelParts& dy, const BatchNormState& norm, const Tensor& dx,
                         const Tensor& dgamma, const Tensor& dbeta, const char* operation) {
  check_parts(dy, x.shape(), operation);
  check_same_shape(x, dx, operation);
  check_vectors({&norm.mean, &norm.var, &norm.gamma, &norm.beta, &dgamma, &dbeta}, x.channels(), operation);
}

}  // namespace

void CudaBackend::batch_norm_apply(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                   const Tensor& beta, double eps, bool relu, const ChannelParts& y) {
  check_parts(y, x.shape(), "batch_norm_apply");
  check_vectors({&mean, &var, &gamma, &beta}, x.channels(), "batch_norm_apply");
  const NormVectors norm = norm_vectors({mean, var, gamma, beta, eps, relu});
  int64_t begin = 0;
  for (const Tensor& part : y.parts()) {
    const Tensor from = x.channel_slice(begin, part.channels());
    const ChannelLayout layout = layout_of({&from, &part});
    dispatch_pack(x.dtype(), layout.width, [&](auto element, auto width) {
      using T = decltype(element);
      launch("batch_norm_apply", apply_kernel<T, decltype(width)::value>,
             layout.grid(elementwise_blocks(layout, properties_.multiprocessors)), layout.block, 0,
             folded_rows<const T>(from, layout.fold), layout.rows, layout.channels, from_channel(norm, begin),
             part.channels(), relu, folded_rows<T>(part, layout.fold));
    });
    begin += part.channels();
  }
}

void CudaBackend::finish_norm_sums(const Tensor& sums, const BatchNormState& norm, int64_t pixels, Write write_params,
                                   const Tensor& dgamma, const Tensor& dbeta, const Tensor& gradient) {
  const int64_t channels = dgamma.channels(), parts = sums.elements() / (2 * channels);
  launch("batch_norm_backward, merging", norm_gradient_kernel, merge_grid(channels), dim3(kMergeLanes, kMergeRows), 0,
         sums.data<float>(), sums.data<float>() + parts * channels, parts, channels, norm_vectors(norm), pixels,
         write_params == Write::kAccumulate, dgamma.data<float>(), dbeta.data<float>(), gradient_vectors(gradient));
}

Tensor CudaBackend::norm_gradient_sums(const Tensor& x, const ChannelParts& dy, const BatchNormState& norm) {
  const NormVectors vectors = norm_vectors(norm);
  const std::vector<NormPart> parts = norm_parts(x, dy, /*dx=*/nullptr);
  // Every part of the channels splits the pixels alike, so that the sums make one matrix.
  const int64_t fold = parts.front().layout.fold;
  const RowParts rows = row_parts(x.pixels() / fold, kSumsBlockRows);
  const int64_t pitch = fold * x.channels();
  const Tensor sums = scratch(2 * rows.count * pitch);
  for (const NormPart& part : parts) {
    float* sum_g = sums.data<float>() + part.begin;
    dispatch_pack(x.dtype(), part.layout.width, [&](auto element, auto width) {
      using T = decltype(element);
      launch("batch_norm_backward, sums", backward_sums_kernel<T, decltype(width)::value>, part.layout.grid(rows.count),
             part.layout.block, 0, folded_rows<const T>(part.x, fold), folded_rows<const T>(part.dy, fold),
             part.layout.rows, part.layout.channels, rows.rows_each, from_channel(vectors, part.begin),
             part.x.channels(), norm.relu, sum_g, sum_g + rows.count * pitch, pitch);
    });
  }
  return sums;
}

void CudaBackend::norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& known_sums,
                                const BatchNormState& norm, bool statistics_depend_on_x, Write write_params,
                                const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  const NormVectors vectors = norm_vectors(norm);
  const std::vector<NormPart> parts = norm_parts(x, dy, &dx);
  const int64_t fold = parts.front().layout.fold;
  const Tensor sums = known_sums.defined() ? known_sums : norm_gradient_sums(x, dy, norm);
  const Tensor gradient = statistics_depend_on_x ? scratch(2 * x.channels()) : Tensor{};
  finish_norm_sums(sums, norm, x.pixels(), write_params, dgamma, dbeta, gradient);
  for (const NormPart& part : parts) {
    dispatch_pack(x.dtype(), part.layout.width, [&](auto element, auto width) {
      using T = decltype(element);
      launch("batch_norm_backward", backward_apply_kernel<T, decltype(width)::value>,
             part.layout.grid(elementwise_blocks(part.layout, properties_.multiprocessors)), part.layout.block, 0,
             folded_rows<const T>(part.x, fold), folded_rows<const T>(part.dy, fold), part.layout.rows,
             part.layout.channels, from_channel(vectors, part.begin), part.x.channels(), norm.relu,
             from_channel(gradient_vectors(gradient), part.begin), folded_rows<T>(part.dx, fold));
    });
  }
}

void CudaBackend::batch_norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& mean, const Tensor& var,
                                      const Tensor& gamma, const Tensor& beta, double eps, bool relu,
                                      Write write_params, const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  check_norm_backward(x, dy, {mean, var, gamma, beta, eps, relu}, dx, dgamma, dbeta, "batch_norm_backward");
  norm_backward(x, dy, /*known_sums=*/{}, {mean, var, gamma, beta, eps, relu}, /*statistics_depend_on_x=*/true,
                write_params, dx, dgamma, dbeta);
}

void CudaBackend::batch_norm_backward_frozen(const Tensor& x, const ChannelParts& dy, const Tensor& mean,
                                             const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                             bool relu, Write write_params, const Tensor& dx, const Tensor& dgamma,
                                             const Tensor& dbeta) {
  check_norm_backward(x, dy, {mean, var, gamma, beta, eps, relu}, dx, dgamma, dbeta, "batch_norm_backward_frozen");
  norm_backward(x, dy, /*known_sums=*/{}, {mean, var, gamma, beta, eps, relu}, /*statistics_depend_on_x=*/false,
                write_params, dx, dgamma, dbeta);
}

}  // namespace riffle
