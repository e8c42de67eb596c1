// The operations of a training step of ShuffleNetV2 1.0x, at the shapes where they move most bytes.
#pragma once

#include "tests/benchmarks/kernel_timer.h"

namespace riffle {

struct KernelCases {
  int64_t batch = 1024;
  int64_t size = 224;  // height and width of an image: a multiple of 32
};

// A copy within the device, of as many bytes as the stem's output: what the others are compared with.
void time_device_copy(Backend& backend, const KernelCases& cases, KernelTimer& timer);
// Operations of our own kernels. They read and write activations of backend.dtype().
void time_own_kernels(Backend& backend, const KernelCases& cases, KernelTimer& timer);
// Operations of cuDNN and cuBLASLt.
void time_library_kernels(Backend& backend, const KernelCases& cases, KernelTimer& timer);

}  // namespace riffle
