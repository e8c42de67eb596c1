// The whole training step on the emulated device: against the CPU, in every precision, with and without a CUDA graph,
// and when gradients overflow or memory runs out.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "core/out_of_memory.h"
#include "core/rng.h"
#include "cuda/emulation/control.h"
#include "cuda/make_cuda_backend.h"
#include "riffle_process.h"
#include "tests/small_network.h"
#include "tests/tensor_values.h"
#include "train/train_step.h"

namespace riffle {
namespace {

constexpr int64_t kBatch = 8, kSize = 32, kClasses = 4;

ShuffleNetV2Config tiny_network(double dropout = 0) {
  ShuffleNetV2Config config = three_stage_network(kClasses);
  config.dropout = dropout;
  return config;
}

std::unique_ptr<Backend> cuda(DType dtype, bool cudnn_depthwise = false) {
  CudaOptions options;
  options.dtype = dtype;
  options.cudnn_depthwise = cudnn_depthwise;
  options.poison = true;
  return make_cuda_backend(options);
}

// A few steps on one batch that never changes.
class TinyRun {
 public:
  TinyRun(Backend& backend, const TrainStepOptions& options, double dropout = 0)
      : backend_(backend),
        network_(backend, tiny_network(dropout), 1),
        batches_a_step_(options.optimizer.accumulate),
        step_(backend, network_, options) {
    RandomStream random(1, RandomPurpose::kTest);
    std::vector<float> images(static_cast<size_t>(kBatch * kSize * kSize * 3));
    for (float& value : images) value = static_cast<float>(random.normal());
    std::vector<int32_t> labels(kBatch);
    for (int32_t i = 0; i < kBatch; ++i) labels[static_cast<size_t>(i)] = i % kClasses;
    x_ = Variable(backend.empty({kBatch, kSize, kSize, 3}), false);
    backend.upload(images.data(), DType::kF32, x_.value());
    labels_ = backend.empty({kBatch, 1, 1, 1}, DType::kI32);
    backend.upload(labels.data(), DType::kI32, labels_);
  }

  // images: of the batch, the first ones.
  void take_step(double lr = 0.05, int64_t images = kBatch) {
    step_.begin(lr);
    const Variable x(x_.value().sample_slice(0, images), false);
    for (int i = 0; i < batches_a_step_; ++i) step_.forward_backward(x, labels_.sample_slice(0, images));
    step_.finish();
  }
  double loss_of_step(double lr = 0.05, int64_t images = kBatch) {
    take_step(lr, images);
    return step_.read_metrics().loss();
  }
  std::vector<double> losses(int steps, double lr = 0.05) {
    std::vector<double> all(static_cast<size_t>(steps));
    for (double& loss : all) loss = loss_of_step(lr);
    return all;
  }
  std::vector<float> parameters() {
    std::vector<float> all;
    network_.for_each_parameter([&](const std::string&, Parameter& parameter) {
      const std::vector<float> values = host<float>(backend_, parameter.value);
      all.insert(all.end(), values.begin(), values.end());
    });
    return all;
  }
  TrainStep& step() { return step_; }
  void enlarge_classifier(float factor) {
    network_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (name != "fc.weight") return;
      std::vector<float> values = host<float>(backend_, parameter.value);
      for (float& value : values) value *= factor;
      backend_.upload(values.data(), DType::kF32, parameter.value);
      parameter.value_changed(backend_);
    });
  }

 private:
  Backend& backend_;
  ShuffleNetV2 network_;
  int batches_a_step_;
  TrainStep step_;
  Variable x_;
  Tensor labels_;
};

TrainStepOptions options_of_run() {
  TrainStepOptions options;
  options.batch = kBatch;
  options.optimizer.nesterov = true;
  options.label_smoothing = 0.1;
  options.ema_decay = 0.9;
  return options;
}

class CudaTraining : public testing::Test {
 protected:
  void SetUp() override { emulation::clear_reports(); }
  void TearDown() override { EXPECT_EQ(emulation::report_count(), 0); }
};

