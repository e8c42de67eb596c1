// Batch norm, ReLU and max-pooling of the stem's tensors, the network's largest, in one pass forward and two backward:
// what lies between them is computed again where it is needed and never written.
#include "core/contracts.h"
#include "cuda/batch_norm.h"
#include "cuda/cuda_backend.h"
#include "cuda/index_division.h"

namespace riffle {
namespace {

constexpr int kBlocksPerMultiprocessor = 16;

struct PoolShape {
  int height, width, out_height, out_width;
  int kernel_h, kernel_w, stride, pad_top, pad_left;
  int channels;
  PixelIndex inputs, outputs;
  IndexDivisor by_kernel_w, by_stride;
};

// Whether v takes best's place: the first of equal values stays; NaN beats every number, and the first NaN stays.
__device__ inline bool exceeds(float v, float best) {
  return !(v <= best) && best == best;
}

// y = max over the window of relu(norm(x)), winner its tap. An input is read from DRAM once, through the caches
// kernel/stride times both ways; y and winner are written once.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads)
    norm_pool_kernel(PixelRows<const T> x, NormVectors norm, PoolShape s, int outputs, PixelRows<T> y,
                     PixelRows<uint8_t> winner) {
  const int channel = first_channel<W>();
  if (channel >= s.channels) return;
  const ChannelNorms<W> norms = channel_norms<W>(norm, channel, s.channels);
  const int step = static_cast<int>(gridDim.x * blockDim.y);
  for (int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y); index < outputs; index += step) {
    const PixelPosition out = s.outputs(index);
    const int top = out.row * s.stride - s.pad_top, left = out.column * s.stride - s.pad_left;
    float best[W];
    int taps[W] = {};
    GPU_UNROLL
    for (int i = 0; i < W; ++i) best[i] = -INFINITY;  // below all values, which are 0 at least, or NaN
    for (int r = top < 0 ? -top : 0; r < s.kernel_h && top + r < s.height; ++r) {
      for (int c = left < 0 ? -left : 0; c < s.kernel_w && left + c < s.width; ++c) {
        const int pixel = (out.image * s.height + top + r) * s.width + left + c;
        float values[W];
        widen(load_pack<W>(x.at(pixel, channel)), values);
        GPU_UNROLL
        for (int i = 0; i < W; ++i) {
          const float normalised = norms.normalised(i, norms.deviation(i, values[i]));
          const float value = normalised < 0 ? 0.0f : normalised;
          const bool wins = exceeds(value, best[i]);
          best[i] = wins ? value : best[i];
          taps[i] = wins ? r * s.kernel_w + c : taps[i];
        }
      }
    }
    store_rounded<T, W>(best, y.at(index, channel));
    Pack<uint8_t, W> won;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) won.element[i] = static_cast<uint8_t>(taps[i]);
    store_pack<W>(won, winner.at(index, channel));
  }
}

// Sums of g = dy where the winner passed the ReLU, and of g*(x - mean), over each block's outputs: (blocks, C) each.
// Reads dy and winner once, and of x the winners.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads, 2)
    norm_pool_sums_kernel(PixelRows<const T> x, PixelRows<const T> dy, PixelRows<const uint8_t> winner,
                          NormVectors norm, PoolShape s, int outputs, float* __restrict__ sum_g,
                          float* __restrict__ sum_gx) {
  const int channel = first_channel<W>();
  float sums[2 * W] = {};
  if (channel < s.channels) {
    const ChannelNorms<W> norms = channel_norms<W>(norm, channel, s.channels);
    const int step = static_cast<int>(gridDim.x * blockDim.y);
    for (int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y); index < outputs; index += step) {
      const PixelPosition out = s.outputs(index);
      const Pack<uint8_t, W> won = load_pack<W>(winner.at(index, channel));
      float gradients[W];
      widen(load_pack<W>(dy.at(index, channel)), gradients);
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const int tap = won.element[i], tap_row = s.by_kernel_w.quotient(tap);
        const int row = out.row * s.stride - s.pad_top + tap_row;
        const int column = out.column * s.stride - s.pad_left + s.by_kernel_w.remainder(tap, tap_row);
        const float value = to_float(*x.at((out.image * s.height + row) * s.width + column, channel + i));
        const float deviation = norms.deviation(i, value);
        const float g = norms.normalised(i, deviation) > 0 ? gradients[i] : 0.0f;
        sums[i] += g;
        sums[W + i] = fmaf(g, deviation, sums[W + i]);
      }
    }
  }
  sum_over_rows(sums);
  if (threadIdx.y > 0 || channel >= s.channels) return;
  GPU_UNROLL
  for (int i = 0; i < W; ++i) {
    sum_g[int64_t{blockIdx.x} * s.channels + channel + i] = sums[i];
    sum_gx[int64_t{blockIdx.x} * s.channels + channel + i] = sums[W + i];
  }
}

