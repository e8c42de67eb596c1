// What a dry run measures and says.
#include "train/dry_run.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/cpu/cpu_backend.h"
#include "resumed_runs.h"
#include "train/terminal.h"
#include "train/terminal_chart.h"
#include "train/text.h"

namespace riffle {
namespace {

using Lines = std::vector<std::string>;

TEST(ColumnChart, DrawsInEighthsOfARowOrInThirds) {
  EXPECT_EQ(column_chart({0, 1, 2, 3, 4}, 2, /*utf8=*/true), (Lines{"   ▄█", " ▄███"}));
  EXPECT_EQ(column_chart({0, 1, 2, 3, 4, 5, 6}, 2, /*utf8=*/false), (Lines{"    .:#", " .:####"}));
  EXPECT_EQ(column_chart({1e-9, 1}, 1, /*utf8=*/true), (Lines{"▁█"})) << "what is above 0 shows";
  EXPECT_EQ(column_chart({0, 0}, 1, /*utf8=*/false), (Lines{"  "}));
}

TEST(Terminal, KnowsWhetherTheLocaleIsOneOfUtf8) {
  const char* before = std::getenv("LC_ALL");
  const std::string saved = before ? before : "";
  setenv("LC_ALL", "C.UTF-8", 1);
  EXPECT_TRUE(locale_is_utf8());
  setenv("LC_ALL", "C", 1);
  EXPECT_FALSE(locale_is_utf8());
  setenv("LC_ALL", "xx_XX.UTF-8", 1);
  EXPECT_FALSE(locale_is_utf8()) << "this machine has no such locale";
  before ? setenv("LC_ALL", saved.c_str(), 1) : unsetenv("LC_ALL");
}

Trial some_trial() {
  Trial trial;
  trial.steps = 2;
  trial.step_seconds = 0.5;
  trial.loading_seconds = 0.1;
  trial.memory.parameters = trial.memory.gradients = trial.memory.momentum = 5 << 20;
  trial.memory.averages = 20 << 20;
  trial.memory.in_use = 40 << 20;
  trial.memory.peak = 100 << 20;
  trial.memory.held = 128 << 20;
  trial.memory.training_batches = 3 << 20;
  trial.memory.evaluation_batches = 1 << 20;
  trial.memory.process_peak = 300 << 20;
  return trial;
}

Config some_config() {
  Config config;
  config.train.batch = 8;
  config.optimizer.accumulate = 3;
  config.schedule.lr = 0.5;
  config.schedule.warmup = {100, Duration::Unit::kSteps};
  config.augment.sizes = {{{2, Duration::Unit::kEpochs}, 288}};
  return config;
}

std::string described(const Trial& trial, size_t columns, bool utf8) {
  const Config config = some_config();
  const LearningRate learning_rate(config.schedule, 1000, 100);
  std::string text;
  for (const std::string& line : describe_trial(trial, config, learning_rate, {1000, 100}, columns, utf8))
    text += line + "\n";
  return text;
}

TEST(DryRun, SaysSpeedDurationBatchAndMemory) {
  const std::string text = described(some_trial(), 80, /*utf8=*/false);
  expect_contains(text, {"2 steps taken, the last at 48 images/s", "alone are loaded at 240 images/s\n",
                         "an estimate from these: training would take about 8m20s besides evaluation",
                         "24 images a step: 3 batches of 8 (optimizer.accumulate)", "1,000 in all, 100 an epoch",
                         "moving averages              20.0 MiB", "images, results, rounding     5.0 MiB  measured",
                         "activations, workspace       60.0 MiB", "peak of tensors             100.0 MiB",
                         "loaders' batches              4.0 MiB", "more from epoch 2ep on, with images of 288x288"});
}

// Then the network would wait, and the loader decides how long it takes.
TEST(DryRun, EstimatesByTheSlowerOfTheTwo) {
  Trial trial = some_trial();
  EXPECT_DOUBLE_EQ(estimated_seconds(trial, 1000), 500);
  trial.loading_seconds = 2;
  EXPECT_DOUBLE_EQ(estimated_seconds(trial, 1000), 2000);
  trial.steps = 1;
  expect_contains(described(trial, 80, /*utf8=*/false),
                  {"1 step taken", "images/s: the network would wait for them", "from a first step"});
}

TEST(DryRun, DrawsTheLearningRateWithinTheTerminal) {
  for (const size_t columns : {60, 80, 133}) {
    const std::string ascii = described(some_trial(), columns, /*utf8=*/false);
    std::istringstream lines(ascii.substr(ascii.find("\nrate ") + 1));
    size_t widest = 0, count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      widest = std::max(widest, line.size());
      for (const char c : line) EXPECT_TRUE(c >= ' ' && c < 127) << line;
    }
    EXPECT_EQ(widest, columns);
    EXPECT_EQ(count, 8u);
    expect_contains(ascii, {"rate        0.5 |", "              0 +----", "step 1: 0.005", "step 1,000: 1."});
  }
  expect_contains(described(some_trial(), 80, /*utf8=*/true), {"rate        0.5 │", "█", "└─"});
}

TEST(DryRun, OneStepIsACurve) {
  Config config = some_config();
  config.schedule.warmup = {};
  const LearningRate learning_rate(config.schedule, 1, 1);
  EXPECT_FALSE(describe_trial(some_trial(), config, learning_rate, {1, 1}, 80, true).empty());
}

class TrialOfATrainer : public testing::Test {
 protected:
  void SetUp() override { write_idx_data(folder_.path()); }
  MemoryPlan plan(const std::string& more, const std::vector<std::string>& overrides = {}) {
    const Config config = parse_config(tiny_config("idx:" + folder_.path(), 1) + more, "test", overrides);
    const auto backend = make_cpu_backend(1);
    const TrainData data = open_train_data(config);
    std::ostringstream out;
    Progress progress(out, Progress::Style::kPlain, false);
    Trainer trainer(*backend, config, data, 1, progress);
    const Trial trial = trainer.try_out(2);
    EXPECT_EQ(trainer.finished_steps(), 2);
    EXPECT_GT(trial.step_seconds, 0);
    EXPECT_GT(trial.loading_seconds, 0);
    EXPECT_EQ(trial.memory.peak, backend->memory().peak_bytes);
    parameters_ = buffers_ = 0;
    trainer.network().for_each_parameter(
        [&](const std::string&, Parameter& parameter) { parameters_ += parameter.value.elements(); });
    trainer.network().for_each_buffer([&](const std::string&, Buffer& buffer) { buffers_ += buffer.value.elements(); });
    return trial.memory;
  }