// With a learning rate at which rounding does not grow from step to step: at 0.05 a ReLU that lets one more pixel
// through shows as 1e-4 of a loss.
TEST_F(CudaTraining, Fp32FollowsTheCpu) {
  constexpr double kGentle = 0.02;
  const auto cpu = make_cpu_backend(2);
  const std::vector<double> expected = TinyRun(*cpu, options_of_run()).losses(8, kGentle);
  EXPECT_LT(expected.back(), expected.front());
  for (const bool cudnn_depthwise : {false, true}) {
    SCOPED_TRACE(cudnn_depthwise ? "depthwise by cuDNN" : "depthwise by our kernels");
    const auto gpu = cuda(DType::kF32, cudnn_depthwise);
    const std::vector<double> got = TinyRun(*gpu, options_of_run()).losses(8, kGentle);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-5 * expected[i]) << "step " << i;
  }
}

// Only what convolutions and the classifier read is kept a second time, rounded.
TEST_F(CudaTraining, NormsKeepNoRoundedCopies) {
  const auto gpu = cuda(DType::kBF16);
  ShuffleNetV2 network(*gpu, tiny_network(), 1);
  network.for_each_module([](const std::string& module_name, Module& module) {
    const bool norm = dynamic_cast<BatchNorm2d*>(&module) != nullptr;
    module.for_each_parameter([&](const std::string& name, Parameter& parameter) {
      const bool copied = parameter.compute_value.raw() != parameter.value.raw();
      EXPECT_FALSE(norm && copied) << module_name << "." << name;
    });
  });
  network.for_each_parameter([](const std::string& name, Parameter& parameter) {
    const bool rounded = parameter.compute_value.dtype() == DType::kBF16;
    EXPECT_TRUE(rounded || parameter.kind == ParameterKind::kVector) << name;
  });
}

// The stem has no gradient of its input, so two of its convolutions are cuDNN's; the matrix products make one line.
TEST_F(CudaTraining, SaysWhatItChoseOfTheLibraries) {
  const auto gpu = cuda(DType::kBF16);
  EXPECT_TRUE(gpu->choices().empty());
  TinyRun run(*gpu, options_of_run());
  run.losses(1);
  const std::vector<std::string> choices = gpu->choices();
  ASSERT_EQ(choices.size(), 3u);
  expect_contains(choices[0], {"convolution bf16", "engine"});
  expect_contains(choices[1], {"convolution, weight gradient bf16", "engine"});
  expect_contains(choices[2], {"matrix products"});
  run.losses(2);
  EXPECT_EQ(gpu->choices(), choices) << "chosen once";

  const auto compared = cuda(DType::kBF16, /*cudnn_depthwise=*/true);
  TinyRun(*compared, options_of_run()).losses(1);
  EXPECT_GT(compared->choices().size(), choices.size()) << "of depthwise convolutions, too";
}

TEST_F(CudaTraining, HalfPrecisionsLearnTheBatch) {
  const auto cpu = make_cpu_backend(2);
  const std::vector<double> expected = TinyRun(*cpu, options_of_run()).losses(12);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(name_of(dtype));
    const auto gpu = cuda(dtype);
    TrainStepOptions options = options_of_run();
    options.scale_loss = dtype == DType::kF16;
    const std::vector<double> losses = TinyRun(*gpu, options).losses(12);
    EXPECT_NEAR(losses.front(), expected.front(), 0.05 * expected.front());
    EXPECT_LT(losses.back(), 0.75 * losses.front());
  }
}

TEST_F(CudaTraining, AGraphChangesNoBit) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    SCOPED_TRACE(name_of(dtype));
    std::vector<std::vector<double>> losses;
    std::vector<std::vector<float>> weights;
    for (const bool graphs : {false, true}) {
      const auto gpu = cuda(dtype);
      TrainStepOptions options = options_of_run();
      options.optimizer.clip_norm = 1;
      options.scale_loss = dtype == DType::kF16;
      options.cuda_graphs = graphs;
      TinyRun run(*gpu, options);
      // Another learning rate every step: a graph must read the present one.
      losses.emplace_back();
      for (int i = 0; i < 6; ++i) losses.back().push_back(run.loss_of_step(0.02 * (i + 1)));
      weights.push_back(run.parameters());
      EXPECT_EQ(run.step().execution(), graphs ? "one CUDA graph a step" : "");
    }
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_EQ(weights[0], weights[1]);
  }
}

