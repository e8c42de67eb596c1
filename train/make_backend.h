// The one place that knows which backends this build has and decides which of them a command runs on.
#pragma once

#include <memory>
#include <string>

#include "core/backend.h"

namespace riffle {

struct DeviceRequest {
  std::string device = "auto";     // "auto", "cpu", "cuda" or "cuda:N"
  int threads = 0;                 // of the CPU; 0: OMP_NUM_THREADS, or else every CPU this process may use
  std::string precision = "fp32";  // one of precisions()
  bool deterministic = false;      // on CUDA: the same bits in every run. The CPU always does that
  bool cudnn_depthwise = false;    // on CUDA: see CudaOptions. The CPU has no such thing
};

// fp32; tf32: fp32 whose convolutions and matrix products round their inputs to 10 bits; bf16 and fp16: activations of
// that type, sums and parameters in fp32. The CPU has fp32 and, with AVX512-BF16, bf16: see Products in cpu_backend.h.
const std::vector<std::string>& precisions();

struct DeviceChoice {
  std::unique_ptr<Backend> backend;
  std::string reason;  // why this one: "as asked", or what `auto` found
  int threads = 0;     // CPU threads, for sizing the loader
};

// A device or precision that this build or machine lacks is an error; nothing falls back.
DeviceChoice make_backend(const DeviceRequest& request);

// Why `auto` does not take the first GPU, for the reason that it gives; empty where it does.
std::string why_no_cuda();
// Why there is no GPU to ask for at all; empty where there is one.
std::string why_no_driver();
// What `riffle devices` says of CUDA, in lines.
std::vector<std::string> describe_cuda();

}  // namespace riffle
