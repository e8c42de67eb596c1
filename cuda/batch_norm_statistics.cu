// Batch norm's statistics in one pass over memory: moments of a few rows at a time, in registers, merged by the formula
// of Chan, Golub and LeVeque (1983), so that a large mean costs no digits. And their running averages.
#include "core/contracts.h"
#include "cuda/batch_norm.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

// Mean and sum of squared deviations of `count` values in each of W channels.
template <int W>
struct Moments {
  float count = 0, mean[W] = {}, m2[W] = {};

  __device__ void merge(float other_count, const float (&other_mean)[W], const float (&other_m2)[W]) {
    if (other_count == 0) return;
    const float total = count + other_count, share = other_count / total;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      const float delta = other_mean[i] - mean[i];
      mean[i] += delta * share;
      m2[i] += other_m2[i] + delta * delta * (count * share);
    }
    count = total;
  }
};

// Two passes over registers.
template <int Rows, int W>
__device__ inline void merge_rows(const float (&x)[Rows][W], Moments<W>& moments) {
  float mean[W], m2[W];
  GPU_UNROLL
  for (int i = 0; i < W; ++i) {
    float sum = 0;
    GPU_UNROLL
    for (int r = 1; r < Rows; ++r) sum += x[r][i] - x[0][i];
    mean[i] = x[0][i] + sum / Rows;
    m2[i] = 0;
    GPU_UNROLL
    for (int r = 0; r < Rows; ++r) m2[i] += (x[r][i] - mean[i]) * (x[r][i] - mean[i]);
  }
  moments.merge(Rows, mean, m2);
}

// Merges over the rows of a block, as sum_over_rows() adds: row 0 has the result.
template <int W>
__device__ inline void merge_over_rows(Moments<W>& moments) {
  __shared__ float shared[2 * W + 1][kLayoutThreads / 2];
  const int rows = static_cast<int>(blockDim.y), row = static_cast<int>(threadIdx.y);
  const int thread = row * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  int half = 1;
  while (2 * half < rows) half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (row >= half && row < 2 * half) {
      const int to = thread - half * static_cast<int>(blockDim.x);
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        shared[i][to] = moments.mean[i];
        shared[W + i][to] = moments.m2[i];
      }
      shared[2 * W][to] = moments.count;
    }
    __syncthreads();
    if (row < half && row + half < rows) {
      float mean[W], m2[W];
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        mean[i] = shared[i][thread];
        m2[i] = shared[W + i][thread];
      }
      moments.merge(shared[2 * W][thread], mean, m2);
    }
  }
}

// x (rows, channels) -> means, m2s (parts, channels). Reads every element once.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads)
    moments_kernel(PixelRows<const T> x, int64_t rows, int channels, int64_t rows_each, float* __restrict__ means,
                   float* __restrict__ m2s) {
  const int channel = first_channel<W>();
  Moments<W> moments;
  if (channel < channels) {
    for_rows_of_part(rows, rows_each, [&](int64_t row, auto count) {
      constexpr int kCount = decltype(count)::value;
      Pack<T, W> packs[kCount];
      GPU_UNROLL
      for (int r = 0; r < kCount; ++r) packs[r] = load_pack<W>(x.at(row + r * int64_t{blockDim.y}, channel));
      float values[kCount][W];
      GPU_UNROLL
      for (int r = 0; r < kCount; ++r) widen(packs[r], values[r]);
      merge_rows(values, moments);
    });
  }
  merge_over_rows(moments);
  if (threadIdx.y > 0 || channel >= channels) return;
  const int64_t at = blockIdx.x * channels + channel;
  store_rounded<float, W>(moments.mean, means + at);
  store_rounded<float, W>(moments.m2, m2s + at);
}

