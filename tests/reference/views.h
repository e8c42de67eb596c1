// Checked views for the reference: a tensor argument becomes elements indexed as in the formulas, after its dtype,
// shape and packing are verified by name.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/backend.h"

namespace riffle::reference {

template <class T>
class View {
 public:
  // Any shape.
  View(const char* name, const Tensor& tensor) : tensor_(tensor) {
    RIFFLE_CHECK(tensor.defined(), name, " is absent");
    data_ = tensor.data<T>();
  }
  View(const char* name, const Tensor& tensor, const Shape& expected) : View(name, tensor) {
    RIFFLE_CHECK(tensor.shape() == expected, name, " is ", tensor.shape(), ", expected ", expected);
  }

  const Shape& shape() const { return tensor_.shape(); }
  int64_t pixels() const { return tensor_.pixels(); }
  int64_t channels() const { return tensor_.channels(); }

  T& operator()(int64_t pixel, int64_t c) const { return data_[pixel * tensor_.ld() + c]; }
  T& operator()(int64_t n, int64_t h, int64_t w, int64_t c) const {
    return (*this)((n * shape().h + h) * shape().w + w, c);
  }
  // Element of a packed vector, or of a packed tensor read as one.
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  Tensor tensor_;
  T* data_ = nullptr;
};

using Elements = View<double>;

// A tensor that the contract calls packed.
template <class T = double>
View<T> packed_view(const char* name, const Tensor& tensor, const Shape& expected) {
  View<T> view(name, tensor, expected);
  RIFFLE_CHECK(tensor.packed(), name, " ", tensor.shape(), " must be packed, its row pitch is ", tensor.ld());
  return view;
}

inline Elements vector_view(const char* name, const Tensor& tensor, int64_t channels) {
  return packed_view(name, tensor, vector_shape(channels));
}

// Whether two views of one allocation have an element in common.
bool overlap(const Tensor& a, const Tensor& b);
// Throws if `output` overlaps one of `inputs` (absent ones are ignored).
void check_disjoint(const char* name, const Tensor& output, std::initializer_list<Tensor> inputs);
// The same, but `output` may be exactly `twin`.
void check_same_or_disjoint(const char* name, const Tensor& output, const Tensor& twin);
// Throws unless the window fits: positive sizes, padding smaller than the kernel, at least one output pixel.
void check_window(const Window& window, const Shape& x);

// y = value or y += value.
inline void store(double& y, double value, Write write) {
  y = write == Write::kAccumulate ? y + value : value;
}

}  // namespace riffle::reference
