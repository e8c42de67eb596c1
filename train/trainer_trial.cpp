// Steps that are taken to see what training needs.
#include "train/process_memory.h"
#include "train/trainer.h"

namespace riffle {
namespace {

constexpr double kLoadingSeconds = 0.5;  // measured for so long, and at least one step's batches

int64_t bytes_of(const Tensor& tensor) {
  return tensor.defined() ? tensor.elements() * static_cast<int64_t>(size_of(tensor.dtype())) : 0;
}

int64_t parameter_bytes(const Parameter& parameter) {
  const bool has_copy = parameter.compute_value.raw() != parameter.value.raw();
  return bytes_of(parameter.value) + (has_copy ? bytes_of(parameter.compute_value) : 0);
}

int64_t buffer_bytes(ShuffleNetV2& network) {
  int64_t bytes = 0;
  network.for_each_buffer([&](const std::string&, const Buffer& buffer) { bytes += bytes_of(buffer.value); });
  return bytes;
}

}  // namespace

MemoryPlan Trainer::memory_plan() {
  MemoryPlan plan;
  plan.parameters = buffer_bytes(network_);
  network_.for_each_parameter([&](const std::string&, const Parameter& parameter) {
    plan.parameters += parameter_bytes(parameter);
    plan.gradients += bytes_of(parameter.grad);
    plan.momentum += parameter.frozen ? 0 : bytes_of(parameter.value);
  });
  if (averaged_) {
    plan.averages = 2 * buffer_bytes(*averaged_);
    averaged_->for_each_parameter([&](const std::string&, const Parameter& parameter) {
      plan.averages += bytes_of(parameter.value) + parameter_bytes(parameter) + bytes_of(parameter.grad);
    });
  }
  const MemoryStatistics tensors = backend_.memory();
  plan.in_use = tensors.bytes_in_use;
  plan.peak = tensors.peak_bytes;
  plan.held = tensors.bytes_held;
  plan.training_batches = loader_.buffer_bytes();
  plan.evaluation_batches = evaluator_.loader_buffer_bytes();
  plan.process_peak = process_peak_bytes();
  return plan;
}

// Those that lay ready say nothing of how quickly they were made, so the clock starts at the first that did not.
double Trainer::loading_seconds_per_step() {
  int64_t epoch = step() / steps_per_epoch_;
  Batch batch;
  const auto load = [&] {
    while (!loader_.next(batch)) loader_.start_epoch(++epoch);
  };
  int64_t batches = 0;
  do {
    load();
  } while (batch.ready > 0 && ++batches < config_.data.prefetch);
  const Stopwatch clock;
  batches = 0;
  do {
    load();
    ++batches;
  } while (batches < config_.optimizer.accumulate || clock.seconds() < kLoadingSeconds);
  return clock.seconds() / static_cast<double>(batches) * config_.optimizer.accumulate;
}

Trial Trainer::try_out(int64_t steps) {
  Trial trial;
  trial.steps = steps;
  trial.step_seconds = try_steps(steps);
  trial.memory = memory_plan();
  trial.loading_seconds = loading_seconds_per_step();
  return trial;
}

}  // namespace riffle
