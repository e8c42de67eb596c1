// HostTensor: a tensor as a file holds it, in host memory and in the outside world's layout (PyTorch's: filters
// O,I,kH,kW, matrices O,I). What every checkpoint reader produces and every writer takes.
#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "core/check.h"

namespace riffle {

// What files hold: every type that safetensors, PyTorch, numpy and TensorFlow checkpoints share. Complex numbers and
// texts are not among them.
enum class FileDType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,  // floating point; the last two are kept, never computed with
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool  // one byte, 0 or 1
};

size_t size_of(FileDType dtype);       // bytes of one element
const char* name_of(FileDType dtype);  // "f32", "bf16", "i64", "bool", ...
std::ostream& operator<<(std::ostream& out, FileDType dtype);
bool converts_to_f32(FileDType dtype);  // by to_f32()

struct HostTensor {
  FileDType dtype = FileDType::kF32;
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

}  // namespace riffle
