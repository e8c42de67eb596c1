// Fine-tuning, part by part: what is frozen stays as it is, the classifier's head start, rates by pattern, and what a
// checkpoint contributes to a run. The program as a whole: test_cli_finetune.cpp.
#include <gtest/gtest.h>

#include <map>

#include "checkpoint_files.h"
#include "core/cpu/cpu_backend.h"
#include "subtracted_shifts.h"
#include "tests/tensor_values.h"
#include "train/checkpoint/checkpoint.h"
#include "train/initial_weights.h"
#include "train/lr_multipliers.h"
#include "train/train_step.h"

namespace riffle {
namespace {

ShuffleNetV2Config tiny_network(int64_t classes = 5) {
  ShuffleNetV2Config config;
  config.stage_channels = {8, 16, 24};
  config.stage_repeats = {2, 1, 1};
  config.stem_channels = 8;
  config.head_channels = 16;
  config.classes = classes;
  config.input_channels = 1;
  return config;
}

using Values = ValuesByName<float>;

Values values_of(Backend& backend, ShuffleNetV2& network) {
  Values all = parameters_of<float>(backend, network);
  all.merge(buffers_of<float>(backend, network));
  return all;
}

// Steps on one batch, with a moving average.
class TinyRun {
 public:
  explicit TinyRun(const TrainStepOptions& options)
      : backend_(make_cpu_backend(1)),
        network_(*backend_, tiny_network(), 1),
        averaged_(*backend_, tiny_network(), 1),
        step_(*backend_, network_, options) {
    RandomStream random(3, RandomPurpose::kTest);
    std::vector<float> pixels(8 * 32 * 32);
    for (float& pixel : pixels) pixel = static_cast<float>(random.normal());
    const std::vector<int32_t> classes{0, 1, 2, 3, 4, 0, 1, 2};
    x_ = Variable(backend_->empty({8, 32, 32, 1}), false);
    backend_->upload(pixels.data(), DType::kF32, x_.value());
    labels_ = backend_->empty({8, 1, 1, 1}, DType::kI32);
    backend_->upload(classes.data(), DType::kI32, labels_);
  }
  void take_steps(int steps) {
    for (int i = 0; i < steps; ++i) {
      step_.begin(0.1);
      step_.forward_backward(x_, labels_);
      step_.finish();
      step_.read_metrics();
    }
  }
  Values values() { return values_of(*backend_, network_); }
  Values averages() {
    step_.average()->copy_to(averaged_);
    return values_of(*backend_, averaged_);
  }
  ShuffleNetV2& network() { return network_; }
  Backend& backend() { return *backend_; }
  TrainStep& step() { return step_; }

 private:
  std::unique_ptr<Backend> backend_;
  ShuffleNetV2 network_, averaged_;
  TrainStep step_;
  Variable x_;
  Tensor labels_;
};

TrainStepOptions tiny_options() {
  TrainStepOptions options;
  options.batch = 8;
  options.ema_decay = 0.9;
  return options;
}

// Exactly the tensors of the first `frozen` parts are the same, bit for bit; but for shifts that have no gradient.
void expect_frozen(const ShuffleNetV2& network, const Values& before, const Values& after, int64_t frozen) {
  for (const auto& [name, values] : before) {
    if (is_subtracted_again(name)) continue;
    EXPECT_EQ(after.at(name) == values, network.part_of(name) < frozen) << name;
  }
}

TEST(Freezing, LeavesEveryBitOfFrozenPartsAndChangesTheRest) {
  for (int64_t frozen = 0; frozen <= 5; ++frozen) {
    SCOPED_TRACE(frozen);
    TrainStepOptions options = tiny_options();
    options.frozen_parts = frozen;
    TinyRun run(options);
    const Values before = run.values();
    run.take_steps(3);
    expect_frozen(run.network(), before, run.values(), frozen);
    expect_frozen(run.network(), before, run.averages(), frozen);
  }
}

TEST(Freezing, TakesNoMemoryForGradientsAndMomentum) {
  TrainStepOptions options = tiny_options();
  options.frozen_parts = 4;
  TinyRun run(options);
  run.network().for_each_parameter([&](const std::string& name, Parameter& parameter) {
    const bool frozen = run.network().part_of(name) < 4;
    EXPECT_EQ(parameter.frozen, frozen) << name;
    EXPECT_EQ(parameter.grad.defined(), !frozen) << name;
  });
  TinyRun unfrozen(tiny_options());
  EXPECT_LT(run.backend().memory().bytes_in_use, unfrozen.backend().memory().bytes_in_use);
  run.take_steps(2);
  const int64_t allocations = run.backend().memory().system_allocations;
  run.take_steps(3);
  EXPECT_EQ(run.backend().memory().system_allocations, allocations);
}

TEST(Freezing, NamesItsParts) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, tiny_network(), 1);
  EXPECT_EQ(network.parts(), (std::vector<std::string>{"stem", "stage2", "stage3", "stage4", "conv5"}));
  EXPECT_EQ(network.part_of("conv1.0.weight"), 0);
  EXPECT_EQ(network.part_of("stage3.0.branch1.0.weight"), 2);
  EXPECT_EQ(network.part_of("conv5.1.running_mean"), 4);
  EXPECT_EQ(network.part_of("fc.weight"), 5);
  EXPECT_THROW(network.freeze_parts(*backend, 6), Error);
  EXPECT_THROW(network.freeze_parts(*backend, -1), Error);
}

