// k steps, a stop, and the rest are the same as all steps at once, bit for bit, on the CPU.
#include <gtest/gtest.h>

#include <csignal>

#include "core/cpu/cpu_backend.h"
#include "resumed_runs.h"
#include "train/stop_signals.h"

namespace riffle {
namespace {

class Resume : public testing::Test {
 protected:
  void SetUp() override { write_idx_data(path("idx")); }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string config(const std::string& more, const std::string& duration = "3ep") const {
    std::string text = tiny_config("idx:" + path("idx"), 1) + more;
    return text.replace(text.find("duration: 2ep"), 13, "duration: " + duration);
  }
  // An epoch has 8 batches; a log line comes every 3 steps.
  void expect_exact(const std::string& more, const std::vector<std::vector<int64_t>>& all_stops) {
    int runs = 0;
    const auto cpu = [&] { return make_cpu_backend(1 + runs++ % 2); };
    const RunOutcome undisturbed = run_in_parts(cpu, config(more), path("undisturbed"), {});
    EXPECT_EQ(undisturbed.log.back().at("type"), "val");
    for (const std::vector<int64_t>& stops : all_stops) {
      SCOPED_TRACE(join("stopped after step ", stops.front()));
      expect_same(run_in_parts(cpu, config(more), path(join("run", runs)), stops, {1, 3, 2}), undisturbed);
    }
  }

  TemporaryFolder folder_;
};

// Among them: in a log window, at a log line, before an evaluation (8, 16), several times in a row, before the first step.
TEST_F(Resume, IsExactWithAugmentationAndAverages) {
  expect_exact("ema: {decay: 0.9}\n", {{1}, {3}, {7}, {8}, {11}, {23}, {2, 4, 5, 16, 17}, {0, 13}});
}

TEST_F(Resume, IsExactWithAccumulationAndClipping) {
  std::string more = "ema: {decay: 0.99}\ncheckpoint: {every: 2it, keep: 1}\n";
  const std::string plain = config("");
  const std::string optimizer = "optimizer: {nesterov: true}";
  const auto cpu = [] { return make_cpu_backend(2); };
  std::string text = config(more);
  text.replace(text.find(optimizer), optimizer.size(), "optimizer: {accumulate: 3, clip_norm: 1}");
  const RunOutcome undisturbed = run_in_parts(cpu, text, path("undisturbed"), {});  // 2 steps an epoch
  for (const int64_t stop : {1, 2, 3, 5})
    expect_same(run_in_parts(cpu, text, path(join("run", stop)), {stop}, {2, 1}), undisturbed);
}

TEST_F(Resume, IsExactWithEveryKindOfDurationOfCheckpoints) {
  for (const char* every : {"0", "5it", "0.5ep"})
    expect_exact(join("checkpoint: {every: ", every, ", keep: 2, keep_every: 10it}\n"), {{6}, {9, 10}});
}

TEST_F(Resume, KeepsTheNewestAndThoseToKeep) {
  const auto cpu = [] { return make_cpu_backend(1); };
  run_in_parts(cpu, config("checkpoint: {every: 2it, keep: 3, keep_every: 8it}\n"), path("run"), {});
  EXPECT_EQ(RunFolder::checkpoint_steps(path("run")), (std::vector<int64_t>{24, 22, 20, 16, 8}));
  EXPECT_EQ(std::filesystem::read_symlink(path("run/checkpoints/last.safetensors")), "step-00000024.safetensors");
  expect_error([&] { read_resume_point(path("run/checkpoints/best.safetensors")); }, {"weights only", "--init"});
}

TEST_F(Resume, TellsChangesThatMatterFromThoseThatDoNot) {
  Config before, now;
  now.data.loader_threads = 5;
  now.schedule.lr = 0.25;
  const std::vector<ConfigChange> changes = config_changes(before, now);
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].path, "data.loader_threads");
  EXPECT_FALSE(changes[0].changes_training);
  EXPECT_EQ(changes[1].path, "schedule.lr");
  EXPECT_EQ(changes[1].now, "0.25");
  EXPECT_TRUE(changes[1].changes_training);
}

TEST_F(Resume, RefusesOtherDataUnlessToldTo) {
  const auto backend = make_cpu_backend(1);
  run_in_parts([] { return make_cpu_backend(1); }, config(""), path("run"), {});
  write_idx(path("idx"), "train", 48, 32, 1);
  const Config other = parse_config(config(""), "test", {});
  const TrainData data = open_train_data(other);
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, false);
  Trainer trainer(*backend, other, data, 1, progress);
  std::vector<std::string> warnings;
  const std::optional<ResumePoint> point = find_resume_point(path("run"), warnings);
  ASSERT_TRUE(point);
  expect_error([&] { trainer.resume(point->file, point->path); }, {"48 images", "64", "--allow-config-change"});
}

using StopSignalsDeathTest = testing::Test;

TEST(StopSignalsDeathTest, OneIsRememberedAndASecondInterruptEnds) {
  EXPECT_EXIT(
      {
        const StopSignals signals;
        std::raise(SIGTERM);
        if (!StopSignals::received() || StopSignals::name() != "SIGTERM") _exit(1);
        std::raise(SIGTERM);
        std::raise(SIGINT);
        _exit(2);
      },
      testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace riffle
