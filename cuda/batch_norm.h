// What the batch norm kernels share: a channel's coefficients, computed where they are used, from vectors that never
// leave the device, and sums over the parts that a first kernel left.
#pragma once

#include "core/backend.h"
#include "cuda/channel_layout.h"

namespace riffle {

struct NormVectors {
  const float *mean, *var, *gamma, *beta;
  float eps;
};

inline NormVectors norm_vectors(const BatchNormState& norm) {
  return {norm.mean.data<float>(), norm.var.data<float>(), norm.gamma.data<float>(), norm.beta.data<float>(),
          static_cast<float>(norm.eps)};
}

// Of the channels from `begin` on.
inline NormVectors from_channel(const NormVectors& v, int64_t begin) {
  return {v.mean + begin, v.var + begin, v.gamma + begin, v.beta + begin, v.eps};
}

// y = (x - mean) * scale + shift. Centred first: exact where |mean| >> std.
template <int W>
struct ChannelNorms {
  float mean[W], scale[W], shift[W];

  __device__ float deviation(int i, float x) const { return x - mean[i]; }
  // One rounding, spelled out: forward and backward must agree on the sign.
  __device__ float normalised(int i, float deviation) const { return fmaf(deviation, scale[i], shift[i]); }
};

__device__ inline float inv_std_of(const NormVectors& v, int64_t c) {
  return 1.0f / sqrtf(v.var[c] + v.eps);
}

// Of channels first..first+W-1, in rows of several pixels (ChannelLayout::fold) of `period` channels.
template <int W>
__device__ inline ChannelNorms<W> channel_norms(const NormVectors& v, int first, int period) {
  ChannelNorms<W> norms;
  GPU_UNROLL
  for (int i = 0; i < W; ++i) {
    const int c = (first + i) % period;
    norms.mean[i] = v.mean[c];
    norms.scale[i] = v.gamma[c] * inv_std_of(v, c);
    norms.shift[i] = v.beta[c];
  }
  return norms;
}

// dx = scale*g + from_x*(x - mean) + offset, with g the masked gradient. Both absent: scale*g.
struct NormGradientVectors {
  float *from_x, *offset;
};

// Of (2, C), as CudaBackend::finish_norm_sums writes it.
inline NormGradientVectors gradient_vectors(const Tensor& gradient) {
  if (!gradient.defined()) return {nullptr, nullptr};
  return {gradient.data<float>(), gradient.data<float>() + gradient.channels() / 2};
}

constexpr int kMergeLanes = 32, kMergeRows = 16;  // block of kernels that add up parts
inline dim3 merge_grid(int64_t channels) {
  return dim3(static_cast<unsigned>(divide_up(channels, kMergeLanes)));
}

// A sum over the rows of a block of (kMergeLanes, kMergeRows), in order. All threads take part; row 0 has it.
__device__ inline double merged_over_rows(double value) {
  __shared__ double shared[kMergeRows][kMergeLanes];
  __syncthreads();
  shared[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  if (threadIdx.y == 0)
    for (int row = 0; row < kMergeRows; ++row) sum += shared[row][threadIdx.x];
  return sum;
}

}  // namespace riffle
