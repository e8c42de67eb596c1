// riffle train --dry-run, as a person sees it.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "terminal_process.h"
#include "tiny_data.h"
#include "train/text.h"

namespace riffle {
namespace {

class CliDryRun : public testing::Test {
 protected:
  void SetUp() override {
    write_idx_data(path("idx"));
    std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1) << "ema: {decay: 0.9}\n";
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::vector<std::string> command(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"train", path("tiny.yaml"), "-o", path("run"), "--dry-run", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  TemporaryFolder folder_;
};

TEST_F(CliDryRun, SaysWhatARunWouldTakeAndWritesNothing) {
  const ProcessResult result = run_riffle(command({"optimizer.accumulate=2"}), "export LC_ALL=C");
  expect_success(result);
  expect_contains(result.out, {"2 steps taken, the last at ", "images/s", "an estimate from these",
                               "16 images a step: 2 batches of 8", "8 in all, 4 an epoch", "gradients", "momentum",
                               "moving averages", "activations, workspace", "loaders' batches", "rate        0.1 |",
                               "a run would write to " + path("run") + "; nothing was written"});
  EXPECT_FALSE(std::filesystem::exists(path("run")));
}

// The peak is that of a run's first steps.
TEST_F(CliDryRun, ItsPeakIsThatOfTraining) {
  const ProcessResult dry = run_riffle(command());
  expect_success(dry);
  expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "--threads", "1", "train.duration=2it"}));
  std::ifstream metrics(path("run/metrics.jsonl"));
  std::string first;
  std::getline(metrics, first);
  const auto peak = nlohmann::json::parse(first).at("device_peak_bytes").get<double>();
  expect_contains(dry.out, {format_bytes(peak) + "  measured; the allocator holds"});
}

TEST_F(CliDryRun, DrawsWithWhatTheTerminalHas) {
  const ProcessResult blocks = run_on_terminal(command(), "export LC_ALL=C.UTF-8");
  expect_success(blocks);
  expect_contains(blocks.out, {"│█", "└──"});
  const ProcessResult ascii = run_on_terminal(command(), "export LC_ALL=C; stty columns 64");
  expect_success(ascii);
  expect_contains(ascii.out, {"|####", "0 +" + std::string(64 - 12 - 3 - 2, '-') + "\r\n"});
}

}  // namespace
}  // namespace riffle