  TemporaryFolder folder_;
  int64_t parameters_ = 0, buffers_ = 0;
};

TEST_F(TrialOfATrainer, CountsWhatTheTensorsTake) {
  const MemoryPlan plain = plan("");
  EXPECT_EQ(plain.parameters, 4 * (parameters_ + buffers_));
  EXPECT_EQ(plain.gradients, 4 * parameters_);
  EXPECT_EQ(plain.momentum, 4 * parameters_);
  EXPECT_EQ(plain.averages, 0);
  EXPECT_GE(plain.in_use, plain.parameters + plain.gradients + plain.momentum);
  EXPECT_GT(plain.peak, plain.in_use);
  EXPECT_GE(plain.held, plain.peak);
  EXPECT_GE(plain.training_batches, 4 * 8 * 32 * 32) << "data.prefetch batches of 8 images of 32x32";
  EXPECT_GT(plain.process_peak, plain.peak);

  const MemoryPlan averaged = plan("ema: {decay: 0.9}\n");
  EXPECT_EQ(averaged.averages, 4 * (3 * parameters_ + 2 * buffers_));
  EXPECT_GE(averaged.in_use, plain.in_use + averaged.averages);

  const MemoryPlan frozen = plan("finetune: {freeze: [stem, stage2]}\n");
  EXPECT_LT(frozen.gradients, plain.gradients);
  EXPECT_EQ(frozen.momentum, frozen.gradients);

  EXPECT_GT(plan("", {"data.prefetch=8"}).training_batches, plain.training_batches);
}

TEST_F(TrialOfATrainer, GoesPastTheEndOfAShortEpochAndRun) {
  plan("", {"train.batch=32", "train.duration=2it"});
}

}  // namespace
}  // namespace riffle
