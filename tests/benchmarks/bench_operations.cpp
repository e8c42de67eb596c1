// Times the CPU backend's operations on ShuffleNetV2 1.0x's shapes at 224x224, batch 32. Each row reports GFLOP/s where
// arithmetic counts and GB/s of compulsory traffic (each tensor read or written once) where memory does.
// Usage: bench_operations [--benchmark_filter=depthwise]; threads from OMP_NUM_THREADS.
#include <benchmark/benchmark.h>

#include "core/cpu/cpu_backend.h"
#include "layers/dialect.h"

namespace riffle {
namespace {

Backend& backend() {
  static const std::unique_ptr<Backend> cpu = make_cpu_backend(0);
  return *cpu;
}

Tensor filled(Shape shape) {
  const Tensor tensor = backend().empty(shape);
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) * 0.1f - 0.8f;
  backend().upload(values.data(), DType::kF32, tensor);
  return tensor;
}

void report(benchmark::State& state, int64_t macs, int64_t floats_moved) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  if (macs > 0) state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(macs), rate);
  state.counters["GB/s"] = benchmark::Counter(4e-9 * static_cast<double>(floats_moved), rate);
}

// Arguments: height = width, input channels, output channels.
struct PointwiseCase {
  Tensor x, w, y;
  explicit PointwiseCase(const benchmark::State& state)
      : x(filled({32, state.range(0), state.range(0), state.range(1)})),
        w(filled({state.range(2), 1, 1, state.range(1)})),
        y(filled({32, state.range(0), state.range(0), state.range(2)})) {}
  void finish(benchmark::State& state) const {
    report(state, x.elements() * y.channels(), x.elements() + w.elements() + y.elements());
  }
};

void pointwise(benchmark::State& state) {
  const PointwiseCase c(state);
  for (auto _ : state) backend().pointwise(c.x, c.w, {}, c.y);
  c.finish(state);
}
void pointwise_backward_data(benchmark::State& state) {
  const PointwiseCase c(state);
  for (auto _ : state) backend().pointwise_backward_data(c.y, c.w, Write::kOverwrite, c.x);
  c.finish(state);
}
void pointwise_backward_weights(benchmark::State& state) {
  const PointwiseCase c(state);
  for (auto _ : state) backend().pointwise_backward_weights(c.x, c.y, Write::kOverwrite, c.w);
  c.finish(state);
}
#define POINTWISE_SHAPES \
  Args({56, 24, 58})->Args({28, 58, 58})->Args({14, 116, 116})->Args({7, 232, 232})->Args({7, 464, 1024})
BENCHMARK(pointwise)->POINTWISE_SHAPES->UseRealTime();
BENCHMARK(pointwise_backward_data)->POINTWISE_SHAPES->UseRealTime();
BENCHMARK(pointwise_backward_weights)->POINTWISE_SHAPES->UseRealTime();

// Arguments: height = width of the input, channels, stride.
struct DepthwiseCase {
  Window window;
  Tensor x, w, y;
  explicit DepthwiseCase(const benchmark::State& state)
      : window(dialect_window(Dialect::kTorchvision, 3, state.range(2), state.range(0), state.range(0))),
        x(filled({32, state.range(0), state.range(0), state.range(1)})),
        w(filled({1, 3, 3, state.range(1)})),
        y(filled({32, window.out_h(state.range(0)), window.out_w(state.range(0)), state.range(1)})) {}
  void finish(benchmark::State& state) const { report(state, 9 * y.elements(), x.elements() + y.elements()); }
};

void depthwise(benchmark::State& state) {
  const DepthwiseCase c(state);
  for (auto _ : state) backend().depthwise(c.x, c.w, c.window, {}, c.y);
  c.finish(state);
}
void depthwise_backward_data(benchmark::State& state) {
  const DepthwiseCase c(state);
  for (auto _ : state) backend().depthwise_backward_data(c.y, c.w, c.window, Write::kOverwrite, c.x);
  c.finish(state);
}
void depthwise_backward_weights(benchmark::State& state) {
  const DepthwiseCase c(state);
  for (auto _ : state) backend().depthwise_backward_weights(c.x, c.y, c.window, Write::kOverwrite, c.w);
  c.finish(state);
}
#define DEPTHWISE_SHAPES Args({56, 58, 2})->Args({28, 58, 1})->Args({14, 116, 1})->Args({7, 232, 1})
BENCHMARK(depthwise)->DEPTHWISE_SHAPES->UseRealTime();
BENCHMARK(depthwise_backward_data)->DEPTHWISE_SHAPES->UseRealTime();
BENCHMARK(depthwise_backward_weights)->DEPTHWISE_SHAPES->UseRealTime();

