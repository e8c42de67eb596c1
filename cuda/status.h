// Every CUDA call is checked: RIFFLE_CUDA(cudaEventRecord(event, stream)) throws an Error that names the call, the file
// and the line. Kernel launches go through CudaBackend::launch, which checks too.
#pragma once

#include <cuda_runtime_api.h>

#include "core/check.h"

namespace riffle {

inline void check_cuda(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report this error again
  fail(file, ":", line, ": ", call, " failed: ", cudaGetErrorName(status), ": ", cudaGetErrorString(status));
}

}  // namespace riffle

#define RIFFLE_CUDA(call) ::riffle::check_cuda((call), #call, __FILE__, __LINE__)
