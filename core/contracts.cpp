// Contract checks shared by the backends.
#include "core/contracts.h"

namespace riffle {

void check_same_shape(const Tensor& a, const Tensor& b, const char* operation) {
  RIFFLE_CHECK(a.defined() && b.defined() && a.shape() == b.shape(), operation, ": shapes ", a.shape(), " and ",
               b.shape(), " differ");
}

void check_vectors(std::initializer_list<const Tensor*> vectors, int64_t channels, const char* operation) {
  for (const Tensor* vector : vectors)
    RIFFLE_CHECK(vector->defined() && vector->shape() == vector_shape(channels), operation, ": expected a vector of ",
                 channels, ", got ", vector->shape());
}

namespace {

// Views of one storage. With equal row pitches they can lie side by side, as channel slices do.
bool overlap(const Tensor& a, const Tensor& b) {
  const auto address = [](const Tensor& t) { return reinterpret_cast<intptr_t>(t.raw()); };
  const auto bytes = [](const Tensor& t) {
    return ((t.pixels() - 1) * t.ld() + t.channels()) * static_cast<int64_t>(size_of(t.dtype()));
  };
  if (address(a) + bytes(a) <= address(b) || address(b) + bytes(b) <= address(a)) return false;
  const auto pitch = [](const Tensor& t) { return t.ld() * static_cast<int64_t>(size_of(t.dtype())); };
  if (pitch(a) != pitch(b)) return true;
  const int64_t row = pitch(a);
  const int64_t offset = ((address(b) - address(a)) % row + row) % row;  // of b's row behind a's
  const int64_t a_width = a.channels() * static_cast<int64_t>(size_of(a.dtype()));
  const int64_t b_width = b.channels() * static_cast<int64_t>(size_of(b.dtype()));
  return offset < a_width || offset + b_width > row;
}

}  // namespace

void check_no_overlap(const Tensor& output, std::initializer_list<const Tensor*> inputs, const char* operation) {
  for (const Tensor* input : inputs)
    RIFFLE_CHECK(!input->defined() || !output.defined() || !overlap(output, *input), operation, ": the output ",
                 output.shape(), " overlaps an input, ", input->shape());
}

void check_window_fits(const Window& window, const Shape& input, const char* operation) {
  const Padding& p = window.padding;
  RIFFLE_CHECK(window.stride > 0 && window.kernel_h > 0 && window.kernel_w > 0 && p.top >= 0 && p.bottom >= 0 &&
                   p.left >= 0 && p.right >= 0,
               operation, ": window ", window.kernel_h, "x", window.kernel_w, ", stride ", window.stride, ", padding ",
               p.top, ",", p.bottom, ",", p.left, ",", p.right);
  RIFFLE_CHECK(input.h + p.top + p.bottom >= window.kernel_h && input.w + p.left + p.right >= window.kernel_w,
               operation, ": input ", input, " is smaller than its ", window.kernel_h, "x", window.kernel_w, " window");
}

void check_window(const Tensor& x, const Window& window, const Tensor& y, int64_t channels, const char* operation) {
  check_window_fits(window, x.shape(), operation);
  const Shape expected{x.shape().n, window.out_h(x.shape().h), window.out_w(x.shape().w), channels};
  RIFFLE_CHECK(y.shape() == expected, operation, ": input ", x.shape(), " gives ", expected, ", got ", y.shape());
}

void check_depthwise(const Tensor& x, const Tensor& w, const Window& window, const Tensor& y) {
  const Shape expected{1, window.kernel_h, window.kernel_w, x.channels()};
  RIFFLE_CHECK(w.shape() == expected && w.packed(), "depthwise: filter must be ", expected, ", got ", w.shape());
  check_window(x, window, y, x.channels(), "depthwise");
}

void check_conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups, const Tensor& y) {
  RIFFLE_CHECK(groups > 0 && x.channels() % groups == 0 && w.shape().n % groups == 0, "conv2d: ", groups,
               " groups divide neither ", x.channels(), " inputs nor ", w.shape().n, " outputs evenly");
  const Shape expected{w.shape().n, window.kernel_h, window.kernel_w, x.channels() / groups};
  RIFFLE_CHECK(w.shape() == expected && w.packed(), "conv2d: filter must be ", expected, ", got ", w.shape());
  RIFFLE_CHECK(x.packed() && y.packed(), "conv2d needs packed tensors; row pitches are ", x.ld(), " and ", y.ld());
  check_window(x, window, y, w.shape().n, "conv2d");
}

void check_pointwise(const Tensor& x, const Tensor& w, const Tensor& y) {
  const Shape filter{w.shape().n, 1, 1, x.channels()};
  RIFFLE_CHECK(w.shape() == filter && w.packed(), "pointwise: filter must be ", filter, ", got ", w.shape());
  const Shape expected = x.shape().with_channels(w.shape().n);
  RIFFLE_CHECK(y.shape() == expected, "pointwise: expected ", expected, ", got ", y.shape());
}

void check_max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner,
                    const char* operation) {
  check_window(x, window, y, x.channels(), operation);
  check_same_shape(y, winner, operation);
  check_no_overlap(y, {&x}, operation);
  RIFFLE_CHECK(winner.packed() && winner.dtype() == DType::kU8, operation, ": winner must be packed u8");
  const Padding& p = window.padding;
  RIFFLE_CHECK(p.top < window.kernel_h && p.bottom < window.kernel_h && p.left < window.kernel_w &&
                   p.right < window.kernel_w && window.kernel_h * window.kernel_w <= 256,
               operation, ": window ", window.kernel_h, "x", window.kernel_w,
               " must be larger than its padding and hold at most 256 taps");
}

void check_halves(const Tensor& a, const Tensor& b, const Tensor& whole, const char* operation) {
  check_same_shape(a, b, operation);
  const Shape expected = a.shape().with_channels(2 * a.channels());
  RIFFLE_CHECK(whole.shape() == expected, operation, ": halves ", a.shape(), " make ", expected, ", got ",
               whole.shape());
}

void check_epilogue(const Epilogue& epilogue, int64_t outputs, const char* operation) {
  if (epilogue.bias.defined()) check_vectors({&epilogue.bias}, outputs, operation);
  if (!epilogue.mean.defined() && !epilogue.var.defined()) return;
  check_vectors({&epilogue.mean, &epilogue.var}, outputs, operation);
  RIFFLE_CHECK(!epilogue.bias.defined() && !epilogue.relu, operation,
               ": statistics are of the convolution alone, without bias and ReLU");
}

void check_labels(const Tensor& logits, const Tensor& labels) {
  const Shape& s = logits.shape();
  RIFFLE_CHECK(s.h == 1 && s.w == 1, "logits must be (N,1,1,K), got ", s);
  RIFFLE_CHECK(labels.dtype() == DType::kI32 && labels.shape() == (Shape{s.n, 1, 1, 1}), "labels must be i32 ",
               (Shape{s.n, 1, 1, 1}), ", got ", labels.dtype(), " ", labels.shape());
  RIFFLE_CHECK(labels.packed(), "labels must be packed");
}

}  // namespace riffle
