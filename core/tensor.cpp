// Tensor: shapes, views and their printing.
#include "core/tensor.h"

#include <ostream>
#include <utility>

namespace riffle {

size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
      return 8;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kU8:
      return 1;
    case DType::kI32:
      return 4;
  }
  fail("unknown dtype ", static_cast<int>(dtype));
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kU8:
      return "u8";
    case DType::kI32:
      return "i32";
  }
  fail("unknown dtype ", static_cast<int>(dtype));
}

std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name_of(dtype);
}

std::ostream& operator<<(std::ostream& out, Device device) {
  if (device.kind == DeviceKind::kCpu) return out << "cpu";
  return out << "cuda:" << device.index;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.n << 'x' << shape.h << 'x' << shape.w << 'x' << shape.c;
}

Tensor::Tensor(std::shared_ptr<void> storage, Device device, DType dtype, Shape shape, int64_t ld)
    : storage_(std::move(storage)), data_(storage_.get()), device_(device), dtype_(dtype), shape_(shape), ld_(ld) {
  RIFFLE_CHECK(ld >= shape.c, "row pitch ", ld, " is shorter than a row of ", shape);
}

Tensor Tensor::channel_slice(int64_t begin, int64_t count) const {
  RIFFLE_CHECK(begin >= 0 && count > 0 && begin + count <= shape_.c, "channels [", begin, ", ", begin + count, ") of ",
               shape_);
  Tensor view = *this;
  view.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin) * size_of(dtype_);
  view.shape_.c = count;
  if (view.pixels() == 1) view.ld_ = count;  // a part of a vector is a vector
  return view;
}

Tensor Tensor::sample_slice(int64_t begin, int64_t count) const {
  RIFFLE_CHECK(begin >= 0 && count > 0 && begin + count <= shape_.n, "images [", begin, ", ", begin + count, ") of ",
               shape_);
  Tensor view = *this;
  const int64_t image_elements = shape_.h * shape_.w * ld_;
  view.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin * image_elements) * size_of(dtype_);
  view.shape_.n = count;
  return view;
}

Tensor Tensor::reshaped(Shape shape) const {
  RIFFLE_CHECK(packed(), "only packed tensors can be reshaped; ", shape_, " has row pitch ", ld_);
  RIFFLE_CHECK(shape.elements() == shape_.elements(), shape_, " cannot become ", shape);
  Tensor view = *this;
  view.shape_ = shape;
  view.ld_ = shape.c;
  return view;
}

}  // namespace riffle
