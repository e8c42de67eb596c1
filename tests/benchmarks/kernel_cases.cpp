// Bytes are counted by formula: each activation an operation reads or writes, once a pass. Vectors of channels are left
// out (they are a thousandth). What a kernel re-reads or keeps in scratch memory is its own affair.
#include "tests/benchmarks/kernel_cases.h"

#include <algorithm>
#include <utility>

#include "core/rng.h"

namespace riffle {
namespace {

class Cases {
 public:
  Cases(Backend& backend, const KernelCases& cases, KernelTimer& timer)
      : backend_(backend), cases_(cases), timer_(timer) {}

  void device_copy();
  void movement();
  void shuffles();
  void depthwise(const Shape& in, int64_t stride);
  void norms(const Shape& in);
  void norm_depthwise(const Shape& in, int64_t stride);
  void stem_norm_pool();
  void head();
  void optimizer();
  void pointwise(const Shape& in, int64_t outputs);
  void stem_convolution();

  // (batch,H,W,C) where an image's side is divided by `divisor`.
  Shape at(int64_t divisor, int64_t channels) const {
    return {cases_.batch, cases_.size / divisor, cases_.size / divisor, channels};
  }

 private:
  double size_of_activation() const { return static_cast<double>(size_of(backend_.dtype())); }
  // Bytes of activations of these many elements.
  double bytes(int64_t elements) const { return static_cast<double>(elements) * size_of_activation(); }
  Tensor filled(const Shape& shape, DType dtype);
  Tensor filled(const Shape& shape) { return filled(shape, backend_.dtype()); }
  Tensor vector(int64_t channels, double value) {
    Tensor made = backend_.empty_parameter(vector_shape(channels));
    backend_.fill(value, made);
    return made;
  }
  BatchNormState norm_of(const Tensor& x, bool relu);

