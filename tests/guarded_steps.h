// Training steps some of which go wrong: a batch whose pixels are infinite, which no loss scale helps.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "core/rng.h"
#include "tests/small_network.h"
#include "tests/tensor_values.h"
#include "train/checkpoint/host_tensor.h"
#include "train/train_step.h"

namespace riffle {

class GuardedRun {
 public:
  static constexpr int64_t kBatch = 4, kSize = 16, kClasses = 4;
  static constexpr double kSmallScale = 1.0 / 512;  // of f16 gradients; there is one smaller

  static TrainStepOptions options(NonFinite nonfinite) {
    TrainStepOptions options;
    options.batch = kBatch;
    options.optimizer.nesterov = true;
    options.ema_decay = 0.9;
    options.ema_warmup = false;  // else the decay of an update depends on its step, also on skipped ones before it
    options.nonfinite = nonfinite;
    options.steps_between_reads = 16;
    return options;
  }

  GuardedRun(Backend& backend, const TrainStepOptions& options)
      : backend_(backend),
        network_(backend, three_stage_network(kClasses, {1, 2, 1}), 1),
        batches_a_step_(options.optimizer.accumulate),
        step_(backend, network_, options) {
    std::vector<int32_t> labels;
    labels.reserve(kBatch);
    for (int32_t i = 0; i < kBatch; ++i) labels.push_back(i % kClasses);
    x_ = Variable(backend.empty({kBatch, kSize, kSize, 3}), false);
    labels_ = backend.empty({kBatch, 1, 1, 1}, DType::kI32);
    backend.upload(labels.data(), DType::kI32, labels_);
  }

  // Before the first step. A small scale leaves few others to try.
  void begin_with_loss_scale(double scale) {
    TensorMap momentum;
    step_.export_state(momentum);
    step_.import_state(momentum, "a test", 0, {scale, 0}, nullptr);
  }

  // `steps`: 'g' on good pixels, the n-th good one on other pixels than the one before; 'b' on some that are infinite.
  // The pixels change in place, so that a CUDA graph is replayed on them; after begin(), as the step before may want them
  // until then. The last step is settled.
  void take(const std::string& steps, double lr = 0.05) {
    for (const char kind : steps) {
      step_.begin(lr);
      set_pixels(kind == 'b');
      for (int i = 0; i < batches_a_step_; ++i) step_.forward_backward(x_, labels_);
      step_.finish();
    }
    step_.settle();
  }

  void set_pixels(bool bad) {
    RandomStream random(bad ? 0 : static_cast<uint64_t>(good_batches_++) + 1, RandomPurpose::kTest);
    std::vector<float> pixels(static_cast<size_t>(kBatch * kSize * kSize * 3));
    for (float& pixel : pixels) pixel = static_cast<float>(random.normal());
    if (bad) pixels[1000] = std::numeric_limits<float>::infinity();
    backend_.upload(pixels.data(), DType::kF32, x_.value());
  }

  // Everything that a step may change: weights, statistics of batch norm, momentum, averages. Bit for bit.
  std::vector<std::string> state() {
    std::vector<std::string> all;
    const auto add = [&](ShuffleNetV2& network) {
      network.for_each_parameter([&](const std::string&, Parameter& p) { all.push_back(bytes_of(p.value)); });
      network.for_each_buffer([&](const std::string&, Buffer& b) { all.push_back(bytes_of(b.value)); });
    };
    add(network_);
    ShuffleNetV2 averages(backend_, network_.config(), 2);
    step_.average()->copy_to(averages);
    add(averages);
    TensorMap momentum;
    step_.export_state(momentum);
    for (const auto& [name, tensor] : momentum) all.emplace_back(tensor.bytes.begin(), tensor.bytes.end());
    return all;
  }

  void set_parameter(const std::string& wanted, float first_value) {
    bool found = false;
    network_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (name != wanted) return;
      found = true;
      std::vector<float> values = host<float>(backend_, parameter.value);
      values[0] = first_value;
      backend_.upload(values.data(), DType::kF32, parameter.value);
      parameter.value_changed(backend_);
    });
    ASSERT_TRUE(found) << wanted;
  }

  TrainStep& step() { return step_; }
  const Variable& x() const { return x_; }
  const Tensor& labels() const { return labels_; }

 private:
  std::string bytes_of(const Tensor& tensor) {
    const std::vector<float> values = host<float>(backend_, tensor);
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }

  Backend& backend_;
  ShuffleNetV2 network_;
  int batches_a_step_;
  TrainStep step_;
  Variable x_;
  Tensor labels_;
  int64_t good_batches_ = 0;
};

// A run that skips is, bit for bit, the run that never saw the bad batches. before: enough good steps for a CUDA graph.
inline void expect_skipped_steps_change_nothing(Backend& backend, const TrainStepOptions& options,
                                                const std::string& before) {
  GuardedRun skipping(backend, options), undisturbed(backend, options);
  for (GuardedRun* run : {&skipping, &undisturbed}) run->begin_with_loss_scale(GuardedRun::kSmallScale);
  skipping.take(before);
  const std::vector<std::string> state = skipping.state();
  skipping.take("b");
  EXPECT_EQ(skipping.state() == state, true);
  skipping.take("gbbg");
  undisturbed.take(before + "gg");
  EXPECT_EQ(skipping.state() == undisturbed.state(), true);
  EXPECT_EQ(undisturbed.state() == state, false);

  const auto first_bad = static_cast<int64_t>(before.size());
  const MetricSums sums = skipping.step().read_metrics();
  EXPECT_EQ(skipping.step().unapplied_steps(), (std::vector<int64_t>{first_bad, first_bad + 2, first_bad + 3}));
  EXPECT_EQ(sums.images, (first_bad + 2) * GuardedRun::kBatch * options.optimizer.accumulate);
  EXPECT_EQ(sums.loss_sum, undisturbed.step().read_metrics().loss_sum);
  EXPECT_TRUE(undisturbed.step().unapplied_steps().empty());
  EXPECT_EQ(skipping.step().execution(), undisturbed.step().execution());
}

// After a bad step none changes anything, so that its network is there to be looked at.
inline void expect_nothing_changes_after_a_bad_step(Backend& backend, const TrainStepOptions& options,
                                                    const std::string& before) {
  GuardedRun run(backend, options);
  run.begin_with_loss_scale(GuardedRun::kSmallScale);
  run.take(before);
  const std::vector<std::string> state = run.state();
  run.take("bgg");
  EXPECT_EQ(run.state() == state, true);
  run.step().read_metrics();
  const auto first_bad = static_cast<int64_t>(before.size());
  EXPECT_EQ(run.step().unapplied_steps(), (std::vector<int64_t>{first_bad, first_bad + 1, first_bad + 2}));
}

}  // namespace riffle