// Something, such as an evaluation, holds the memory that steps left when the capture comes: it is tried again.
TEST_F(CudaTraining, ACaptureThatFindsNoMemoryIsTriedAgain) {
  const auto gpu = cuda(DType::kF32);
  TrainStepOptions options = options_of_run();
  options.cuda_graphs = true;
  TinyRun run(*gpu, options);
  run.losses(2);
  std::vector<Tensor> held;
  const int64_t allocations = gpu->memory().system_allocations;
  for (int64_t channels = 4; channels <= 64; channels += 4)
    while (gpu->memory().system_allocations == allocations + static_cast<int64_t>(channels) / 4 - 1)
      held.push_back(gpu->empty({kBatch, 8, 8, channels}));
  run.losses(1);
  EXPECT_EQ(run.step().execution(), "");  // not yet
  run.losses(2);
  EXPECT_EQ(run.step().execution(), "one CUDA graph a step");
}

TEST_F(CudaTraining, AllocatesNothingAfterTheSecondStep) {
  const auto gpu = cuda(DType::kBF16);
  TinyRun run(*gpu, options_of_run());
  run.losses(2);
  const int64_t allocations = gpu->memory().system_allocations;
  run.losses(3);
  EXPECT_GT(allocations, 0);
  EXPECT_EQ(gpu->memory().system_allocations, allocations);
}

// The first scale, 65536, is far too large for these gradients: it is halved until they fit, and no step is lost.
TEST_F(CudaTraining, OverflowingGradientsLowerTheLossScale) {
  const auto gpu = cuda(DType::kF16);
  TrainStepOptions options = options_of_run();
  options.scale_loss = true;
  TinyRun run(*gpu, options);
  run.enlarge_classifier(1000);
  const std::vector<double> losses = run.losses(4, /*lr=*/1e-6);
  for (const double loss : losses) EXPECT_TRUE(std::isfinite(loss));
  for (const float value : run.parameters()) ASSERT_TRUE(std::isfinite(value));
  EXPECT_EQ(run.step().finished_steps(), 4);
  EXPECT_LT(run.step().loss_scale().value, 65536);
}

// Whether gradients were finite is asked when the next step begins, so that its images arrive meanwhile. The steps are
// those of a program that asks at once, overflows among them: the first scale is too large, and the later ones for the
// classifier that grows.
TEST_F(CudaTraining, OverflowsMayBeSeenWhenTheNextStepBegins) {
  for (const bool graphs : {false, true}) {
    std::vector<std::vector<float>> weights;
    std::vector<double> losses;
    for (const bool at_once : {true, false}) {
      const auto gpu = cuda(DType::kF16);
      TrainStepOptions options = options_of_run();
      options.scale_loss = true;
      options.cuda_graphs = graphs;
      options.steps_between_reads = 8;
      TinyRun run(*gpu, options);
      double scale = 0;
      for (int i = 0; i < 6; ++i) {
        if (i == 0 || i == 4) run.enlarge_classifier(30);
        run.take_step(1e-6);
        EXPECT_GT(emulation::pending_operations(), 0u) << "finish() waited for the device";
        if (at_once || i == 3) run.step().settle();  // before the weights are changed
        if (i == 3) scale = run.step().loss_scale().value;
      }
      losses.push_back(run.step().read_metrics().loss());
      weights.push_back(run.parameters());
      EXPECT_LT(scale, 65536);
      EXPECT_LT(run.step().loss_scale().value, scale);
      EXPECT_EQ(run.step().execution(), graphs ? "one CUDA graph a step" : "");
    }
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_EQ(weights[0], weights[1]);
  }
}

// An evaluation between steps releases the graph; nothing about the result changes, and it is recorded again.
TEST_F(CudaTraining, ReleasingTheGraphChangesNoBit) {
  std::vector<std::vector<float>> weights;
  for (const bool graphs : {false, true}) {
    const auto gpu = cuda(DType::kF32);
    TrainStepOptions options = options_of_run();
    options.cuda_graphs = graphs;
    TinyRun run(*gpu, options);
    run.losses(4);
    run.step().release_graph();
    const Tensor evaluation = gpu->empty({kBatch, kSize, kSize, 64});  // uses what the graph held
    gpu->fill(1, evaluation);
    run.losses(5);
    weights.push_back(run.parameters());
    EXPECT_EQ(run.step().execution(), graphs ? "one CUDA graph a step" : "");
  }
  EXPECT_EQ(weights[0], weights[1]);
}

