// The table of normalised pixel values as kernels take it.
#pragma once

#include <algorithm>

#include "core/normalisation_table.h"
#include "cuda/gpu.h"

namespace riffle {

constexpr int kMostImageChannels = 4;

// Travels as a kernel argument, so that a captured launch keeps it.
struct NormalisationValues {
  float value[kMostImageChannels * 256];

  // By all threads of a block, into its shared memory: neighbouring threads look up different values.
  __device__ void copy_to(float* shared, int channels) const {
    const int threads = static_cast<int>(blockDim.x * blockDim.y);
    for (int i = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x); i < channels * 256; i += threads)
      shared[i] = value[i];
    __syncthreads();
  }
};

inline NormalisationValues normalisation_values(const Normalisation& normalisation) {
  NormalisationValues values{};
  const std::vector<float> table = normalisation_table(normalisation);
  RIFFLE_CHECK(table.size() <= sizeof(values.value) / sizeof(float), normalisation.mean.size(), " channels; at most ",
               kMostImageChannels, " can be normalised on CUDA");
  std::copy(table.begin(), table.end(), values.value);
  return values;
}

}  // namespace riffle