void stem(benchmark::State& state) {
  const Tensor x = filled({32, 224, 224, 3}), w = filled({24, 3, 3, 3}), y = filled({32, 112, 112, 24});
  const Window window = dialect_window(Dialect::kTorchvision, 3, 2, 224, 224);
  for (auto _ : state) backend().conv2d(x, w, window, 1, {}, y);
  report(state, y.elements() * 27, x.elements() + y.elements());
}
void stem_backward_weights(benchmark::State& state) {
  const Tensor x = filled({32, 224, 224, 3}), dw = filled({24, 3, 3, 3}), dy = filled({32, 112, 112, 24});
  const Window window = dialect_window(Dialect::kTorchvision, 3, 2, 224, 224);
  for (auto _ : state) backend().conv2d_backward_weights(x, dy, window, 1, Write::kOverwrite, dw);
  report(state, dy.elements() * 27, x.elements() + dy.elements());
}
void max_pool(benchmark::State& state) {
  const Tensor x = filled({32, 112, 112, 24}), y = filled({32, 56, 56, 24});
  const Tensor winner = backend().empty(y.shape(), DType::kU8);
  const Window window = dialect_window(Dialect::kTorchvision, 3, 2, 112, 112);
  for (auto _ : state) backend().max_pool(x, window, y, winner);
  report(state, 0, x.elements() + y.elements());
}
void max_pool_backward(benchmark::State& state) {
  const Tensor x = filled({32, 112, 112, 24}), y = filled({32, 56, 56, 24});
  const Tensor winner = backend().empty(y.shape(), DType::kU8);
  const Window window = dialect_window(Dialect::kTorchvision, 3, 2, 112, 112);
  backend().max_pool(x, window, y, winner);
  for (auto _ : state) backend().max_pool_backward(y, winner, window, x);
  report(state, 0, x.elements() + y.elements());
}
BENCHMARK(stem)->UseRealTime();
BENCHMARK(stem_backward_weights)->UseRealTime();
BENCHMARK(max_pool)->UseRealTime();
BENCHMARK(max_pool_backward)->UseRealTime();

// Arguments: height = width, channels.
#define STAGE_SHAPES Args({112, 24})->Args({28, 58})->Args({14, 116})->Args({7, 232})

