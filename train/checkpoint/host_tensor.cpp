// HostTensor: element counts that cannot overflow, and conversions of elements.
#include "train/checkpoint/host_tensor.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace riffle {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "HostTensor::bytes are copied from and to memory as they are");

namespace {

template <class T>
T element(const std::vector<uint8_t>& bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// IEEE 754 binary16: sign, 5 exponent bits with bias 15, 10 fraction bits.
float from_f16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  float magnitude;
  if (exponent == 31) {
    magnitude = fraction == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// bfloat16: the upper half of an f32.
float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

float from_f64(double wide, size_t index, const std::string& what) {
  const float value = static_cast<float>(wide);
  if (std::isfinite(wide) && !std::isfinite(value))
    fail(what, ": element ", index, " is ", wide, ", beyond the range of f32");
  return value;
}

}  // namespace

bool count_elements(const std::vector<int64_t>& shape, int64_t& elements) {
  // Zeros first: {2^40, 2^40, 0} is an empty tensor, whatever the order of its extents.
  bool empty = false;
  for (int64_t extent : shape) {
    if (extent < 0) return false;
    empty = empty || extent == 0;
  }
  elements = empty ? 0 : 1;
  if (empty) return true;
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(elements, extent, &elements)) return false;
  }
  return true;
}

int64_t HostTensor::elements() const {
  int64_t count = 0;
  RIFFLE_CHECK(count_elements(shape, count), "shape ", shape_text(shape));
  return count;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  if (shape.empty()) return "scalar";
  std::string text;
  for (int64_t extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text;
}

std::vector<float> to_f32(const HostTensor& tensor, const std::string& what) {
  const size_t count = static_cast<size_t>(tensor.elements());
  RIFFLE_CHECK(tensor.bytes.size() == count * size_of(tensor.dtype), what, ": ", tensor.bytes.size(), " bytes for ",
               shape_text(tensor.shape), " ", tensor.dtype);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    switch (tensor.dtype) {
      case DType::kF32:
        values[i] = element<float>(tensor.bytes, i);
        break;
      case DType::kF64:
        values[i] = from_f64(element<double>(tensor.bytes, i), i, what);
        break;
      case DType::kF16:
        values[i] = from_f16(element<uint16_t>(tensor.bytes, i));
        break;
      case DType::kBF16:
        values[i] = from_bf16(element<uint16_t>(tensor.bytes, i));
        break;
      default:
        fail(what, " holds ", tensor.dtype, "; expected floating point (f32, f64, f16 or bf16)");
    }
  }
  return values;
}

std::vector<uint8_t> narrow_i64_to_i32(const std::vector<uint8_t>& bytes, const std::string& what) {
  std::vector<uint8_t> narrow(bytes.size() / 2);
  for (size_t i = 0; i < bytes.size() / sizeof(int64_t); ++i) {
    const int64_t wide = element<int64_t>(bytes, i);
    const int32_t value = static_cast<int32_t>(wide);
    if (value != wide) fail(what, ": element ", i, " is ", wide, "; 64-bit integers are read only if they fit 32 bits");
    std::memcpy(narrow.data() + i * sizeof value, &value, sizeof value);
  }
  return narrow;
}

}  // namespace riffle