  Backend& backend_;
  const KernelCases& cases_;
  KernelTimer& timer_;
};

// Random values, the same for every image: constant ones draw less power, and faster clocks, than a network's.
Tensor Cases::filled(const Shape& shape, DType dtype) {
  RandomStream random(/*seed=*/1, RandomPurpose::kTest);
  Shape first = shape;
  first.n = 1;
  std::vector<float> values(static_cast<size_t>(first.elements()));
  std::generate(values.begin(), values.end(), [&random] { return static_cast<float>(random.normal()); });
  Tensor tensor = backend_.empty(shape, dtype);
  backend_.upload(values.data(), DType::kF32, tensor.sample_slice(0, 1));
  for (int64_t done = 1; done < shape.n; done *= 2) {
    const int64_t count = std::min(done, shape.n - done);
    backend_.copy(tensor.sample_slice(0, count), Write::kOverwrite, tensor.sample_slice(done, count));
  }
  return tensor;
}

BatchNormState Cases::norm_of(const Tensor& x, bool relu) {
  const int64_t channels = x.channels();
  BatchNormState norm{vector(channels, 0), vector(channels, 1), vector(channels, 1), vector(channels, 0)};
  norm.relu = relu;
  backend_.batch_norm_statistics(x, norm.mean, norm.var);
  return norm;
}

Window window3x3(int64_t stride) {
  return {3, 3, stride, Padding::all(1)};
}

Shape output_of(const Shape& in, const Window& window, int64_t channels) {
  return {in.n, window.out_h(in.h), window.out_w(in.w), channels};
}

void Cases::device_copy() {
  const Tensor x = filled(at(2, 24)), y = backend_.empty(x.shape());
  timer_.measure("device copy", x.shape(), bytes(2 * x.elements()), [&] { backend_.copy(x, Write::kOverwrite, y); });
}

void Cases::movement() {
  const Shape image = at(1, 3);
  const Tensor pixels = backend_.empty(image, DType::kU8), y = backend_.empty(image);
  const std::vector<uint8_t> values(static_cast<size_t>(image.elements()), 100);
  backend_.upload(values.data(), DType::kU8, pixels);
  timer_.measure("normalize", image, static_cast<double>(image.elements()) + bytes(image.elements()),
                 [&] { backend_.normalize(pixels, Tensor{}, Normalisation{}, y); });
}

void Cases::shuffles() {
  const Tensor whole = filled(at(8, 116)), shuffled = backend_.empty(whole.shape());
  const Tensor a = filled(at(8, 58)), b = filled(at(8, 58));
  const double moved = bytes(2 * whole.elements());
  timer_.measure("interleave", whole.shape(), moved, [&] { backend_.interleave(a, b, shuffled); });
  timer_.measure("deinterleave", whole.shape(), moved, [&] { backend_.deinterleave(whole, a, b); });
  timer_.measure("channel_shuffle", whole.shape(), moved, [&] { backend_.channel_shuffle(whole, 2, shuffled); });
  timer_.measure("copy, accumulate", whole.shape(), bytes(3 * whole.elements()),
                 [&] { backend_.copy(whole, Write::kAccumulate, shuffled); });
}

void Cases::depthwise(const Shape& in, int64_t stride) {
  const Window window = window3x3(stride);
  const std::string suffix = stride == 1 ? ", stride 1" : ", stride 2";
  const Tensor x = filled(in), w = filled({1, 3, 3, in.c}), y = filled(output_of(in, window, in.c));
  const Tensor dw = backend_.empty_parameter({1, 3, 3, in.c});
  const double moved = bytes(x.elements() + y.elements());
  timer_.measure("depthwise" + suffix, in, moved, [&] { backend_.depthwise(x, w, window, {}, y); });
  timer_.measure("depthwise_backward_data" + suffix, in, moved,
                 [&] { backend_.depthwise_backward_data(y, w, window, Write::kOverwrite, x); });
  timer_.measure("depthwise_backward_weights" + suffix, in, moved,
                 [&] { backend_.depthwise_backward_weights(x, y, window, Write::kOverwrite, dw); });
}

void Cases::norms(const Shape& in) {
  const Tensor x = filled(in), y = backend_.empty(in), dy = filled(in), dx = backend_.empty(in);
  const BatchNormState norm = norm_of(x, true);
  const Tensor mean = vector(in.c, 0), var = vector(in.c, 0), dgamma = vector(in.c, 0), dbeta = vector(in.c, 0);
  timer_.measure("batch_norm_statistics", in, bytes(in.elements()),
                 [&] { backend_.batch_norm_statistics(x, mean, var); });
  timer_.measure("batch_norm_apply", in, bytes(2 * in.elements()), [&] {
    backend_.batch_norm_apply(x, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, norm.relu, y);
  });
  // Two passes: the sums over x and dy come first.
  timer_.measure("batch_norm_backward", in, bytes(5 * in.elements()), [&] {
    backend_.batch_norm_backward(x, dy, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, norm.relu,
                                 Write::kOverwrite, dx, dgamma, dbeta);
  });
}

void Cases::norm_depthwise(const Shape& in, int64_t stride) {
  const Window window = window3x3(stride);
  const std::string suffix = stride == 1 ? ", stride 1" : ", stride 2";
  const Tensor x = filled(in), w = filled({1, 3, 3, in.c}), dx = backend_.empty(in);
  const Tensor y = backend_.empty(output_of(in, window, in.c)), dy = filled(y.shape());
  const BatchNormState before = norm_of(x, true);
  const Tensor mean = vector(in.c, 0), var = vector(in.c, 0), from_y = vector(in.c, 0);
  const Tensor dw = backend_.empty_parameter({1, 3, 3, in.c}), sums = backend_.empty_parameter({1, 1, 2, in.c});
  timer_.measure("norm_depthwise" + suffix, in, bytes(x.elements() + y.elements()),
                 [&] { backend_.norm_depthwise(x, before, w, window, mean, var, y); });
  timer_.measure("norm_depthwise_backward" + suffix, in, bytes(2 * x.elements() + 2 * y.elements()), [&] {
    backend_.norm_depthwise_backward(x, before, w, window, y, mean, from_y, dy, Write::kOverwrite, dx,
                                     Write::kOverwrite, dw, sums);
  });
}

void Cases::stem_norm_pool() {
  const Shape in = at(2, 24);
  const Window window = window3x3(2);
  const Tensor x = filled(in), y = backend_.empty(output_of(in, window, in.c)), dy = filled(y.shape());
  const Tensor winner = backend_.empty(y.shape(), DType::kU8), dx = backend_.empty(in);
  const BatchNormState norm = norm_of(x, true);
  const Tensor dgamma = vector(in.c, 0), dbeta = vector(in.c, 0);
  const auto winners = static_cast<double>(y.elements());
  timer_.measure("batch_norm_max_pool", in, bytes(x.elements() + y.elements()) + winners, [&] {
    backend_.batch_norm_max_pool(x, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, window, y, winner);
  });
  // Two passes: the sums come first.
  timer_.measure("batch_norm_max_pool_backward", in, bytes(3 * x.elements() + 2 * y.elements()) + 2 * winners, [&] {
    backend_.batch_norm_max_pool_backward(x, dy, winner, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, window,
                                          Write::kOverwrite, dx, dgamma, dbeta);
  });
  timer_.measure("max_pool", in, bytes(x.elements() + y.elements()) + winners,
                 [&] { backend_.max_pool(x, window, y, winner); });
  timer_.measure("max_pool_backward", in, bytes(x.elements() + y.elements()) + winners,
                 [&] { backend_.max_pool_backward(dy, winner, window, dx); });
}

void Cases::head() {
  const Shape in = at(32, 1024);
  const Tensor x = filled(in), y = filled({in.n, 1, 1, in.c});
  const double moved = bytes(x.elements() + y.elements());
  timer_.measure("global_average_pool", in, moved, [&] { backend_.global_average_pool(x, y); });
  timer_.measure("global_average_pool_backward", in, moved, [&] { backend_.global_average_pool_backward(y, x); });
  const Tensor logits = filled({in.n, 1, 1, 1000}), dlogits = backend_.empty(logits.shape());
  const Tensor labels = backend_.empty({in.n, 1, 1, 1}, DType::kI32), loss = backend_.empty_parameter({in.n, 1, 1, 1});
  const std::vector<int32_t> classes(static_cast<size_t>(in.n), 7);
  backend_.upload(classes.data(), DType::kI32, labels);
  timer_.measure("softmax_cross_entropy", logits.shape(), bytes(2 * logits.elements()), [&] {
    backend_.softmax_cross_entropy(logits, labels, 0.1, 1.0 / static_cast<double>(in.n), {}, loss, dlogits);
  });
}

// As many parameters as 1.0x has, in its largest tensor and many small ones.
void Cases::optimizer() {
  std::vector<ParameterUpdate> updates;
  std::vector<Tensor> grads, averages, values;
  int64_t parameters = 0;
  const auto add = [&](const Shape& shape) {
    const auto parameter = [&] { return filled(shape, backend_.parameter_dtype()); };
    ParameterUpdate update{parameter(), parameter(), parameter(), 4e-5};
    update.compute_value = filled(shape);
    updates.push_back(update);
    grads.push_back(update.grad);
    values.push_back(update.weight);
    averages.push_back(parameter());
    parameters += shape.elements();
  };
  add({1000, 1, 1, 1024});
  for (int i = 0; i < 56; ++i) add({116, 1, 1, 192});
  const Tensor scalars = backend_.empty_parameter(vector_shape(kStepScalars));
  std::vector<float> scalar_values(kStepScalars, 1);
  scalar_values[kLearningRate] = 0;  // the same weights at every step
  backend_.upload(scalar_values.data(), DType::kF32, scalars);
  const Tensor sum = backend_.empty({1, 1, 1, 1}, DType::kF64);
  const auto f32_bytes = 4.0 * static_cast<double>(parameters);
  const Shape all = vector_shape(parameters);
  // Weight and momentum are read and written, the gradient read, the network's copy of the weight written.
  timer_.measure("sgd_step", all, 5 * f32_bytes + bytes(parameters), [&] { backend_.sgd_step(updates, {}, scalars); });
  timer_.measure("squared_norm", all, f32_bytes, [&] { backend_.squared_norm(grads, sum); });
  timer_.measure("ema_update", all, 3 * f32_bytes, [&] { backend_.ema_update(averages, values, scalars); });
}

void Cases::pointwise(const Shape& in, int64_t outputs) {
  const Tensor x = filled(in), w = filled({outputs, 1, 1, in.c}), y = filled(in.with_channels(outputs));
  const Tensor dw = backend_.empty_parameter(w.shape());
  const double moved = bytes(x.elements() + y.elements());
  timer_.measure("pointwise", in, moved, [&] { backend_.pointwise(x, w, {}, y); });
  timer_.measure("pointwise_backward_data", in, moved,
                 [&] { backend_.pointwise_backward_data(y, w, Write::kOverwrite, x); });
  timer_.measure("pointwise_backward_weights", in, moved,
                 [&] { backend_.pointwise_backward_weights(x, y, Write::kOverwrite, dw); });
}

void Cases::stem_convolution() {
  const Shape in = at(1, 3);
  const Window window = window3x3(2);
  const Tensor x = filled(in), w = filled({24, 3, 3, 3}), y = filled(output_of(in, window, 24));
  const Tensor dw = backend_.empty_parameter(w.shape());
  const double moved = bytes(x.elements() + y.elements());
  timer_.measure("conv2d, stem", in, moved, [&] { backend_.conv2d(x, w, window, 1, {}, y); });
  timer_.measure("conv2d_backward_weights, stem", in, moved,
                 [&] { backend_.conv2d_backward_weights(x, y, window, 1, Write::kOverwrite, dw); });
}

}  // namespace

void time_device_copy(Backend& backend, const KernelCases& cases, KernelTimer& timer) {
  Cases(backend, cases, timer).device_copy();
}

void time_own_kernels(Backend& backend, const KernelCases& cases, KernelTimer& timer) {
  Cases all(backend, cases, timer);
  all.movement();
  all.shuffles();
  all.depthwise(all.at(4, 24), 2);
  all.depthwise(all.at(8, 58), 1);
  all.norms(all.at(8, 58));
  all.norm_depthwise(all.at(4, 58), 2);
  for (const auto& [divisor, channels] : {std::pair(8, 58), std::pair(16, 116), std::pair(32, 232)})
    all.norm_depthwise(all.at(divisor, channels), 1);
  all.stem_norm_pool();
  all.head();
  all.optimizer();
}

void time_library_kernels(Backend& backend, const KernelCases& cases, KernelTimer& timer) {
  Cases all(backend, cases, timer);
  all.stem_convolution();
  all.pointwise(all.at(4, 24), 58);
  all.pointwise(all.at(8, 58), 58);
  all.pointwise(all.at(16, 116), 116);
  all.pointwise(all.at(32, 232), 232);
  all.pointwise(all.at(32, 464), 1024);
}

}  // namespace riffle
