// The one CUDA header of this project. Under nvcc, kernels are launched for real; with RIFFLE_EMULATED_CUDA (set by the
// CMake target riffle_emulation) a host compiler gets NVIDIA's own host headers plus the emulated device; otherwise a
// host compiler gets types and declarations. docs/adding-an-operation.md has the rules that kernels follow.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#if !defined(__CUDACC__) && defined(RIFFLE_EMULATED_CUDA)
#include "cuda/emulation/device.h"
#else

namespace gpu {

// Queues kernel<<<grid, block, shared_bytes, stream>>>(arguments...); arguments convert to the parameters' types.
// Returns the launch's own status (cudaErrorInvalidConfiguration, ...); faults while it runs show when somebody
// synchronises.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments&&... arguments);

}  // namespace gpu

#ifdef __CUDACC__

// `T* name`, the launch's dynamic shared memory. A plain `extern __shared__ T name[]` clashes between template
// instances.
#define GPU_DYN_SHARED(T, name)                                        \
  extern __shared__ __align__(16) unsigned char gpu_dynamic_shared_[]; \
  T* name = reinterpret_cast<T*>(gpu_dynamic_shared_)
// Before a loop.
#define GPU_UNROLL _Pragma("unroll")

template <class... Parameters, class... Arguments>
cudaError_t gpu::launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                        Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

#endif
#endif
