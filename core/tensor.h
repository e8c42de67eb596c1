// Tensor: a cheap handle on shared storage. Every tensor has the logical shape N,H,W,C and is stored as a row-major
// matrix of N*H*W pixels x C channels whose rows are `ld` elements apart, so a channel slice is a view that costs
// nothing and a pointwise convolution is a matrix product. Filters use the same four axes: K,R,S,C (depthwise 1,R,S,C);
// vectors are 1,1,1,C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>

#include "core/check.h"

namespace riffle {

enum class DType : uint8_t { kF32, kF64, kBF16, kF16, kU8, kI32 };

size_t size_of(DType dtype);       // bytes of one element
const char* name_of(DType dtype);  // "f32", "bf16", ...
std::ostream& operator<<(std::ostream& out, DType dtype);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};

enum class DeviceKind : uint8_t { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;
  bool operator==(const Device& other) const { return kind == other.kind && index == other.index; }
};
std::ostream& operator<<(std::ostream& out, Device device);  // "cpu", "cuda:0"

struct Shape {
  int64_t n = 1, h = 1, w = 1, c = 1;

  int64_t pixels() const { return n * h * w; }
  int64_t elements() const { return n * h * w * c; }
  bool operator==(const Shape& other) const { return n == other.n && h == other.h && w == other.w && c == other.c; }
  bool operator!=(const Shape& other) const { return !(*this == other); }
  Shape with_channels(int64_t channels) const { return {n, h, w, channels}; }
};
std::ostream& operator<<(std::ostream& out, const Shape& shape);  // "2x7x7x58"

inline Shape vector_shape(int64_t size) {
  return {1, 1, 1, size};
}

class Tensor {
 public:
  Tensor() = default;
  // `storage` owns at least shape.pixels() * ld elements of `dtype`; the handle shares it.
  Tensor(std::shared_ptr<void> storage, Device device, DType dtype, Shape shape, int64_t ld);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int64_t ld() const { return ld_; }  // elements between two pixels; >= shape().c
  int64_t pixels() const { return shape_.pixels(); }
  int64_t channels() const { return shape_.c; }
  int64_t elements() const { return shape_.elements(); }
  bool packed() const { return ld_ == shape_.c; }

  // Pointer to element (0,0,0,0). The typed form checks the dtype.
  void* raw() const { return data_; }
  template <class T>
  T* data() const {
    RIFFLE_CHECK(defined(), "an undefined tensor was passed where one is needed");
    RIFFLE_CHECK(DTypeOf<T>::value == dtype_, "tensor ", shape_, " holds ", dtype_, ", asked for ", DTypeOf<T>::value);
    return static_cast<T*>(data_);
  }

  // Views; no data moves. channel_slice keeps ld; sample_slice takes `count` images from `begin`.
  Tensor channel_slice(int64_t begin, int64_t count) const;
  Tensor sample_slice(int64_t begin, int64_t count) const;
  // The same elements under another shape of equal size. Packed tensors only.
  Tensor reshaped(Shape shape) const;
  // True when both handles share one allocation (views of it included).
  bool shares_storage(const Tensor& other) const { return storage_ == other.storage_; }

 private:
  std::shared_ptr<void> storage_;
  void* data_ = nullptr;
  Device device_;
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t ld_ = 0;
};

}  // namespace riffle
