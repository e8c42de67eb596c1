// What a run logs when a disk is full, when it goes on with an evaluation, and in its last phase.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include "event_files.h"
#include "resumed_runs.h"
#include "trainer_runs.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

// Puts a full disk in the place of a run's metrics.jsonl while `from` to `to` - 1 steps are finished.
class FullDisk {
 public:
  FullDisk(std::string metrics, int64_t from, int64_t to) : metrics_(std::move(metrics)), from_(from), to_(to) {}

  void operator()(Trainer& trainer, Backend&) {
    const bool full = trainer.finished_steps() >= from_ && trainer.finished_steps() < to_;
    if (full == active_) return;
    active_ = full;
    if (full) {
      fs::rename(metrics_, metrics_ + ".before");
      fs::create_symlink("/dev/full", metrics_);
    } else {
      fs::rename(metrics_ + ".before", metrics_);
    }
  }

 private:
  std::string metrics_;
  int64_t from_, to_;
  bool active_ = false;
};

class TrainerLog : public TrainerRuns {
 protected:
  std::vector<int64_t> steps_of(const std::string& name, const std::string& type) const {
    std::vector<int64_t> steps;
    for (const nlohmann::json& record : records(name, type)) steps.push_back(record.at("step"));
    return steps;
  }
  static int64_t count(const std::string& text, const std::string& part) {
    int64_t found = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
    return found;
  }
};

TEST_F(TrainerLog, ADiskThatIsFullForAWhileCostsNothing) {
  const Result result = run("run", {}, FullDisk(path("run/metrics.jsonl"), 2, 7));
  EXPECT_EQ(result.error, "");
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(steps_of("run", "train"), (std::vector<int64_t>{1, 3, 6, 8, 9, 12, 15, 16}));
  EXPECT_EQ(steps_of("run", "val"), (std::vector<int64_t>{8, 16}));
  EXPECT_EQ(count(result.out, "warning:"), 1) << result.out;
  expect_contains(result.out, {"warning: cannot write " + path("run/metrics.jsonl") + ": No space left on device",
                               "training goes on, and records are kept"});
}

TEST_F(TrainerLog, ADiskThatStaysFullEndsNoRun) {
  const Result result = run("run", {}, FullDisk(path("run/metrics.jsonl"), 2, INT64_MAX));
  EXPECT_EQ(result.error, "");
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(count(result.out, "warning:"), 2) << result.out;
  expect_contains(result.out, {path("run/metrics.jsonl") + " lacks 9 records that could not be written"});
  const std::string table = text_of(path("run/metrics.csv"));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 11) << "this file could be written";
}

// What was in a gradient's memory before its first step is nothing to show.
TEST_F(TrainerLog, AnEvaluationBeforeAnyStepHasNoGradients) {
  run_in_parts([] { return make_cpu_backend(1); }, config_text(), path("run"), {kStepsPerEpoch});
  const std::vector<std::string> files = event_files(path("run"));
  ASSERT_EQ(files.size(), 2u);
  std::map<int64_t, std::pair<size_t, size_t>> histograms;  // by step, of weights and gradients
  for (const ReadEvent& event : read_events(text_of(files[1])))
    for (const auto& [tag, histogram] : event.histograms)
      ++(tag.rfind("weights/", 0) == 0 ? histograms[event.step].first : histograms[event.step].second);
  ASSERT_EQ(histograms.size(), 2u);
  EXPECT_GT(histograms.at(8).first, 0u);
  EXPECT_EQ(histograms.at(8).second, 0u);
  EXPECT_GT(histograms.at(16).second, 0u);
}

TEST_F(TrainerLog, TheLastPhaseIsInEveryForm) {
  const Result result = run("run", {"recalibrate.duration=1it", "ema.decay=0.9"});
  EXPECT_TRUE(result.finished) << result.error;
  const std::vector<nlohmann::json> recorded = records("run", "recalibrated");
  ASSERT_EQ(recorded.size(), 1u);
  EXPECT_EQ(recorded[0].at("recalibration_images"), 8);
  EXPECT_EQ(recorded[0].at("images"), 22);
  std::istringstream table(text_of(path("run/metrics.csv")));
  std::string row;
  for (std::string line; std::getline(table, line);) row = line;
  EXPECT_EQ(row.rfind("recalibrated,16,", 0), 0u) << row;
  const std::vector<ReadEvent> events = read_events(text_of(event_files(path("run")).at(0)));
  const ReadEvent& last = events.back();
  EXPECT_EQ(last.step, 16);
  for (const std::string key : {"loss", "top1", "top5"}) {
    EXPECT_EQ(last.scalars.at("recalibrated/" + key), recorded[0].at(key).get<float>()) << key;
    EXPECT_EQ(last.scalars.at("recalibrated_ema/" + key), recorded[0].at("ema_" + key).get<float>()) << key;
  }
}

}  // namespace
}  // namespace riffle
