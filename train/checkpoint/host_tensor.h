// HostTensor: a tensor as a file holds it, in host memory and in the outside world's layout (PyTorch's: filters
// O,I,kH,kW, matrices O,I). What every checkpoint reader produces and every writer takes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace riffle {

struct HostTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // any rank, {} being a scalar; row-major
  std::vector<uint8_t> bytes;  // little-endian

  int64_t elements() const;
};

using TensorMap = std::map<std::string, HostTensor>;

// "1000x1024"; "scalar" for rank 0.
std::string shape_text(const std::vector<int64_t>& shape);

// The product of the extents; false if one is negative or the product leaves int64.
bool count_elements(const std::vector<int64_t>& shape, int64_t& elements);

// f32, f64, f16 or bf16 values as f32. Throws for other dtypes, and for f64 values beyond f32's range; `what` names the
// tensor in the message.
std::vector<float> to_f32(const HostTensor& tensor, const std::string& what);

// Little-endian int64 values as int32. Throws, naming `what` and the value, where one does not fit.
std::vector<uint8_t> narrow_i64_to_i32(const std::vector<uint8_t>& bytes, const std::string& what);

}  // namespace riffle
