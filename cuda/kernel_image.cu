// Asks the driver for a kernel of ours; all are compiled for the same architectures.
#include "cuda/kernel_image.h"

#include "core/check.h"
#include "cuda/gpu.h"

#ifndef RIFFLE_CUDA_ARCHITECTURES
#error "define RIFFLE_CUDA_ARCHITECTURES; cuda/CMakeLists.txt does"
#endif

namespace riffle {
namespace {

__global__ void nothing_kernel() {}

}  // namespace

const char* built_architectures() {
  return RIFFLE_CUDA_ARCHITECTURES;
}

std::string why_kernels_do_not_run() {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&nothing_kernel));
  if (status == cudaSuccess) return "";
  cudaGetLastError();
  if (status == cudaErrorNoKernelImageForDevice)
    return join("this build has kernels for the architectures ", built_architectures(),
                " only; build with RIFFLE_CUDA_ARCHITECTURES=native");
  return join("its kernels cannot be loaded: ", cudaGetErrorString(status));
}

}  // namespace riffle
