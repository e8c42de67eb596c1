// HostTensor: element counts that cannot overflow, and conversions of elements.
#include "train/checkpoint/host_tensor.h"

#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

namespace riffle {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "HostTensor::bytes are copied from and to memory as they are");

namespace {

struct Description {
  const char* name;
  size_t size_bytes;
};

// In the order of FileDType.
constexpr Description kDescriptions[] = {{"f64", 8},     {"f32", 4}, {"f16", 2}, {"bf16", 2}, {"f8_e4m3", 1},
                                         {"f8_e5m2", 1}, {"i64", 8}, {"i32", 4}, {"i16", 2},  {"i8", 1},
                                         {"u64", 8},     {"u32", 4}, {"u16", 2}, {"u8", 1},   {"bool", 1}};
static_assert(std::size(kDescriptions) == static_cast<size_t>(FileDType::kBool) + 1);

const Description& description_of(FileDType dtype) {
  const auto index = static_cast<size_t>(dtype);
  RIFFLE_CHECK(index < std::size(kDescriptions), "dtype ", index);
  return kDescriptions[index];
}

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

size_t size_of(FileDType dtype) {
  return description_of(dtype).size_bytes;
}

const char* name_of(FileDType dtype) {
  return description_of(dtype).name;
}

std::ostream& operator<<(std::ostream& out, FileDType dtype) {
  return out << name_of(dtype);
}

bool converts_to_f32(FileDType dtype) {
  return dtype <= FileDType::kBF16;
}

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
      case FileDType::kF32:
        values[i] = element<float>(tensor.bytes, i);
        break;
      case FileDType::kF64:
        values[i] = from_f64(element<double>(tensor.bytes, i), i, what);
        break;
      case FileDType::kF16:
        values[i] = from_f16(element<uint16_t>(tensor.bytes, i));
        break;
      case FileDType::kBF16:
        values[i] = from_bf16(element<uint16_t>(tensor.bytes, i));
        break;
      default:
        fail(what, " holds ", tensor.dtype, "; expected floating point (f32, f64, f16 or bf16)");
    }
  }
  return values;
}

}  // namespace riffle