void batch_norm_training(benchmark::State& state) {
  const Shape shape{32, state.range(0), state.range(0), state.range(1)};
  const Tensor x = filled(shape), y = filled(shape);
  const Tensor mean = filled(vector_shape(shape.c)), var = filled(vector_shape(shape.c));
  const Tensor gamma = filled(vector_shape(shape.c)), beta = filled(vector_shape(shape.c));
  for (auto _ : state) {
    backend().batch_norm_statistics(x, mean, var);
    backend().batch_norm_apply(x, mean, var, gamma, beta, 1e-5, true, y);
  }
  report(state, 0, 3 * x.elements());
}
void batch_norm_backward(benchmark::State& state) {
  const Shape shape{32, state.range(0), state.range(0), state.range(1)};
  const Tensor x = filled(shape), dy = filled(shape), dx = filled(shape);
  const Tensor mean = filled(vector_shape(shape.c)), var = filled(vector_shape(shape.c));
  const Tensor gamma = filled(vector_shape(shape.c)), beta = filled(vector_shape(shape.c));
  const Tensor dgamma = filled(vector_shape(shape.c)), dbeta = filled(vector_shape(shape.c));
  backend().batch_norm_statistics(x, mean, var);
  for (auto _ : state)
    backend().batch_norm_backward(x, dy, mean, var, gamma, beta, 1e-5, true, Write::kOverwrite, dx, dgamma, dbeta);
  report(state, 0, 5 * x.elements());
}
void interleave(benchmark::State& state) {
  const Shape half{32, state.range(0), state.range(0), state.range(1)};
  const Tensor a = filled(half), b = filled(half), y = filled(half.with_channels(2 * half.c));
  for (auto _ : state) backend().interleave(a, b, y);
  report(state, 0, 2 * y.elements());
}
void deinterleave(benchmark::State& state) {
  const Shape half{32, state.range(0), state.range(0), state.range(1)};
  const Tensor x = filled(half.with_channels(2 * half.c)), a = filled(half), b = filled(half);
  for (auto _ : state) backend().deinterleave(x, a, b);
  report(state, 0, 2 * x.elements());
}
void channel_shuffle(benchmark::State& state) {
  const Shape shape{32, state.range(0), state.range(0), 2 * state.range(1)};
  const Tensor x = filled(shape), y = filled(shape);
  for (auto _ : state) backend().channel_shuffle(x, 2, y);
  report(state, 0, 2 * y.elements());
}
void copy(benchmark::State& state) {
  const Shape shape{32, state.range(0), state.range(0), 2 * state.range(1)};
  const Tensor x = filled(shape), y = filled(shape);
  for (auto _ : state) backend().copy(x, Write::kOverwrite, y);
  report(state, 0, 2 * y.elements());
}
void copy_accumulate(benchmark::State& state) {
  const Shape shape{32, state.range(0), state.range(0), 2 * state.range(1)};
  const Tensor x = filled(shape), y = filled(shape);
  backend().fill(0, x);  // or y would grow without bound
  for (auto _ : state) backend().copy(x, Write::kAccumulate, y);
  report(state, 0, 3 * y.elements());
}
BENCHMARK(batch_norm_training)->STAGE_SHAPES->UseRealTime();
BENCHMARK(batch_norm_backward)->STAGE_SHAPES->UseRealTime();
BENCHMARK(interleave)->STAGE_SHAPES->UseRealTime();
BENCHMARK(deinterleave)->STAGE_SHAPES->UseRealTime();
BENCHMARK(channel_shuffle)->STAGE_SHAPES->UseRealTime();
BENCHMARK(copy)->STAGE_SHAPES->UseRealTime();
BENCHMARK(copy_accumulate)->STAGE_SHAPES->UseRealTime();

void normalize(benchmark::State& state) {
  const Shape shape{32, 224, 224, 3};
  const Tensor images = backend().empty(shape, DType::kU8), y = filled(shape);
  const std::vector<uint8_t> pixels(static_cast<size_t>(shape.elements()), 100);
  backend().upload(pixels.data(), DType::kU8, images);
  for (auto _ : state) backend().normalize(images, Tensor{}, Normalisation{}, y);
  report(state, 0, y.elements() + y.elements() / 4);
}
void softmax_cross_entropy(benchmark::State& state) {
  const Tensor logits = filled({32, 1, 1, 1000}), dlogits = filled(logits.shape()), loss = filled({32, 1, 1, 1});
  const Tensor labels = backend().empty({32, 1, 1, 1}, DType::kI32);
  const std::vector<int32_t> classes(32, 7);
  backend().upload(classes.data(), DType::kI32, labels);
  for (auto _ : state) backend().softmax_cross_entropy(logits, labels, 0.1, 1.0 / 32, {}, loss, dlogits);
  report(state, 0, logits.elements() + dlogits.elements());
}
// As many parameters as 1.0x has, in its largest tensor and many small ones.
void sgd_step(benchmark::State& state) {
  std::vector<ParameterUpdate> updates;
  int64_t parameters = 0;
  const auto add = [&](const Shape& shape) {
    ParameterUpdate update;
    update.weight = filled(shape);
    update.grad = filled(shape);
    update.momentum = filled(shape);
    update.weight_decay = 4e-5;
    updates.push_back(update);
    parameters += shape.elements();
  };
  add({1000, 1, 1, 1024});
  for (int i = 0; i < 56; ++i) add({116, 1, 1, 192});
  const Tensor scalars = backend().empty_parameter(vector_shape(kStepScalars));
  std::vector<float> values(kStepScalars, 1);
  values[kLearningRate] = 0;  // the same weights at every step
  backend().upload(values.data(), DType::kF32, scalars);
  for (auto _ : state) backend().sgd_step(updates, {}, scalars);
  report(state, 0, 5 * parameters);
}
BENCHMARK(normalize)->UseRealTime();
BENCHMARK(softmax_cross_entropy)->UseRealTime();
BENCHMARK(sgd_step)->UseRealTime();

}  // namespace
}  // namespace riffle

BENCHMARK_MAIN();