// A batch twice a step has the gradient of the batch once, also where the step is computed again because it overflowed.
TEST_F(CudaTraining, AStepOfSeveralBatchesIsComputedAgainAsAWhole) {
  std::vector<std::vector<double>> moves;
  for (const int accumulate : {1, 2}) {
    const auto gpu = cuda(DType::kF16);
    TrainStepOptions options = options_of_run();
    options.scale_loss = true;
    options.cuda_graphs = true;
    options.optimizer.accumulate = accumulate;
    TinyRun run(*gpu, options);
    run.enlarge_classifier(1000);
    const std::vector<float> before = run.parameters();
    run.losses(1, /*lr=*/1e-6);
    const std::vector<float> after = run.parameters();
    EXPECT_LT(run.step().loss_scale().value, 65536);
    EXPECT_EQ(run.step().finished_steps(), 1);
    EXPECT_EQ(run.step().execution(), accumulate == 1 ? "" : "no CUDA graph: a step accumulates several batches");
    moves.emplace_back();
    for (size_t i = 0; i < after.size(); ++i) moves.back().push_back(static_cast<double>(after[i]) - before[i]);
  }
  const double largest = *std::max_element(moves[0].begin(), moves[0].end());
  EXPECT_GT(largest, 0);
  for (size_t i = 0; i < moves[0].size(); ++i) ASSERT_NEAR(moves[1][i], moves[0][i], 1e-3 * largest) << i;
}

// Dropout draws another mask each step, whether kernels are launched or replayed.
TEST_F(CudaTraining, AGraphDropsWhatLaunchesDrop) {
  std::vector<std::vector<double>> losses;
  for (const bool graphs : {false, true}) {
    const auto gpu = cuda(DType::kF32);
    TrainStepOptions options = options_of_run();
    options.cuda_graphs = graphs;
    TinyRun run(*gpu, options, /*dropout=*/0.5);
    losses.push_back(run.losses(6, /*lr=*/0));
    EXPECT_EQ(run.step().execution(), graphs ? "one CUDA graph a step" : "");
  }
  EXPECT_EQ(losses[0], losses[1]);
  for (size_t i = 1; i < losses[0].size(); ++i) EXPECT_NE(losses[0][i], losses[0][i - 1]) << "the mask stayed";
}

// A batch of another size in between runs by launches, and the graph goes on afterwards.
TEST_F(CudaTraining, ASmallerBatchDoesNotUseTheGraph) {
  std::vector<std::vector<float>> weights;
  for (const bool graphs : {false, true}) {
    const auto gpu = cuda(DType::kF32);
    TrainStepOptions options = options_of_run();
    options.cuda_graphs = graphs;
    TinyRun run(*gpu, options);
    run.losses(4);
    run.loss_of_step(0.05, /*images=*/kBatch / 2);
    run.losses(2);
    weights.push_back(run.parameters());
    EXPECT_EQ(run.step().execution(), graphs ? "one CUDA graph a step" : "");
  }
  EXPECT_EQ(weights[0], weights[1]);
}

// With frozen parts, too, and after the classifier's head start the graph is of another step.
TEST_F(CudaTraining, FineTuningFollowsTheCpuAndIsRecordedAgain) {
  TrainStepOptions options = options_of_run();
  options.frozen_parts = 2;
  options.head_only_steps = 4;
  options.optimizer.lr_multipliers = {{"fc.*", 3}};
  const auto cpu = make_cpu_backend(2);
  const std::vector<double> expected = TinyRun(*cpu, options).losses(9, 0.02);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(name_of(dtype));
    std::vector<std::vector<double>> losses;
    std::vector<std::vector<float>> weights;
    options.scale_loss = dtype == DType::kF16;
    for (const bool graphs : {false, true}) {
      const auto gpu = cuda(dtype);
      options.cuda_graphs = graphs;
      TinyRun run(*gpu, options);
      losses.push_back(run.losses(9, 0.02));
      weights.push_back(run.parameters());
      EXPECT_EQ(run.step().execution(), graphs ? "one CUDA graph a step" : "");
    }
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_EQ(weights[0], weights[1]);
    const double tolerance = dtype == DType::kF32 ? 1e-5 : 0.05;
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(losses[0][i], expected[i], tolerance * expected[i]) << "step " << i;
  }
}

}  // namespace
}  // namespace riffle