// dx = scale*g + from_x*(x - mean) + offset, with g the dy of the windows that this pixel won, gathered, where its own
// norm passes the ReLU. Reads x once, dy and winner (kernel/stride)^2 times through the caches; writes dx.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads)
    norm_pool_data_kernel(PixelRows<const T> x, PixelRows<const T> dy, PixelRows<const uint8_t> winner,
                          NormVectors norm, NormGradientVectors gradient, PoolShape s, int inputs, PixelRows<T> dx) {
  const int channel = first_channel<W>();
  if (channel >= s.channels) return;
  const ChannelNorms<W> norms = channel_norms<W>(norm, channel, s.channels);
  float from_x[W], offset[W];
  GPU_UNROLL
  for (int i = 0; i < W; ++i) {
    from_x[i] = gradient.from_x[channel + i];
    offset[i] = gradient.offset[channel + i];
  }
  const int step = static_cast<int>(gridDim.x * blockDim.y);
  for (int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y); index < inputs; index += step) {
    const PixelPosition in = s.inputs(index);
    float values[W], sum[W] = {};
    widen(load_pack<W>(x.at(index, channel)), values);
    const int bottom = in.row + s.pad_top, right = in.column + s.pad_left;  // of output oh: tap bottom - oh*stride
    const int last_row = min(s.by_stride.quotient(bottom), s.out_height - 1);
    const int last_column = min(s.by_stride.quotient(right), s.out_width - 1);
    for (int oh = last_row; oh >= 0 && bottom - oh * s.stride < s.kernel_h; --oh) {
      for (int ow = last_column; ow >= 0 && right - ow * s.stride < s.kernel_w; --ow) {
        const int tap = (bottom - oh * s.stride) * s.kernel_w + right - ow * s.stride;
        const int pixel = (in.image * s.out_height + oh) * s.out_width + ow;
        const Pack<uint8_t, W> won = load_pack<W>(winner.at(pixel, channel));
        float gradients[W];
        widen(load_pack<W>(dy.at(pixel, channel)), gradients);
        GPU_UNROLL
        for (int i = 0; i < W; ++i) sum[i] += won.element[i] == tap ? gradients[i] : 0.0f;
      }
    }
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      const float deviation = norms.deviation(i, values[i]);
      const float g = norms.normalised(i, deviation) > 0 ? sum[i] : 0.0f;
      values[i] = fmaf(norms.scale[i], g, fmaf(from_x[i], deviation, offset[i]));
    }
    store_rounded<T, W>(values, dx.at(index, channel));
  }
}

PoolShape pool_shape(const Shape& x, const Window& window, const Shape& y) {
  const int64_t largest = std::numeric_limits<int>::max() / 2;  // so that a grid's stride beyond it is still an int
  RIFFLE_CHECK(x.n * x.h * x.w <= largest, "max-pooling of ", x, ": at most ", largest, " pixels");
  const auto narrow = [](int64_t size) { return static_cast<int>(size); };
  return {narrow(x.h),
          narrow(x.w),
          narrow(y.h),
          narrow(y.w),
          narrow(window.kernel_h),
          narrow(window.kernel_w),
          narrow(window.stride),
          narrow(window.padding.top),
          narrow(window.padding.left),
          narrow(x.c),
          PixelIndex(x.h, x.w),
          PixelIndex(y.h, y.w),
          IndexDivisor(window.kernel_w),
          IndexDivisor(window.stride)};
}

}  // namespace