TEST(HeadOnly, TrainsTheClassifierFirstAndThenTheRest) {
  TrainStepOptions options = tiny_options();
  options.head_only_steps = 2;
  options.frozen_parts = 1;
  TinyRun run(options);
  const Values before = run.values();
  run.take_steps(2);
  const Values between = run.values();
  expect_frozen(run.network(), before, between, 5);
  run.take_steps(2);
  expect_frozen(run.network(), between, run.values(), 1);
  expect_frozen(run.network(), before, run.averages(), 1);
}

// As a dry run does, which is to time and fit the longer steps.
TEST(HeadOnly, CanBeEndedEarly) {
  TrainStepOptions options = tiny_options();
  options.head_only_steps = 3;
  options.frozen_parts = 2;
  TinyRun run(options);
  const Values before = run.values();
  run.step().end_head_only();
  run.take_steps(4);
  expect_frozen(run.network(), before, run.values(), 2);
}

// A step of gradients 1 and then, thawed, one of gradients 0: what moves then does so by momentum alone.
TEST(HeadOnly, KeepsTheClassifiersMomentum) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, tiny_network(), 1);
  OptimizerSection section;
  section.momentum = 0.5;
  section.weight_decay = 0;
  network.freeze_parts(*backend, 5);
  Optimizer optimizer(*backend, network, section);
  const auto take_step = [&](double gradient) {
    network.for_each_parameter([&](const std::string&, Parameter& parameter) {
      if (parameter.frozen) return;
      backend->fill(gradient, parameter.grad);
      parameter.grad_written = true;
    });
    optimizer.begin(/*step=*/0, /*lr=*/1, /*ema_decay=*/0);
    optimizer.step();
  };
  take_step(1);
  network.freeze_parts(*backend, 4);
  optimizer.frozen_changed();
  const Values before = values_of(*backend, network);
  take_step(0);
  for (const auto& [name, values] : values_of(*backend, network)) {
    const float move = name.rfind("fc.", 0) == 0 ? -0.5f : 0.f;
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], before.at(name)[i] + move, 1e-6) << name;
  }
}

TEST(LrMultipliers, TheFirstMatchCounts) {
  const std::vector<LrMultiplier> rules{{"fc.weight", 3}, {"fc.*", 2}, {"stage?.0.*", 0.5}};
  EXPECT_EQ(find_lr_multiplier(rules, "fc.weight"), 0u);
  EXPECT_EQ(find_lr_multiplier(rules, "fc.bias"), 1u);
  EXPECT_EQ(find_lr_multiplier(rules, "stage4.0.branch2.0.weight"), 2u);
  EXPECT_EQ(find_lr_multiplier(rules, "conv5.0.weight"), 3u);
}

TEST(LrMultipliers, PatternsThatChangeNothingAreErrors) {
  const std::vector<std::string> names{"conv1.0.weight", "stage4.0.branch1.0.weight", "fc.weight", "fc.bias"};
  const auto none_frozen = [](const std::string&) { return false; };
  const auto all_but_fc = [](const std::string& name) { return name.rfind("fc.", 0) != 0; };
  check_lr_multipliers({{"fc.*", 2}, {"*", 3}}, names, none_frozen);
  check_lr_multipliers({{"*", 3}}, names, all_but_fc);
  const auto message = [&](const std::vector<LrMultiplier>& rules) {
    return message_of([&] { check_lr_multipliers(rules, names, none_frozen); });
  };
  expect_message(message({{"stag4.*", 2}}), {"'stag4.*' matches no parameter", "did you mean 'stage4.*'?"});
  expect_message(message({{"fc.weigth", 2}}), {"did you mean 'fc.weight'?"});
  expect_message(message({{"fc", 2}}), {"did you mean 'fc.*'?"});
  expect_message(message({{"transformer.*", 2}}), {"expected patterns such as conv1.*, stage4.*, fc.*"});
  expect_message(message({{"*", 2}, {"fc.*", 3}}), {"'fc.*' changes nothing", "earlier pattern '*'"});
  for (const std::vector<LrMultiplier>& rules :
       {std::vector<LrMultiplier>{{"stage4.*", 2}}, std::vector<LrMultiplier>{{"fc.*", 2}, {"*", 3}}})
    expect_message(message_of([&] { check_lr_multipliers(rules, names, all_but_fc); }),
                   {"'" + rules.back().pattern + "' changes nothing", "is frozen (finetune.freeze)"});
}

