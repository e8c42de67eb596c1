// Tensors of the emulated device for tests of what lies below the backend: values in and out, and NaN around them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "cuda/device_types.h"
#include "cuda/library_support.h"
#include "cuda/status.h"

namespace riffle {

inline Tensor device_memory(Shape shape, DType dtype) {
  void* data = nullptr;
  RIFFLE_CUDA(cudaMalloc(&data, static_cast<size_t>(shape.elements()) * size_of(dtype)));
  return Tensor(std::shared_ptr<void>(data, [](void* p) { cudaFree(p); }), {DeviceKind::kCuda, 0}, dtype, shape,
                shape.c);
}

// What MatrixProducts and ConvolutionPlans take for workspaces: blocks are kept, and handed out again when they are
// free.
inline ScratchBytes device_scratch() {
  auto blocks = std::make_shared<std::multimap<int64_t, std::shared_ptr<void>>>();
  return [blocks](int64_t bytes) {
    const Shape shape = vector_shape(bytes);
    const Device device{DeviceKind::kCuda, 0};
    const auto range = blocks->equal_range(bytes);
    for (auto block = range.first; block != range.second; ++block)
      if (block->second.use_count() == 1) return Tensor(block->second, device, DType::kU8, shape, bytes);
    void* data = nullptr;
    RIFFLE_CUDA(cudaMalloc(&data, static_cast<size_t>(bytes)));
    const auto added = blocks->emplace(bytes, std::shared_ptr<void>(data, [](void* p) { cudaFree(p); }));
    return Tensor(added->second, device, DType::kU8, shape, bytes);
  };
}

// All elements of the matrix that `tensor` is a slice of.
inline Tensor whole_of(const Tensor& tensor, int64_t offset) {
  const size_t size = size_of(tensor.dtype());
  std::shared_ptr<void> begin(static_cast<char*>(tensor.raw()) - static_cast<size_t>(offset) * size, [](void*) {});
  return Tensor(begin, tensor.device(), tensor.dtype(), tensor.shape().with_channels(tensor.ld()), tensor.ld());
}

inline void upload(const std::vector<double>& values, const Tensor& packed) {
  dispatch_dtype(packed.dtype(), [&](auto zero) {
    std::vector<decltype(zero)> host;
    host.reserve(values.size());
    for (double value : values) host.push_back(from_float<decltype(zero)>(static_cast<float>(value)));
    RIFFLE_CUDA(cudaMemcpy(packed.raw(), host.data(), host.size() * sizeof zero, cudaMemcpyHostToDevice));
  });
}

// Row after row, wherever the rows are.
inline std::vector<double> downloaded(const Tensor& tensor) {
  std::vector<double> values;
  dispatch_dtype(tensor.dtype(), [&](auto zero) {
    const auto rows = static_cast<size_t>(tensor.pixels()), columns = static_cast<size_t>(tensor.channels());
    std::vector<decltype(zero)> host(rows * columns);
    RIFFLE_CUDA(cudaMemcpy2D(host.data(), columns * sizeof zero, tensor.raw(),
                             static_cast<size_t>(tensor.ld()) * sizeof zero, columns * sizeof zero, rows,
                             cudaMemcpyDeviceToHost));
    for (auto value : host) values.push_back(to_float(value));
  });
  return values;
}

// `values` as a slice of a matrix with `extra` more channels, of NaN, the slice beginning at `offset`.
inline Tensor device_tensor(Shape shape, DType dtype, const std::vector<double>& values, int64_t extra = 0,
                            int64_t offset = 0) {
  const Tensor whole = device_memory(shape.with_channels(shape.c + extra), dtype);
  std::vector<double> all(static_cast<size_t>(whole.elements()), std::numeric_limits<double>::quiet_NaN());
  for (int64_t row = 0; row < shape.pixels(); ++row)
    for (int64_t c = 0; c < shape.c; ++c)
      all[static_cast<size_t>(row * whole.ld() + offset + c)] = values[static_cast<size_t>(row * shape.c + c)];
  upload(all, whole);
  return whole.channel_slice(offset, shape.c);
}

// That nothing was written between the rows of a slice that device_tensor() made.
inline void expect_surroundings_untouched(const Tensor& tensor, int64_t offset) {
  if (tensor.packed()) return;
  const std::vector<double> all = downloaded(whole_of(tensor, offset));
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t column = static_cast<int64_t>(i) % tensor.ld() - offset;
    const bool inside = column >= 0 && column < tensor.channels();
    ASSERT_TRUE(inside || std::isnan(all[i])) << "element " << i << " was written";
  }
}

}  // namespace riffle
