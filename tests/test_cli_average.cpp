// riffle average and riffle recalibrate, and the last phase of a run, through the program itself.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint_weights.h"
#include "riffle_process.h"
#include "tiny_data.h"
#include "train/checkpoint/checkpoint.h"

namespace riffle {
namespace {

class CliAverage : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_idx_data(path("idx"));
    write(path("tiny.yaml"), "");
    training_ = run_riffle(
        {"train", path("tiny.yaml"), "-o", path("a"), "--threads", "1", "ema.decay=0.9", "recalibrate.duration=1ep"});
    other_ = run_riffle({"train", path("tiny.yaml"), "-o", path("b"), "--threads", "1", "train.seed=8"});
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override {
    ASSERT_EQ(training_.exit_code, 0) << training_.out << training_.err;
    ASSERT_EQ(other_.exit_code, 0) << other_.out << other_.err;
  }

  static std::string path(const std::string& name) { return folder_->path() + "/" + name; }
  static std::string data() { return "idx:" + path("idx"); }
  static std::string checkpoint(const std::string& run, const std::string& name = "last") {
    return path(run + "/checkpoints/" + name + ".safetensors");
  }
  static void write(const std::string& file, const std::string& more) {
    std::ofstream(file) << tiny_config(data(), 1) << more;
  }
  static bool is_statistic(const std::string& name) { return name.find("running_") != std::string::npos; }

  static TemporaryFolder* folder_;
  static ProcessResult training_, other_;
};

TemporaryFolder* CliAverage::folder_ = nullptr;
ProcessResult CliAverage::training_, CliAverage::other_;

TEST_F(CliAverage, EveryTensorIsTheMean) {
  const std::string out = path("mean.safetensors");
  const ProcessResult result = run_riffle({"average", out, checkpoint("a"), checkpoint("b"), checkpoint("b")});
  expect_success(result);
  expect_contains(result.out, {"of 3 checkpoints"});
  const CheckpointFile a = read_safetensors(checkpoint("a")), b = read_safetensors(checkpoint("b"));
  const CheckpointFile mean = read_safetensors(out);
  EXPECT_EQ(mean.tensors.size(), weights_of(checkpoint("b")).size());  // without a's moving averages
  for (const auto& [name, tensor] : mean.tensors) {
    const std::vector<float> values = to_f32(tensor, name), of_a = to_f32(a.tensors.at(name), name),
                             of_b = to_f32(b.tensors.at(name), name);
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(values[i], static_cast<float>((static_cast<double>(of_a[i]) + of_b[i] + of_b[i]) / 3)) << name;
  }
  EXPECT_EQ(mean.metadata.at("training"), b.metadata.at("training"));
  EXPECT_FALSE(mean.metadata.contains("metrics"));
  expect_success(run_riffle({"eval", out, "--threads", "1"}));
  expect_failure(run_riffle({"average", out, checkpoint("a"), checkpoint("b")}), 1, {out, "--force"});
}

TEST_F(CliAverage, OnlyCheckpointsOfOneNetwork) {
  expect_failure(run_riffle({"average", path("x.safetensors"), checkpoint("a")}), 2, {"two or more"});
  expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("wide"), "--threads", "1", "train.duration=1it",
                             "model.head_channels=40"}));
  expect_failure(run_riffle({"average", path("x.safetensors"), checkpoint("a"), checkpoint("wide")}), 1,
                 {checkpoint("wide"), "model.head_channels is 40, but 32 in " + checkpoint("a")});
  expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("names"), "--threads", "1", "train.duration=1it",
                             "data.class_names=[a, b, c, d]"}));
  expect_failure(run_riffle({"average", path("x.safetensors"), checkpoint("a"), checkpoint("names")}), 1,
                 {"class 0 is 'a', but '0' in "});
  expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("bright"), "--threads", "1", "train.duration=1it",
                             "normalisation.mean=[0.25]"}));
  expect_failure(run_riffle({"average", path("x.safetensors"), checkpoint("a"), checkpoint("bright")}), 1,
                 {checkpoint("bright"), "normalisation.mean is [0.25]"});
  expect_failure(run_riffle({"average", path("x.safetensors"), checkpoint("b"), checkpoint("b"), "--weights", "ema"}),
                 1, {checkpoint("b"), "averaged"});
}

