// Shared by the files that define the CUDA runtime API; their prototypes are NVIDIA's (cuda_runtime_api.h). A program
// links these instead of libcudart. What is not defined here does not link, rather than doing nothing.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/emulation/capture.h"
#include "cuda/emulation/queue.h"
#include "cuda/emulation/report.h"

// How every call begins. Functions given to cudaLaunchHostFunc may not call CUDA.
#define RIFFLE_API_ENTRY()                      \
  const ::riffle::emulation::Lock runtime_lock; \
  if (::riffle::emulation::in_host_function()) return ::riffle::emulation::refuse(cudaErrorNotPermitted)

// How a call that may wait or change the address space begins: captures forbid it.
#define RIFFLE_API_ENTRY_NOT_IN_CAPTURE()                                                      \
  RIFFLE_API_ENTRY();                                                                          \
  if (::riffle::emulation::invalidate_captures(::riffle::emulation::UnsafeCall::kSynchronous)) \
  return ::riffle::emulation::refuse(cudaErrorStreamCaptureUnsupported)
