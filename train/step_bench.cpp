// Step benchmark.
#include "train/step_bench.h"

#include <algorithm>
#include <functional>

#include "core/rng.h"
#include "train/stopwatch.h"
#include "train/train_step.h"

namespace riffle {
namespace {

constexpr int64_t kWarmUpSteps = 3;  // as the allocator's cache and the convolutions' plans need
constexpr int64_t kMostStepsBetweenReads = 1000;
constexpr int64_t kClasses = 1000;

Tensor random_images(Backend& backend, const Shape& shape) {
  RandomStream random(/*seed=*/1, RandomPurpose::kTest);
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  std::generate(values.begin(), values.end(), [&random] { return static_cast<float>(random.normal()); });
  Tensor images = backend.empty(shape);
  backend.upload(values.data(), DType::kF32, images);
  return images;
}

Tensor counted_labels(Backend& backend, int64_t batch) {
  std::vector<int32_t> values(static_cast<size_t>(batch));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i % kClasses);
  Tensor labels = backend.empty({batch, 1, 1, 1}, DType::kI32);
  backend.upload(values.data(), DType::kI32, labels);
  return labels;
}

// finish() follows the last step of a repeat.
StepBenchResult measure(Backend& backend, const StepBenchOptions& options, const std::function<void()>& step,
                        const std::function<void()>& finish) {
  const auto run = [&](int64_t steps) {
    for (int64_t i = 0; i < steps; ++i) step();
    finish();
    backend.synchronize();
  };
  run(kWarmUpSteps);
  std::vector<double> rates, covered;
  std::vector<std::vector<LayerTime>> layers;
  for (int64_t repeat = 0; repeat < options.repeats; ++repeat) {
    if (options.layers) backend.time_ranges();
    const Stopwatch clock;
    run(options.steps);
    const double seconds = clock.seconds();
    rates.push_back(static_cast<double>(options.batch * options.steps) / seconds);
    if (!options.layers) continue;
    layers.push_back(layer_times(backend.range_times(), options.steps));
    double ms = 0;
    for (const LayerTime& layer : layers.back()) ms += layer.forward_ms + layer.backward_ms;
    covered.push_back(ms * static_cast<double>(options.steps) / (1e3 * seconds));
  }
  StepBenchResult result;
  result.images_per_s = median(rates);
  result.slowest = *std::min_element(rates.begin(), rates.end());
  result.fastest = *std::max_element(rates.begin(), rates.end());
  result.step_ms = 1e3 * static_cast<double>(options.batch) / result.images_per_s;
  if (options.layers) {
    result.layers = median_layer_times(layers);
    result.covered = median(covered);
  }
  return result;
}

}  // namespace

StepBenchResult bench_steps(Backend& backend, const StepBenchOptions& options) {
  ShuffleNetV2Config model = ShuffleNetV2Config::published(options.width, parse_dialect(options.dialect));
  model.classes = kClasses;
  ShuffleNetV2 network(backend, model, /*seed=*/1);
  const Variable x(random_images(backend, {options.batch, options.size, options.size, model.input_channels}),
                   /*requires_grad=*/false);
  if (options.mode == "infer") {
    network.fold_batch_norm(backend);
    return measure(
        backend, options, [&] { network.forward(Context{backend}, x); }, [] {});
  }
  const Tensor labels = counted_labels(backend, options.batch);
  TrainStepOptions step_options;
  step_options.batch = options.batch;
  step_options.scale_loss = options.scale_loss;
  step_options.cuda_graphs = options.graphs && !options.layers;
  step_options.steps_between_reads = std::min(std::max(options.steps, kWarmUpSteps), kMostStepsBetweenReads);
  TrainStep step(backend, network, step_options);
  const auto train = [&] {
    if (step.unread_steps() == step_options.steps_between_reads) step.read_metrics();
    step.begin(/*lr=*/1e-3);
    step.forward_backward(x, labels);
    step.finish();
  };
  StepBenchResult result = measure(backend, options, train, [&] { step.read_metrics(); });
  result.execution = step.execution();
  result.gave_up_graph = step.gave_up_graph();
  return result;
}

}  // namespace riffle