// The parts' moments (parts * fold, C) to the whole's. Part i is of min(rows_each, rows - i * rows_each) pixels.
__global__ void __launch_bounds__(kMergeLanes* kMergeRows)
    merge_moments_kernel(const float* means, const float* m2s, int64_t parts, int64_t fold, int64_t channels,
                         int64_t rows, int64_t rows_each, float* mean, float* var) {
  const int64_t c = blockIdx.x * int64_t{kMergeLanes} + threadIdx.x;
  const bool inside = c < channels;
  const auto pixels = static_cast<double>(rows * fold);
  const auto count = [&](int64_t i) {
    const int64_t left = rows - i / fold * rows_each;
    return static_cast<double>(left < rows_each ? left : rows_each);
  };
  __shared__ double whole_mean[kMergeLanes];
  double sum = 0;
  for (int64_t i = threadIdx.y; inside && i < parts * fold; i += kMergeRows) sum += count(i) * means[i * channels + c];
  sum = merged_over_rows(sum);
  if (threadIdx.y == 0) whole_mean[threadIdx.x] = sum / pixels;
  __syncthreads();
  const double centre = whole_mean[threadIdx.x];
  double squares = 0;
  for (int64_t i = threadIdx.y; inside && i < parts * fold; i += kMergeRows) {
    const double deviation = means[i * channels + c] - centre;
    squares += m2s[i * channels + c] + count(i) * deviation * deviation;
  }
  squares = merged_over_rows(squares);
  if (threadIdx.y > 0 || !inside) return;
  mean[c] = static_cast<float>(centre);
  var[c] = static_cast<float>(squares / pixels);
}

__global__ void update_running_kernel(const float* mean, const float* var, int64_t channels, double momentum,
                                      double unbias, float* running_mean, float* running_var) {
  const int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (c >= channels) return;
  running_mean[c] = static_cast<float>((1 - momentum) * running_mean[c] + momentum * mean[c]);
  running_var[c] = static_cast<float>((1 - momentum) * running_var[c] + momentum * unbias * var[c]);
}

}  // namespace

void CudaBackend::batch_norm_statistics(const Tensor& x, const Tensor& mean, const Tensor& var) {
  check_vectors({&mean, &var}, x.channels(), "batch_norm_statistics");
  const ChannelLayout layout = layout_of({&x});
  const RowParts parts = row_parts(layout.rows, static_cast<int>(layout.block.y));
  const Tensor partial = scratch(2 * parts.count * layout.channels);
  float* means = partial.data<float>();
  float* m2s = means + parts.count * layout.channels;
  dispatch_pack(x.dtype(), layout.width, [&](auto element, auto width) {
    using T = decltype(element);
    launch("batch_norm_statistics", moments_kernel<T, decltype(width)::value>, layout.grid(parts.count), layout.block,
           0, folded_rows<const T>(x, layout.fold), layout.rows, layout.channels, parts.rows_each, means, m2s);
  });
  launch("batch_norm_statistics, merging", merge_moments_kernel, merge_grid(x.channels()),
         dim3(kMergeLanes, kMergeRows), 0, means, m2s, parts.count, layout.fold, x.channels(), layout.rows,
         parts.rows_each, mean.data<float>(), var.data<float>());
}

void CudaBackend::batch_norm_update_running(const Tensor& mean, const Tensor& var, int64_t pixels, double momentum,
                                            const Tensor& running_mean, const Tensor& running_var) {
  check_vectors({&mean, &var, &running_mean, &running_var}, mean.channels(), "batch_norm_update_running");
  const double unbias = pixels > 1 ? static_cast<double>(pixels) / static_cast<double>(pixels - 1) : 1.0;
  constexpr int kBlock = 128;
  launch("batch_norm_update_running", update_running_kernel,
         dim3(static_cast<unsigned>(divide_up(mean.channels(), kBlock))), dim3(kBlock), 0, mean.data<float>(),
         var.data<float>(), mean.channels(), momentum, unbias, running_mean.data<float>(), running_var.data<float>());
}

}  // namespace riffle
