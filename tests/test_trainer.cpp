// The parts of training, each against its definition: metrics, optimizer groups, clipping, accumulation, averages.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cpu/cpu_backend.h"
#include "image_fixtures.h"
#include "tests/step_scalars.h"
#include "tests/tensor_values.h"
#include "train/label_map.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/train_step.h"
#include "train/trainer.h"

namespace riffle {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor upload(Backend& backend, const std::vector<float>& values, const Shape& shape) {
  const Tensor tensor = backend.empty(shape);
  backend.upload(values.data(), DType::kF32, tensor);
  return tensor;
}

TEST(Metrics, RankBelowKIsCorrectAtK) {
  MetricSums sums;
  for (const int rank : {0, 1, 4, 5}) sums.add_image(/*loss=*/0.5f, rank, /*classes=*/10, /*batch_number=*/0);
  EXPECT_EQ(sums.images, 4);
  EXPECT_EQ(sums.top1_correct, 1);
  EXPECT_EQ(sums.top5_correct, 3);
  EXPECT_EQ(sums.loss(), 0.5);
}

// With four classes every rank is below 5, and NaN's rank is 4.
TEST(Metrics, NonFiniteLogitsAreNeverCorrectEvenWithFewClasses) {
  const auto backend = make_cpu_backend(1);
  const std::vector<float> logits{0, 1, 2, 3, kNan, 0, 0, 0, kInfinity, 0, 0, 0, 5, 0, 0, 0};
  const std::vector<int32_t> labels{3, 0, 0, 2};
  const Tensor label_tensor = backend->empty({4, 1, 1, 1}, DType::kI32);
  backend->upload(labels.data(), DType::kI32, label_tensor);
  const Tensor logit_tensor = upload(*backend, logits, {4, 1, 1, 4});
  const Tensor losses = backend->empty({4, 1, 1, 1});
  backend->softmax_cross_entropy(logit_tensor, label_tensor, 0, 1, Tensor{}, losses, Tensor{});
  MetricBuffer buffer(*backend, /*batch=*/4, /*batches=*/2, /*classes=*/4);
  buffer.record(losses.sample_slice(0, 1), logit_tensor.sample_slice(0, 1), label_tensor.sample_slice(0, 1));
  buffer.record(losses.sample_slice(1, 3), logit_tensor.sample_slice(1, 3), label_tensor.sample_slice(1, 3));
  EXPECT_TRUE(buffer.full());
  const MetricSums sums = buffer.read();
  EXPECT_EQ(sums.images, 4);
  EXPECT_EQ(sums.top1_correct, 1);
  EXPECT_EQ(sums.top5_correct, 2);
  EXPECT_EQ(sums.not_finite, 2);
  EXPECT_EQ(sums.first_not_finite_batch, 1);
  EXPECT_EQ(buffer.read().images, 0);
}

TEST(Metrics, SumsAddUp) {
  MetricSums sums, other;
  sums.add_image(/*loss=*/1, /*rank=*/0, /*classes=*/10, /*batch_number=*/0);
  other.add_image(/*loss=*/2, /*rank=*/3, /*classes=*/10, /*batch_number=*/0);
  other.add_image(kNan, /*rank=*/10, /*classes=*/10, /*batch_number=*/1);
  sums.add(other);
  EXPECT_EQ(sums.images, 3);
  EXPECT_EQ(sums.top1_correct, 1);
  EXPECT_EQ(sums.top5_correct, 2);
  EXPECT_EQ(sums.not_finite, 1);
  EXPECT_TRUE(std::isnan(sums.loss_sum));
}

TEST(Evaluations, AreCountedAsTheTrainerMakesThem) {
  for (int64_t epochs = 1; epochs <= 12; ++epochs) {
    for (int64_t every = 1; every <= 14; ++every) {
      int64_t left = 0;
      for (int64_t epoch = epochs; epoch >= 1; --epoch) {
        if (epoch % every == 0 || epoch == epochs) ++left;
        EXPECT_EQ(count_evaluations(epoch, epochs, every), left) << epoch << " of " << epochs << ", every " << every;
      }
    }
  }
}

TEST(LabelMap, MatchesByName) {
  const LabelMap same = match_classes({"a", "b"}, {"a", "b"}, "data");
  EXPECT_TRUE(same.identity());
  EXPECT_EQ(same.to_network, (std::vector<int32_t>{0, 1}));
  const LabelMap permuted = match_classes({"b", "a"}, {"a", "b"}, "data");
  EXPECT_EQ(permuted.to_network, (std::vector<int32_t>{1, 0}));
  expect_error([&] { fail(permuted.note); }, {"another order"});
  const LabelMap prefix = match_classes({"a"}, {"a", "b"}, "data");
  EXPECT_EQ(prefix.to_network, (std::vector<int32_t>{0}));
  expect_error([&] { fail(prefix.note); }, {"1 of the network's 2 classes"});
  expect_error(
      [] {
        match_classes({"tench", "shark"}, {"tench", "sharks"}, "my data");
      },
      {"my data", "1 of its 2 classes", "'shark'", "did you mean 'sharks'?"});
  expect_error([] { match_classes({"a"}, {"a", "a"}, "data"); }, {"two classes named 'a'"});
}

// A decayed weight and a bias, with gradients set by hand.
class TwoParameters : public Module {
 public:
  explicit TwoParameters(Backend& backend)
      : weight(add_parameter(backend, "weight", ParameterKind::kMatrix, {1, 1, 1, 2}, /*decay=*/true)),
        bias(add_parameter(backend, "bias", ParameterKind::kVector, vector_shape(1), /*decay=*/false)) {
    set(backend, weight.value, {1, -2});
    set(backend, bias.value, {3});
  }
  void set_gradients(Backend& backend, const std::vector<float>& dw, const std::vector<float>& db) {
    set(backend, weight.grad, dw);
    set(backend, bias.grad, db);
    weight.next_write();
    bias.next_write();
  }
  static void set(Backend& backend, const Tensor& tensor, const std::vector<float>& values) {
    backend.upload(values.data(), DType::kF32, tensor);
  }

