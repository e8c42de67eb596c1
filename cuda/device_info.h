// What `riffle devices` tells about CUDA. No CUDA header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace riffle {

struct GpuInfo {
  std::string name;
  std::string compute_capability;  // "9.0"
  int multiprocessors = 0;
  int64_t memory_bytes = 0, free_bytes = 0;
  double bandwidth = 0;      // of memory, bytes a second; 0 where the driver does not tell
  std::string why_not_used;  // empty: this build runs on it
};

struct CudaInfo {
  std::string built_with;       // "CUDA 13.0 for 80-real;86-real;89-real;90"
  std::string driver;           // the newest CUDA that it supports, "13.0", or "none"
  std::string runtime;          // "13.0"
  std::string why_not;          // empty: CUDA can be used
  std::vector<GpuInfo> gpus;    // by index
  std::string cublaslt, cudnn;  // versions, or why they cannot be used
  std::string nvrtc;            // likewise; cuDNN uses it where it is there
};

// Never throws for want of a driver, a GPU or a library: it says so. Opens cuBLASLt and cuDNN where there is a GPU.
CudaInfo cuda_info();

}  // namespace riffle