TEST_F(CliAverage, RecalibratesStatisticsAndNothingElse) {
  const std::string out = path("precise.safetensors");
  const ProcessResult result = run_riffle(
      {"recalibrate", checkpoint("a"), "-o", out, "--val", data(), "--images", "40", "--batch", "8", "--threads", "1"});
  expect_success(result);
  expect_contains(result.out, {"before      top-1 accuracy ", "after       top-1 accuracy ", "5 batches of 8",
                               "40 random images of "});
  const CheckpointFile before = read_safetensors(checkpoint("a")), after = read_safetensors(out);
  for (const auto& [name, tensor] : after.tensors)
    EXPECT_EQ(tensor.bytes != before.tensors.at(name).bytes, is_statistic(name)) << name;
  EXPECT_EQ(after.metadata.at("recalibrated"), nlohmann::json({{"images", 40}}));
  const ProcessResult eval = run_riffle({"eval", out, "--json", "-", "--threads", "1"});
  expect_success(eval);
  EXPECT_NEAR(100 * nlohmann::json::parse(eval.out).at("top1").get<double>(),
              after.metadata.at("metrics").at("top1_percent").get<double>(), 1e-9);
  expect_contains(run_riffle({"inspect", out}).out, {"recalibrated: {\"images\":40}"});
}

TEST_F(CliAverage, RecalibratesOnImagesAsInEvaluation) {
  const std::string out = path("eval.safetensors");
  const ProcessResult result = run_riffle({"recalibrate", checkpoint("a"), "-o", out, "--weights", "ema", "--batches",
                                           "3", "--batch", "16", "--transform", "eval", "--threads", "1"});
  expect_success(result);
  expect_contains(result.out, {"3 batches of 16, evaluation transform"});
  EXPECT_EQ(read_safetensors(out).metadata.at("weights"), "ema");
  EXPECT_FALSE(read_safetensors(out).metadata.contains("metrics"));
}

TEST_F(CliAverage, WhatCannotBeRecalibrated) {
  const std::string out = path("none.safetensors");
  expect_failure(run_riffle({"recalibrate", checkpoint("a"), "-o", out, "--images", "65", "--batch", "13"}), 2,
                 {"--images ask for 65 images, but there are 64"});
  expect_failure(run_riffle({"recalibrate", checkpoint("a"), "-o", out, "--images", "5", "--batch", "8"}), 2,
                 {"5 images, less than a batch of 8"});
  expect_failure(run_riffle({"recalibrate", checkpoint("a"), "-o", checkpoint("b")}), 1, {"exists already"});
  expect_failure(run_riffle({"recalibrate", checkpoint("a"), "-o", out, "--data", "idx:" + path("nowhere")}), 1,
                 {"nowhere"});
}

TEST_F(CliAverage, ARunEndsWithIt) {
  expect_contains(training_.out, {"at the end  8 batches for batch norm's statistics",
                                  "batch norm's statistics from 64 training images", "recalibrated  top-1 accuracy ",
                                  "recalibrated EMA  top-1 accuracy "});
  const CheckpointFile last = read_safetensors(checkpoint("a")),
                       precise = read_safetensors(checkpoint("a", "recalibrated"));
  ASSERT_EQ(precise.tensors.size(), weights_of(checkpoint("a")).size());
  for (const auto& [name, tensor] : precise.tensors)
    EXPECT_EQ(tensor.bytes != last.tensors.at(name).bytes, is_statistic(name)) << name;
  EXPECT_EQ(precise.metadata.at("recalibrated"), nlohmann::json({{"images", 64}}));
  EXPECT_FALSE(last.metadata.contains("recalibrated"));
  std::ifstream metrics(path("a/metrics.jsonl"));
  nlohmann::json record;
  for (std::string line; std::getline(metrics, line);) record = nlohmann::json::parse(line);
  EXPECT_EQ(record.at("type"), "recalibrated");
  EXPECT_NEAR(100 * record.at("top1").get<double>(), precise.metadata.at("metrics").at("top1_percent").get<double>(),
              1e-9);
  EXPECT_TRUE(record.contains("ema_top5"));
}

}  // namespace
}  // namespace riffle
