// Driver, GPUs and libraries, for people. Every question may fail, and the reason is then the answer.
#include "cuda/device_info.h"

#include <cuda_runtime_api.h>

#include <cstdlib>

#include "cuda/kernel_image.h"
#include "cuda/libraries.h"
#include "cuda/make_cuda_backend.h"
#include "cuda/runtime.h"
#include "cuda/status.h"

namespace riffle {
namespace {

// CUDA counts 13.2 as 13020.
std::string cuda_version(int version) {
  return join(version / 1000, ".", version % 1000 / 10);
}

int driver_version() {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess) cudaGetLastError();
  return version;
}

int runtime_version() {
  int version = 0;
  RIFFLE_CUDA(cudaRuntimeGetVersion(&version));
  return version;
}

std::string explain(cudaError_t status) {
  if (status == cudaErrorInsufficientDriver && driver_version() == 0) return "there is no NVIDIA driver";
  if (status == cudaErrorInsufficientDriver)
    return join("the NVIDIA driver is too old: it supports CUDA ", cuda_version(driver_version()),
                ", this build needs ", cuda_version(runtime_version()));
  if (status == cudaErrorNoDevice) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return visible ? join("no GPU is visible (CUDA_VISIBLE_DEVICES is \"", visible, "\")") : "no NVIDIA GPU was found";
  }
  return join(cudaGetErrorName(status), ": ", cudaGetErrorString(status));
}

GpuInfo gpu_info(int device) {
  GpuInfo info;
  try {
    const DeviceProperties properties = device_properties(device);
    info.name = properties.name;
    info.compute_capability = join(properties.compute_major, ".", properties.compute_minor);
    info.multiprocessors = properties.multiprocessors;
    info.memory_bytes = properties.memory_bytes;
    info.bandwidth = properties.bandwidth;
    use_device(device);
    info.why_not_used = why_kernels_do_not_run();
    size_t free = 0, total = 0;
    RIFFLE_CUDA(cudaMemGetInfo(&free, &total));
    info.free_bytes = static_cast<int64_t>(free);
  } catch (const Error& error) {
    info.why_not_used = error.what();
  }
  return info;
}

std::string cublaslt_version() {
  try {
    const size_t version = cublas_lt().version();  // 13.0.1 is 130001
    return join(version / 10000, ".", version / 100 % 100, ".", version % 100);
  } catch (const Error& error) {
    return error.what();
  }
}

std::string cudnn_version() {
  try {
    const size_t version = cudnn().version();  // 9.12.0 is 91200
    return join(version / 10000, ".", version / 100 % 100, ".", version % 100);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

bool cuda_available(std::string* why_not) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return true;
  cudaGetLastError();
  if (status == cudaSuccess) status = cudaErrorNoDevice;
  if (why_not) *why_not = explain(status);
  return false;
}

bool cuda_usable(int device, std::string* why_not) {
  if (!cuda_available(why_not)) return false;
  const GpuInfo gpu = gpu_info(device);
  std::string why = gpu.why_not_used;
  try {
    if (why.empty()) {
      cublas_lt();
      cudnn();
    }
  } catch (const Error& error) {
    why = error.what();
  }
  if (why_not && !why.empty()) *why_not = why;
  return why.empty();
}

CudaInfo cuda_info() {
  CudaInfo info;
  info.built_with = join("CUDA ", cuda_version(CUDART_VERSION), " for ", built_architectures());
  info.runtime = cuda_version(runtime_version());
  const int driver = driver_version();
  info.driver = driver == 0 ? "none" : cuda_version(driver);
  if (!cuda_available(&info.why_not)) return info;
  int count = 0;
  RIFFLE_CUDA(cudaGetDeviceCount(&count));
  for (int device = 0; device < count; ++device) info.gpus.push_back(gpu_info(device));
  info.cublaslt = cublaslt_version();
  info.cudnn = cudnn_version();
  info.nvrtc = nvrtc_version();
  return info;
}

}  // namespace riffle
