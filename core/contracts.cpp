// Contract checks shared by the backends.
#include "core/contracts.h"

#include <utility>

namespace riffle {

ChannelParts::ChannelParts(std::vector<Tensor> parts) : parts_(std::move(parts)) {
  RIFFLE_CHECK(!parts_.empty(), "no parts");
  for (const Tensor& part : parts_)
    RIFFLE_CHECK(part.defined() && part.shape().with_channels(0) == parts_.front().shape().with_channels(0) &&
                     part.dtype() == parts_.front().dtype(),
                 "parts ", part.shape(), " and ", parts_.front().shape(), " do not make one tensor");
}

Shape ChannelParts::shape() const {
  Shape shape = parts_.front().shape().with_channels(0);
  for (const Tensor& part : parts_) shape.c += part.channels();
  return shape;
}

void check_same_shape(const Tensor& a, const Tensor& b, const char* operation) {
  RIFFLE_CHECK(a.defined() && b.defined() && a.shape() == b.shape(), operation, ": shapes ", a.shape(), " and ",
               b.shape(), " differ");
}

void check_parts(const ChannelParts& parts, const Shape& shape, const char* operation) {
  RIFFLE_CHECK(parts.shape() == shape, operation, ": parts make ", parts.shape(), ", expected ", shape);
}

void check_scalars(const Tensor& scalars, const char* operation) {
  RIFFLE_CHECK(scalars.defined() && scalars.shape() == vector_shape(kStepScalars), operation,
               ": expected the step's scalars, a vector of ", int64_t{kStepScalars}, ", got ", scalars.shape());
}

void check_norm_sums(const Tensor& sums, int64_t channels, const char* operation) {
  const Shape expected{1, 1, 2, channels};
  RIFFLE_CHECK(sums.shape() == expected && sums.packed(), operation, ": sums must be a packed ", expected, ", got ",
               sums.shape());
}

void check_norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                          const Tensor& y, const char* operation) {
  RIFFLE_CHECK(window.kernel_h == 3 && window.kernel_w == 3 && (window.stride == 1 || window.stride == 2), operation,
               ": the window is ", window.kernel_h, "x", window.kernel_w, ", stride ", window.stride,
               "; only 3x3 of stride 1 or 2 is fused");
  check_depthwise(x, w, window, y);
  if (before.mean.defined())
    check_vectors({&before.mean, &before.var, &before.gamma, &before.beta}, x.channels(), operation);
}

void check_fold_norm(const Tensor& w, const Tensor& like_w, const BatchNormState& norm, const char* operation) {
  RIFFLE_CHECK(w.packed() && like_w.packed() && w.shape().h == 1 && w.shape().w == 1, operation,
               ": filters must be packed (K,1,1,C), got ", w.shape());
  check_same_shape(w, like_w, operation);
  check_vectors({&norm.mean, &norm.var, &norm.gamma, &norm.beta}, w.channels(), operation);
  RIFFLE_CHECK(!norm.relu, operation, ": a norm with ReLU is not linear");
}

void check_updates(const std::vector<ParameterUpdate>& updates) {
  for (const ParameterUpdate& u : updates) {
    check_same_shape(u.weight, u.grad, "sgd_step");
    check_same_shape(u.weight, u.momentum, "sgd_step");
    if (u.compute_value.defined()) check_same_shape(u.weight, u.compute_value, "sgd_step");
    RIFFLE_CHECK(u.weight.packed() && u.grad.packed() && u.momentum.packed() &&
                     (!u.compute_value.defined() || u.compute_value.packed()),
                 "sgd_step needs packed tensors");
  }
}

void check_averages(const std::vector<Tensor>& averages, const std::vector<Tensor>& values) {
  RIFFLE_CHECK(averages.size() == values.size(), averages.size(), " averages for ", values.size(), " values");
  for (size_t t = 0; t < averages.size(); ++t) {
    check_same_shape(averages[t], values[t], "ema_update");
    RIFFLE_CHECK(averages[t].packed() && values[t].packed(), "ema_update needs packed tensors");
  }
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

void check_targets(const Tensor& logits, const Tensor& targets) {
  const Shape& s = logits.shape();
  RIFFLE_CHECK(s.h == 1 && s.w == 1, "logits must be (N,1,1,K), got ", s);
  RIFFLE_CHECK(targets.defined() && targets.shape() == s, "targets must be ", s, ", as the logits, got ",
               targets.shape());
}

void check_losses(const Tensor& logits, const Tensor& targets, const Tensor& scalars, const Tensor& loss,
                  const Tensor& dlogits, const char* operation) {
  const Shape expected{logits.shape().n, 1, 1, 1};
  RIFFLE_CHECK(loss.shape() == expected && loss.packed(), operation, ": loss must be a packed ", expected, ", got ",
               loss.shape(), " with row pitch ", loss.ld());
  if (dlogits.defined()) check_same_shape(logits, dlogits, operation);
  check_no_overlap(dlogits, {&logits, &targets}, operation);
  if (scalars.defined()) check_scalars(scalars, operation);
}

void check_normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation, const Tensor& y) {
  check_same_shape(images, y, "normalize");
  const int64_t channels = images.channels();
  RIFFLE_CHECK(static_cast<int64_t>(normalisation.mean.size()) == channels &&
                   static_cast<int64_t>(normalisation.std.size()) == channels,
               "images have ", channels, " channels, the normalisation ", normalisation.mean.size(), " means and ",
               normalisation.std.size(), " deviations");
  RIFFLE_CHECK(images.packed(), "images must be packed");
  if (!flips.defined()) return;
  const Shape expected{images.shape().n, 1, 1, 1};
  RIFFLE_CHECK(flips.dtype() == DType::kU8 && flips.shape() == expected && flips.packed(), "flips must be a packed u8 ",
               expected, ", got ", flips.dtype(), " ", flips.shape());
}

void check_image_mix(const ImageMix& mix, const Shape& images) {
  RIFFLE_CHECK(0 <= mix.top && mix.top <= mix.bottom && mix.bottom <= images.h && 0 <= mix.left &&
                   mix.left <= mix.right && mix.right <= images.w,
               "normalize_mixed: rows ", mix.top, " to ", mix.bottom, " and columns ", mix.left, " to ", mix.right,
               " do not lie within images of ", images);
  RIFFLE_CHECK(mix.inside >= 0 && mix.inside <= 1, "normalize_mixed: a share of ", mix.inside, " is not in 0 .. 1");
}

void check_mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                         const Tensor& targets) {
  check_labels(targets, labels);
  check_labels(targets, others);
  RIFFLE_CHECK(share >= 0 && share <= 1 && smoothing >= 0 && smoothing <= 1, "mixed_targets: a share of ", share,
               " and smoothing of ", smoothing, " are not both in 0 .. 1");
}

}  // namespace riffle
