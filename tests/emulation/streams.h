// Streams and events that tests make, and a kernel for them.
#pragma once

#include <gtest/gtest.h>

#include "cuda/gpu.h"

namespace riffle {

struct TestStream {
  explicit TestStream(unsigned flags = cudaStreamNonBlocking) {
    EXPECT_EQ(cudaStreamCreateWithFlags(&handle, flags), cudaSuccess);
  }
  ~TestStream() { cudaStreamDestroy(handle); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;

  cudaStream_t handle = nullptr;
};

struct TestEvent {
  explicit TestEvent(unsigned flags = cudaEventDisableTiming) {
    EXPECT_EQ(cudaEventCreateWithFlags(&handle, flags), cudaSuccess);
  }
  ~TestEvent() { cudaEventDestroy(handle); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;

  cudaEvent_t handle = nullptr;
};

// y = 10 * x + digit, of one number each: a value tells which kernels ran, in which order.
static __global__ void append_digit(const int* x, int digit, int* y) {
  if (threadIdx.x == 0) *y = 10 * *x + digit;
}

inline cudaError_t append(cudaStream_t stream, int* number, int digit) {
  return gpu::launch(append_digit, 1, 1, 0, stream, number, digit, number);
}

}  // namespace riffle
