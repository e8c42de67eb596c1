// Device memory for tests, with checked copies to and from vectors.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cuda/emulation/control.h"
#include "cuda/gpu.h"

namespace riffle {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) { EXPECT_EQ(cudaMalloc(&data_, size * sizeof(T)), cudaSuccess); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* get() const { return data_; }
  void zero() { EXPECT_EQ(cudaMemset(data_, 0, size_ * sizeof(T)), cudaSuccess); }
  // Waits for everything; kernels' faults are the caller's to ask for.
  std::vector<T> values() const {
    std::vector<T> host(size_);
    cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost);
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

// Multiples of 1/64 between -2 and 2.
template <class T>
std::vector<T> sample_values(size_t count, unsigned seed = 1) {
  std::vector<T> values(count);
  for (T& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<T>(static_cast<float>(static_cast<int>(seed >> 16 & 255) - 128) / 64.0f);
  }
  return values;
}

// False for NaN.
inline bool is_near(double a, double b, double tolerance) {
  return std::fabs(a - b) <= tolerance * (1 + std::fabs(b));
}

// Every test begins with no reports and the default options.
class EmulationTest : public testing::Test {
 protected:
  EmulationTest() { emulation::options().print = false; }
  ~EmulationTest() override {
    cudaDeviceSynchronize();
    emulation::clear_reports();
    emulation::options() = before_;
  }

 private:
  emulation::Options before_ = emulation::options();
};

}  // namespace riffle