  Parameter& weight;
  Parameter& bias;
};

void take_step(Optimizer& optimizer, double lr) {
  optimizer.begin(/*step=*/0, lr, /*ema_decay=*/0);
  optimizer.step();
}

// The gradients carry a loss scale of 4; one that is not finite leaves everything as it was.
TEST(Optimizer, UnscalesGradientsAndSkipsThoseThatOverflowed) {
  const auto backend = make_cpu_backend(1);
  TwoParameters module(*backend);
  OptimizerSection section;
  section.momentum = 0;
  section.weight_decay = 0;
  Optimizer optimizer(*backend, module, section, /*skip_not_finite=*/true);
  module.set_gradients(*backend, {4, 0}, {2});
  optimizer.begin(/*step=*/0, 0.5, 0, /*loss_scale=*/4);
  optimizer.step();
  EXPECT_TRUE(optimizer.read_applied());
  EXPECT_EQ(host<float>(*backend, module.bias.value), (std::vector<float>{3 - 0.5f * 0.5f}));
  const std::vector<float> weight = host<float>(*backend, module.weight.value);
  module.set_gradients(*backend, {kInfinity, 0}, {2});
  optimizer.begin(/*step=*/0, 0.5, 0, /*loss_scale=*/4);
  optimizer.step();
  EXPECT_FALSE(optimizer.read_applied());
  EXPECT_EQ(host<float>(*backend, module.weight.value), weight);
}

// Numbers that float holds exactly, so that the formula's result is exact.
TEST(Optimizer, FollowsTheFormulaAndDecaysWeightsOnly) {
  const auto backend = make_cpu_backend(1);
  TwoParameters module(*backend);
  OptimizerSection section;
  section.momentum = 0.5;
  section.weight_decay = 0.25;
  Optimizer optimizer(*backend, module, section);
  module.set_gradients(*backend, {1, 0}, {2});
  take_step(optimizer, 0.5);  // v = {1.25, -0.5}, {2}
  EXPECT_DOUBLE_EQ(optimizer.read_grad_norm(), std::sqrt(5));
  EXPECT_EQ(host<float>(*backend, module.weight.value), (std::vector<float>{0.375f, -1.75f}));
  EXPECT_EQ(host<float>(*backend, module.bias.value), (std::vector<float>{2}));
  module.set_gradients(*backend, {0, 0}, {0});
  take_step(optimizer, 0.5);  // v = 0.5*v + 0.25*w
  EXPECT_EQ(host<float>(*backend, module.weight.value),
            (std::vector<float>{0.375f - 0.5f * (0.625f + 0.09375f), -1.75f - 0.5f * (-0.25f - 0.4375f)}));
  EXPECT_EQ(host<float>(*backend, module.bias.value), (std::vector<float>{1.5}));
}

TEST(Optimizer, ClipsTheGlobalNormBeforeWeightDecay) {
  const auto backend = make_cpu_backend(1);
  TwoParameters module(*backend);
  OptimizerSection section;
  section.momentum = 0;
  section.weight_decay = 0.5;
  section.clip_norm = 2.5;
  Optimizer optimizer(*backend, module, section);
  module.set_gradients(*backend, {0, 4}, {3});
  take_step(optimizer, 1);
  EXPECT_EQ(optimizer.read_grad_norm(), 5);
  EXPECT_EQ(host<float>(*backend, module.weight.value), (std::vector<float>{1 - 0.5f, -2 - (2 - 1)}));
  EXPECT_EQ(host<float>(*backend, module.bias.value), (std::vector<float>{3 - 1.5f}));
  module.set_gradients(*backend, {0, 0}, {1});
  take_step(optimizer, 1);
  EXPECT_EQ(optimizer.read_grad_norm(), 1);
  EXPECT_EQ(host<float>(*backend, module.bias.value), (std::vector<float>{0.5f}));
}

TEST(Optimizer, ReportsGroupsAndMissingGradients) {
  const auto backend = make_cpu_backend(1);
  TwoParameters module(*backend);
  module.bias.frozen = true;
  OptimizerSection section;
  Optimizer optimizer(*backend, module, section);
  const std::vector<ParameterGroup> groups = optimizer.groups();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].parameters, 2);
  EXPECT_EQ(groups[0].weight_decay, section.weight_decay);
  EXPECT_EQ(groups[1].name, "frozen");
  expect_error([&] { take_step(optimizer, 1); }, {"weight received no gradient"});
}