// Without momentum and decay, one step moves weights in proportion to their rates.
TEST(LrMultipliers, MultiplyTheStep) {
  TrainStepOptions options = tiny_options();
  options.optimizer.momentum = 0;
  options.optimizer.weight_decay = 0;
  const auto moved = [](const TrainStepOptions& with) {
    TinyRun run(with);
    const Values before = run.values();
    run.take_steps(1);
    Values moves = run.values();
    for (auto& [name, values] : moves)
      for (size_t i = 0; i < values.size(); ++i) values[i] -= before.at(name)[i];
    return moves;
  };
  const Values plain = moved(options);
  options.optimizer.lr_multipliers = {{"fc.bias", 0}, {"fc.*", 4}, {"stage2.*.weight", 0.5}};
  const Values scaled = moved(options);
  for (const auto& [name, values] : plain) {
    if (name.find("running_") != std::string::npos) continue;
    const bool stage2_weight = name.rfind("stage2.", 0) == 0 && name.find(".weight") != std::string::npos;
    const float factor = name == "fc.bias" ? 0.f : name == "fc.weight" ? 4.f : stage2_weight ? 0.5f : 1.f;
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(scaled.at(name)[i], factor * values[i], 1e-6 + 1e-5 * std::abs(values[i])) << name;
  }
}

TEST(LrMultipliers, MakeGroups) {
  TrainStepOptions options = tiny_options();
  options.frozen_parts = 2;
  options.optimizer.lr_multipliers = {{"fc.*", 10}};
  TinyRun run(options);
  const std::vector<ParameterGroup> groups = run.step().optimizer().groups();
  std::vector<std::string> names;
  int64_t tensors = 0, all = 0;
  for (const ParameterGroup& group : groups) {
    names.push_back(group.name);
    tensors += group.tensors;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"weights (filters, matrices)", "batch norm and biases", "fc.*: weights",
                                             "fc.*: norms and biases", "frozen"}));
  run.network().for_each_parameter([&](const std::string&, Parameter&) { ++all; });
  EXPECT_EQ(tensors, all);
  EXPECT_EQ(groups[2].lr_multiplier, 10);
  EXPECT_EQ(groups[2].parameters, 5 * 16);
  EXPECT_EQ(groups[2].weight_decay, options.optimizer.weight_decay);
  EXPECT_EQ(groups[3].weight_decay, 0);
  EXPECT_TRUE(groups[4].frozen);
}