void CudaBackend::batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                      const Tensor& beta, double eps, const Window& window, const Tensor& y,
                                      const Tensor& winner) {
  check_max_pool(x, window, y, winner, "batch_norm_max_pool");
  check_vectors({&mean, &var, &gamma, &beta}, x.channels(), "batch_norm_max_pool");
  const int width = common_vector_width({&x, &y, &winner});
  const ChannelLayout layout = make_layout(width, 1, y.pixels(), x.channels());
  const int64_t blocks = std::min<int64_t>(divide_up(y.pixels(), layout.block.y),
                                           int64_t{kBlocksPerMultiprocessor} * properties_.multiprocessors);
  dispatch_pack(x.dtype(), width, [&](auto element, auto constant) {
    using T = decltype(element);
    launch("batch_norm_max_pool", norm_pool_kernel<T, decltype(constant)::value>, layout.grid(blocks), layout.block, 0,
           rows_of<const T>(x), norm_vectors({mean, var, gamma, beta, eps, true}),
           pool_shape(x.shape(), window, y.shape()), y.pixels(), rows_of<T>(y), rows_of<uint8_t>(winner));
  });
}

void CudaBackend::batch_norm_max_pool_backward(const Tensor& x, const Tensor& dy, const Tensor& winner,
                                               const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                               const Tensor& beta, double eps, const Window& window, Write write_params,
                                               const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  const char* name = "batch_norm_max_pool_backward";
  check_max_pool(x, window, dy, winner, name);
  check_same_shape(x, dx, name);
  check_no_overlap(dx, {&x, &dy}, name);
  check_vectors({&mean, &var, &gamma, &beta, &dgamma, &dbeta}, x.channels(), name);
  const BatchNormState norm{mean, var, gamma, beta, eps, true};
  const NormVectors vectors = norm_vectors(norm);
  const PoolShape shape = pool_shape(x.shape(), window, dy.shape());
  const int64_t channels = x.channels();

  const int sums_width = common_vector_width({&dy, &winner});
  const ChannelLayout outputs = make_layout(sums_width, 1, dy.pixels(), channels);
  const int64_t parts = std::min(divide_up(dy.pixels(), outputs.block.y), 2 * kReductionBlocks);
  const Tensor sums = scratch(2 * parts * channels);
  float* sum_g = sums.data<float>();
  dispatch_pack(x.dtype(), sums_width, [&](auto element, auto constant) {
    using T = decltype(element);
    launch("batch_norm_max_pool_backward, sums", norm_pool_sums_kernel<T, decltype(constant)::value>,
           outputs.grid(parts), outputs.block, 0, rows_of<const T>(x), rows_of<const T>(dy),
           rows_of<const uint8_t>(winner), vectors, shape, dy.pixels(), sum_g, sum_g + parts * channels);
  });
  const Tensor gradient = scratch(2 * channels);
  finish_norm_sums(sums, norm, x.pixels(), write_params, dgamma, dbeta, gradient);

  const int data_width = common_vector_width({&x, &dy, &winner, &dx});
  const ChannelLayout inputs = make_layout(data_width, 1, x.pixels(), channels);
  const int64_t blocks = std::min<int64_t>(divide_up(x.pixels(), inputs.block.y),
                                           int64_t{kBlocksPerMultiprocessor} * properties_.multiprocessors);
  dispatch_pack(x.dtype(), data_width, [&](auto element, auto constant) {
    using T = decltype(element);
    launch(name, norm_pool_data_kernel<T, decltype(constant)::value>, inputs.grid(blocks), inputs.block, 0,
           rows_of<const T>(x), rows_of<const T>(dy), rows_of<const uint8_t>(winner), vectors,
           gradient_vectors(gradient), shape, x.pixels(), rows_of<T>(dx));
  });
}

}  // namespace riffle