ShuffleNetV2Config tiny_network() {
  ShuffleNetV2Config config;
  config.stage_channels = {8, 16, 24};
  config.stage_repeats = {2, 1, 1};
  config.stem_channels = 8;
  config.head_channels = 16;
  config.classes = 5;
  config.input_channels = 1;
  return config;
}

struct SmallBatch {
  SmallBatch(Backend& backend, int64_t images) {
    RandomStream random(3, RandomPurpose::kTest);
    std::vector<float> pixels(static_cast<size_t>(images * 32 * 32));
    for (float& pixel : pixels) pixel = static_cast<float>(random.normal());
    std::vector<int32_t> classes;
    for (int64_t i = 0; i < images; ++i) classes.push_back(static_cast<int32_t>(i % 5));
    x = Variable(upload(backend, pixels, {images, 32, 32, 1}), /*requires_grad=*/false);
    labels = backend.empty({images, 1, 1, 1}, DType::kI32);
    backend.upload(classes.data(), DType::kI32, labels);
  }
  Variable x;
  Tensor labels;
};

std::vector<float> all_parameters(Backend& backend, ShuffleNetV2& network) {
  std::vector<float> all;
  network.for_each_parameter([&](const std::string&, Parameter& parameter) {
    const std::vector<float> values = host<float>(backend, parameter.value);
    all.insert(all.end(), values.begin(), values.end());
  });
  return all;
}

// The same batch twice has the gradient of the batch once, but for the order in which its terms are added.
TEST(TrainStep, AccumulationAveragesOverBatches) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 once(*backend, tiny_network(), 1), twice(*backend, tiny_network(), 1);
  const SmallBatch batch(*backend, 8);
  TrainStepOptions options;
  options.batch = 8;
  TrainStep single(*backend, once, options);
  options.optimizer.accumulate = 2;
  TrainStep accumulated(*backend, twice, options);

  const std::vector<float> before = all_parameters(*backend, once);
  single.begin(0.5);
  single.forward_backward(batch.x, batch.labels);
  single.finish();
  accumulated.begin(0.5);
  accumulated.forward_backward(batch.x, batch.labels);
  expect_error([&] { accumulated.finish(); }, {"2 batches has only seen 1"});
  accumulated.forward_backward(batch.x, batch.labels);
  accumulated.finish();
  const std::vector<float> expected = all_parameters(*backend, once), actual = all_parameters(*backend, twice);
  float largest_move = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest_move = std::max(largest_move, std::abs(expected[i] - before[i]));
    ASSERT_NEAR(actual[i], expected[i], 1e-6) << i;
  }
  EXPECT_GT(largest_move, 0.05);
  EXPECT_EQ(accumulated.finished_steps(), 1);
  EXPECT_EQ(accumulated.read_metrics().images, 16);
}

