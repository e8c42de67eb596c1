// Fine-tuning through the program itself: one run makes a checkpoint, others begin with it.
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint_weights.h"
#include "riffle_process.h"
#include "subtracted_shifts.h"
#include "tiny_data.h"
#include "train/checkpoint/checkpoint.h"

namespace riffle {
namespace {

class CliFinetune : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_idx_data(path("idx"));
    std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1) << "ema: {decay: 0.9}\n";
    training_ = run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "train.duration=4ep", "--threads", "1"});
    // A recipe without a network, for the same images.
    std::ofstream(path("tune.yaml")) << "data: {source: \"idx:" << path("idx") << "\"}\n"
                                     << "augment: {transforms: [{pad_and_crop: 1}]}\n"
                                     << "eval: {resize: 0}\n"
                                     << "ema: {decay: 0.9}\n"
                                     << "schedule: {lr: 0.05}\n"
                                     << "train: {duration: 2ep, batch: 8, log_every_steps: 3}\n";
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override { ASSERT_EQ(training_.exit_code, 0) << training_.out << training_.err; }

  static std::string path(const std::string& name) { return folder_->path() + "/" + name; }
  static std::string checkpoint() { return path("run/checkpoints/last.safetensors"); }
  static ProcessResult tune(const std::string& run, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"train", path("tune.yaml"), "--init",    checkpoint(),
                                       "-o",    path(run),         "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_riffle(arguments);
  }

  static TemporaryFolder* folder_;
  static ProcessResult training_;
};

TemporaryFolder* CliFinetune::folder_ = nullptr;
ProcessResult CliFinetune::training_;

TEST_F(CliFinetune, FrozenTensorsOfTheNewCheckpointAreTheOldOnes) {
  const ProcessResult result = tune("frozen", {"finetune.freeze=[stem, stage2]", "finetune.head_only=3it",
                                               "optimizer.lr_multipliers=[{pattern: \"fc.*\", multiplier: 10}]"});
  expect_success(result);
  expect_contains(result.out, {"stage_channels: [16, 24, 32]", "classifier kept", "head only   for 3it (3 steps)",
                               "fc.*: weights", "lr multiplier", "frozen", "thawed      from step 4"});
  const TensorMap before = weights_of(checkpoint());
  const TensorMap after = weights_of(path("frozen/checkpoints/last.safetensors"));
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, tensor] : before) {
    if (name.rfind("ema.", 0) == 0 || is_subtracted_again(name)) continue;
    const bool frozen = name.rfind("conv1.", 0) == 0 || name.rfind("stage2.", 0) == 0;
    EXPECT_EQ(after.at(name).bytes == tensor.bytes, frozen) << name;
    EXPECT_EQ(after.at("ema." + name).bytes == tensor.bytes, frozen) << "the average of " << name;
  }
}

// What the run resolved to is a configuration by itself.
TEST_F(CliFinetune, TheResolvedConfigurationMakesTheSameRun) {
  expect_success(tune("first", {"--reset-head", "--init-weights", "ema", "train.duration=1ep"}));
  expect_success(run_riffle({"train", path("first/config.resolved.yaml"), "-o", path("second"), "--threads", "1"}));
  const std::string last = "/checkpoints/last.safetensors";
  const TensorMap first = read_safetensors(path("first") + last).tensors;
  const TensorMap second = read_safetensors(path("second") + last).tensors;
  ASSERT_EQ(first.size(), second.size());
  for (const auto& [name, tensor] : first) EXPECT_EQ(second.at(name).bytes, tensor.bytes) << name;
}

// The classifier that is kept knows the classes from the start; a new one does not.
TEST_F(CliFinetune, BeginsWhereTheCheckpointEnded) {
  const auto loss_of_first_step = [&](const std::string& run, const std::vector<std::string>& more) {
    const ProcessResult result = tune(run, more);
    expect_success(result);
    std::ifstream log(path(run) + "/metrics.jsonl");
    std::string line;
    std::getline(log, line);
    return nlohmann::json::parse(line).at("loss").get<double>();
  };
  EXPECT_LT(loss_of_first_step("kept", {"train.duration=1it"}), 1.0);
  EXPECT_GT(loss_of_first_step("new", {"train.duration=1it", "--reset-head"}), 1.0);
}

TEST_F(CliFinetune, DryRunShowsThePlanAndInspectTheNetwork) {
  const ProcessResult result = tune("dry", {"--dry-run", "finetune.freeze=[stem, stage2, stage3, stage4, conv5]"});
  expect_success(result);
  expect_contains(result.out, {"lr multiplier", "frozen", "nothing was written"});
  EXPECT_FALSE(std::filesystem::exists(path("dry")));
  const ProcessResult inspected = run_riffle({"inspect", path("tune.yaml"), "init.checkpoint=" + checkpoint()});
  expect_success(inspected);
  expect_contains(inspected.out, {"custom"});
}

TEST_F(CliFinetune, MistakesAreNamed) {
  expect_failure(tune("x", {"model.width=1.0x"}), 2, {"model.width is 1.0x", checkpoint(), "model.width=custom"});
  expect_failure(tune("x", {"data.class_names=[a, b, c, d]"}), 2, {"--reset-head", "'a'"});
  expect_failure(tune("x", {"optimizer.lr_multipliers=[{pattern: \"stag4.*\", multiplier: 2}]"}), 2,
                 {"'stag4.*' matches no parameter", "did you mean 'stage4.*'?"});
  const std::string stage2_rate = "optimizer.lr_multipliers=[{pattern: \"stage2.*\", multiplier: 2}]";
  expect_failure(tune("x", {"finetune.freeze=[stem, stage2]", stage2_rate}), 2,
                 {"'stage2.*' changes nothing", "finetune.freeze"});
  expect_failure(tune("x", {"finetune.head_only=2ep"}), 2, {"finetune.head_only is 2ep, 16 steps", "has 16"});
  expect_failure(tune("x", {"--init-weights", "best"}), 2, {"--init-weights"});
  expect_failure(run_riffle({"train", path("tune.yaml"), "--reset-head"}), 2, {"init.checkpoint is not", "--init"});
  expect_failure(run_riffle({"train", path("tune.yaml"), "--init", path("none.safetensors")}), 1,
                 {path("none.safetensors")});
}

TEST_F(CliFinetune, AnotherInputIsAWarning) {
  const ProcessResult result = tune("other", {"--dry-run", "normalisation.mean=[0.25]"});
  expect_success(result);
  expect_contains(result.out, {"warning: normalisation.mean is [0.25]", "[0.5]"});
}

}  // namespace
}  // namespace riffle