// A checkpoint of the tiny network, with averages beside.
class Initial : public testing::Test {
 protected:
  void SetUp() override {
    ShuffleNetV2 network(*backend_, tiny_network(), 7), averaged(*backend_, tiny_network(), 8);
    metadata_.model = tiny_network();
    metadata_.classes = {"a", "b", "c", "d", "e"};
    metadata_.preprocessing.resize = 40;
    metadata_.preprocessing.crop = 32;
    metadata_.normalisation.mean = {0.25};
    metadata_.normalisation.std = {0.5};
    metadata_.riffle_version = "test";
    CheckpointFile file;
    file.metadata = to_json(metadata_);
    export_module(*backend_, network, file.tensors);
    TensorMap averages;
    export_module(*backend_, averaged, averages);
    for (const auto& [name, tensor] : averages) file.tensors.emplace(kAveragePrefix + name, tensor);
    write_safetensors(path_, file);
    raw_ = values_of(*backend_, network);
    averages_ = values_of(*backend_, averaged);
  }
  RunConfig resolve(const std::string& yaml) const {
    return resolve_run(parse_sourced_config(yaml, "x.yaml", {"init.checkpoint=" + path_}));
  }
  std::string mistake(const std::string& yaml) const {
    return message_of([&] { resolve(yaml); });
  }
  // The network that a run with these classes begins with, and what is said about it.
  Values begun(const std::string& yaml, const std::vector<std::string>& classes, bool reset_head, std::string& note) {
    const RunConfig run = resolve(yaml);
    ShuffleNetV2 network(*backend_, run.config.network(static_cast<int64_t>(classes.size())), 1);
    note = load_initial_weights(*backend_, *run.initial, reset_head, classes, network);
    return values_of(*backend_, network);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("x.safetensors");
  std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
  CheckpointMetadata metadata_;
  Values raw_, averages_;
  std::string note_;
};

TEST_F(Initial, WeightsAreTheCheckpoints) {
  EXPECT_EQ(begun("", metadata_.classes, false, note_), raw_);
  expect_message(note_, {path_, "custom (torchvision), 5 classes", "classifier kept"});
  EXPECT_EQ(begun("init: {weights: ema}", metadata_.classes, false, note_), averages_);
  expect_message(note_, {"moving averages"});
}

TEST_F(Initial, TheClassifierFollowsTheNames) {
  const Values got = begun("", {"b", "a", "c", "e", "d"}, false, note_);
  expect_message(note_, {"into the data's order"});
  const size_t order[] = {1, 0, 2, 4, 3};
  for (const auto& [name, values] : raw_) {
    if (name.rfind("fc.", 0) != 0) {
      EXPECT_EQ(got.at(name), values) << name;
      continue;
    }
    const size_t row = values.size() / 5;
    for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(got.at(name)[i], values[order[i / row] * row + i % row]);
  }
}

TEST_F(Initial, OtherClassesNeedANewClassifier) {
  for (const std::vector<std::string>& classes :
       {std::vector<std::string>{"a", "b"}, {"a", "b", "c", "d", "x"}, {"a", "b", "c", "d", "e", "f"}}) {
    const RunConfig run = resolve("");
    ShuffleNetV2 network(*backend_, tiny_network(static_cast<int64_t>(classes.size())), 1);
    const Values fresh = values_of(*backend_, network);
    expect_message(message_of([&] { load_initial_weights(*backend_, *run.initial, false, classes, network); }),
                   {path_, "5 classes", "--reset-head"});
    EXPECT_EQ(values_of(*backend_, network), fresh) << "an error leaves the network as it was";
    load_initial_weights(*backend_, *run.initial, true, classes, network);
    for (const auto& [name, values] : values_of(*backend_, network))
      EXPECT_EQ(values, name.rfind("fc.", 0) == 0 ? fresh.at(name) : raw_.at(name)) << name;
  }
}

TEST_F(Initial, WhatIsNotSetIsTheCheckpoints) {
  const RunConfig run = resolve("");
  EXPECT_TRUE(run.config.network(5) == tiny_network());
  EXPECT_EQ(run.config.normalisation.mean, std::vector<double>{0.25});
  EXPECT_EQ(run.config.eval.resize, 40);
  EXPECT_EQ(run.config.eval.crop, 32);
  EXPECT_EQ(run.config.augment.size, 32);
  EXPECT_TRUE(run.warnings.empty());
  // The resolved configuration says it all, and reads back to the same.
  const RunConfig again = resolve_run(parse_sourced_config(to_yaml(run.config), "resolved.yaml", {}));
  EXPECT_EQ(to_yaml(again.config), to_yaml(run.config));
  EXPECT_TRUE(again.warnings.empty());
}

TEST_F(Initial, AnInputThatIsSetIsKeptWithAWarning) {
  const RunConfig run = resolve("normalisation: {mean: [0.5], std: [0.5]}\neval: {crop: 36}\naugment: {size: 24}\n");
  EXPECT_EQ(run.config.normalisation.mean, std::vector<double>{0.5});
  EXPECT_EQ(run.config.eval.crop, 36);
  EXPECT_EQ(run.config.augment.size, 24);
  ASSERT_EQ(run.warnings.size(), 2u);
  expect_message(run.warnings[0], {"normalisation.mean is [0.5]", "[0.25]", path_});
  expect_message(run.warnings[1], {"eval.crop is 36", "32"});
}

TEST_F(Initial, ANetworkThatIsSetMustBeTheCheckpoints) {
  resolve("model: {stem_stride: 2, input_channels: 1}\nnormalisation: {mean: [0.25], std: [0.5]}\n");
  expect_message(mistake("model: {width: 0.5x}\n"), {"x.yaml:1:16: model.width is 0.5x", path_,
                                                     "expected model.width=custom", "none of the model's keys"});
  expect_message(mistake("model: {dialect: megvii}\n"), {"model.dialect is megvii", "model.dialect=torchvision"});
  expect_message(mistake("model: {stem_max_pool: false}\n"), {"model.stem_max_pool is false"});
  expect_message(mistake("model: {stem_stride: 1}\n"), {"model.stem_stride is 1", "model.stem_stride=2"});
}

TEST_F(Initial, FineTuningWithoutACheckpointIsAMistake) {
  for (const char* yaml :
       {"finetune: {freeze: [stem]}", "finetune: {head_only: 1ep}", "init: {reset_head: true}", "init: {weights: ema}"})
    expect_message(message_of([&] { resolve_run(parse_sourced_config(yaml, "x.yaml", {})); }),
                   {"x.yaml:1:", "init.checkpoint is not", "--init CHECKPOINT"});
  const std::string foreign = folder_.file("x.pth");
  write_bytes(foreign, "PK");
  expect_message(message_of([&] { resolve_run(parse_sourced_config("", "x", {"init.checkpoint=" + foreign})); }),
                 {foreign, "riffle convert"});
}

}  // namespace
}  // namespace riffle