TEST(TrainStep, AllocatesNothingAfterTheSecondStep) {
  const auto backend = make_cpu_backend(2);
  ShuffleNetV2 network(*backend, tiny_network(), 1);
  const SmallBatch batch(*backend, 4);
  TrainStepOptions options;
  options.batch = 4;
  options.ema_decay = 0.9;
  TrainStep step(*backend, network, options);
  int64_t allocations = 0;
  for (int i = 0; i < 5; ++i) {
    step.begin(0.1);
    step.forward_backward(batch.x, batch.labels);
    step.finish();
    step.read_metrics();
    if (i == 1) allocations = backend->memory().system_allocations;
  }
  EXPECT_GT(allocations, 0);
  EXPECT_EQ(backend->memory().system_allocations, allocations);
}

TEST(WeightAverage, WarmsUpAndAveragesStatisticsToo) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, tiny_network(), 1), target(*backend, tiny_network(), 2);
  const auto fill_all = [&](double value) {
    network.for_each_parameter([&](const std::string&, Parameter& p) { backend->fill(value, p.value); });
    network.for_each_buffer([&](const std::string&, Buffer& b) { backend->fill(value, b.value); });
  };
  fill_all(1);
  WeightAverage average(*backend, network, 0.5);
  fill_all(3);
  double expected = 1;
  for (int64_t step = 1; step <= 12; ++step) {
    HostStepScalars scalars;
    scalars.ema_decay = average.decay_at(step);
    average.update(step_scalars(*backend, scalars));
    const double decay = std::min(0.5, (1.0 + static_cast<double>(step)) / (10.0 + static_cast<double>(step)));
    expected = decay * expected + (1 - decay) * 3;
  }
  average.copy_to(target);
  target.for_each_parameter([&](const std::string& name, Parameter& p) {
    for (const float value : host<float>(*backend, p.value)) ASSERT_NEAR(value, expected, 12 * 3 * 6e-8) << name;
  });
  target.for_each_buffer([&](const std::string& name, Buffer& b) {
    for (const float value : host<float>(*backend, b.value)) ASSERT_NEAR(value, expected, 12 * 3 * 6e-8) << name;
  });
}

TEST(WeightAverage, CountsUpdatesNotSteps) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, tiny_network(), 1);
  const WeightAverage average(*backend, network, 0.26, /*warmup=*/true, /*every=*/3);
  EXPECT_FALSE(average.due_after(1));
  EXPECT_FALSE(average.due_after(2));
  EXPECT_TRUE(average.due_after(3));
  EXPECT_TRUE(average.due_after(6));
  EXPECT_DOUBLE_EQ(average.decay_at(3), 2.0 / 11);
  EXPECT_DOUBLE_EQ(average.decay_at(6), 3.0 / 12);
  EXPECT_DOUBLE_EQ(average.decay_at(9), 0.26);  // 4/13 is more
  const WeightAverage cold(*backend, network, 0.26, /*warmup=*/false, /*every=*/1);
  EXPECT_DOUBLE_EQ(cold.decay_at(1), 0.26);
}

// Against averages computed here of the weights after steps 2 and 4; the fifth step changes nothing.
TEST(TrainStep, AveragesEverySoManySteps) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, tiny_network(), 1), averages(*backend, tiny_network(), 2);
  const SmallBatch batch(*backend, 8);
  for (const bool warmup : {true, false}) {
    TrainStepOptions options;
    options.batch = 8;
    options.ema_decay = 0.3;
    options.ema_warmup = warmup;
    options.ema_every = 2;
    TrainStep step(*backend, network, options);
    std::vector<float> expected = all_parameters(*backend, network);
    const std::vector<float> first = expected;
    for (int i = 1; i <= 5; ++i) {
      step.begin(0.5);
      step.forward_backward(batch.x, batch.labels);
      step.finish();
      step.read_metrics();
      if (i % 2 != 0) continue;
      const double decay = !warmup ? 0.3 : i == 2 ? 2.0 / 11 : 3.0 / 12;
      const std::vector<float> weights = all_parameters(*backend, network);
      for (size_t k = 0; k < weights.size(); ++k)
        expected[k] = static_cast<float>(decay * expected[k] + (1 - decay) * weights[k]);
    }
    step.average()->copy_to(averages);
    const std::vector<float> actual = all_parameters(*backend, averages);
    float largest_move = 0;
    for (size_t k = 0; k < actual.size(); ++k) {
      largest_move = std::max(largest_move, std::abs(expected[k] - first[k]));
      ASSERT_NEAR(actual[k], expected[k], 1e-6) << k;
    }
    EXPECT_GT(largest_move, 0.05);
  }
}

}  // namespace
}  // namespace riffle
