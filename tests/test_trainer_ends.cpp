// How runs end before their time, and runs on a few batches only.
#include <gtest/gtest.h>

#include <cmath>

#include "resumed_runs.h"
#include "trainer_runs.h"

namespace riffle {
namespace {

class TrainerEnds : public TrainerRuns {
 protected:
  std::string text_with(const std::string& more, const std::string& train) const {
    std::string text = config_text() + more;
    const std::string key = "train: {duration: 2ep, ";
    return text.replace(text.find(key), key.size(), "train: {" + train + ", ");
  }
  // Stopped after each of the steps in turn, always the same.
  void expect_exact(const std::string& text, const std::vector<int64_t>& stops) {
    const auto cpu = [] { return make_cpu_backend(1); };
    const RunOutcome undisturbed = run_in_parts(cpu, text, path("undisturbed"), {});
    for (const int64_t stop : stops) {
      SCOPED_TRACE(join("stopped after step ", stop));
      expect_same(run_in_parts(cpu, text, path(join("run", stop)), {stop}, {1, 2}), undisturbed);
    }
  }
};

TEST(EarlyStopping, CountsEvaluationsThatAreNotBetter) {
  EarlyStoppingSection section;
  EarlyStopping state;
  const auto after = [&](double top1) {
    note_evaluation(section, top1, state);
    return stops_early(section, state);
  };
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(after(0.5)) << "patience is 0";
  section = {/*patience=*/2, /*min_delta=*/1.5};
  state = {};
  EXPECT_FALSE(after(0));
  EXPECT_FALSE(after(0.014));
  EXPECT_FALSE(after(0.016));  // better than 0 by more than 1.5 points, slow as it came
  EXPECT_FALSE(after(0.03));
  EXPECT_TRUE(after(0.01));
  EXPECT_TRUE(after(0.031));
  EXPECT_FALSE(after(0.032)) << "1.6 points better than 0.016";
}

// At a learning rate of 1e-30 the first evaluation is the best.
TEST_F(TrainerEnds, EarlyWhenEvaluationsAreNoLongerBetter) {
  const std::vector<std::string> still{
      "schedule.lr=1e-30",      "train.duration=9ep",       "early_stopping.patience=2", "eval.every_epochs=2",
      "checkpoint.every=100it", "recalibrate.duration=2it", "optimizer.weight_decay=0",  "early_stopping.min_delta=50"};
  const Result result = run("run", still);
  EXPECT_TRUE(result.finished) << result.error;
  expect_contains(result.out, {"stopping    early: 2 evaluations in a row not better than", "recalibrate batch norm's",
                               "best        top-1 accuracy"});
  const std::vector<nlohmann::json> evaluations = records("run", "val");
  ASSERT_EQ(evaluations.size(), 3u);
  EXPECT_EQ(evaluations.back().at("step"), 6 * kStepsPerEpoch);
  const CheckpointFile last = read_safetensors(path("run/checkpoints/last.safetensors"));
  EXPECT_EQ(last.metadata.at("state").at("step"), 6 * kStepsPerEpoch) << "saved though no checkpoint was due";
  EXPECT_EQ(last.metadata.at("state").at("early_stopping").at("waited"), 2);
  EXPECT_TRUE(std::filesystem::exists(path("run/checkpoints/recalibrated.safetensors")));
}

// A run that learns goes on as long as it does.
TEST_F(TrainerEnds, NotEarlyWhileTheyAre) {
  const Result result = run("run", {"early_stopping.patience=3", "train.duration=3ep"});
  EXPECT_TRUE(result.finished) << result.error;
  EXPECT_EQ(records("run", "val").size(), 3u);
  EXPECT_EQ(result.out.find("stopping"), std::string::npos);
}

TEST_F(TrainerEnds, EarlyStoppingGoesOnExactly) {
  const std::string more = "ema: {decay: 0.9, every: 3}\nearly_stopping: {patience: 2, min_delta: 100}\n";
  const std::string text = text_with(more, "duration: 9ep");
  expect_exact(text, {7, 8, 16, 17});
  const RunOutcome outcome = outcome_of(path("undisturbed"));
  EXPECT_EQ(outcome.state.at("step"), 3 * kStepsPerEpoch);
}

// A finished run stays finished, unless it is given more patience.
TEST_F(TrainerEnds, MorePatienceGoesOn) {
  const std::vector<std::string> still{"schedule.lr=1e-30", "train.duration=5ep", "early_stopping.patience=1"};
  EXPECT_TRUE(run("run", still).finished);
  std::vector<std::string> warnings;
  const std::optional<ResumePoint> point = find_resume_point(path("run"), warnings);
  ASSERT_TRUE(point);
  EXPECT_EQ(point->step(), 2 * kStepsPerEpoch);
  for (const std::string patience : {"1", "2"}) {
    const auto backend = make_cpu_backend(1);
    std::vector<std::string> overrides = still;
    overrides.push_back("early_stopping.patience=" + patience);
    const Config changed = config(overrides);
    check_config_changes(*point, changed, /*allowed=*/false);
    const TrainData data = open_train_data(changed);
    std::ostringstream out;
    Progress progress(out, Progress::Style::kPlain, false);
    Trainer trainer(*backend, changed, data, 1, progress);
    trainer.resume(point->file, point->path);
    EXPECT_EQ(trainer.finished(), patience == "1");
    if (patience == "1") {
      expect_contains(trainer.describe_finished(), {"stopped early, after step 16 of 40", "early_stopping.patience"});
      continue;
    }
    EXPECT_TRUE(trainer.run(RunFolder::reopen(path("run")), [] { return false; }));
    EXPECT_EQ(trainer.finished_steps(), 3 * kStepsPerEpoch);
  }
}

// A checkpoint of before there was early stopping.
TEST_F(TrainerEnds, OlderStatesAreRead) {
  TrainingState state;
  state.step = 3;
  state.steps_per_epoch = 8;
  state.early_stopping = {0.25, 4};
  state.skipped_steps = 2;
  nlohmann::json metadata{{"state", to_json(state)}};
  TrainingState read = training_state_from_json(metadata, "new");
  EXPECT_EQ(read.early_stopping.best_top1, 0.25);
  EXPECT_EQ(read.early_stopping.waited, 4);
  EXPECT_EQ(read.skipped_steps, 2);
  metadata["state"].erase("early_stopping");
  metadata["state"].erase("skipped_steps");
  read = training_state_from_json(metadata, "old");
  EXPECT_EQ(read.step, 3);
  EXPECT_EQ(read.early_stopping.best_top1, -1);
  EXPECT_EQ(read.skipped_steps, 0);
}

TEST_F(TrainerEnds, NeitherEndsNorLogsChangeTraining) {
  Config before, now;
  now.train.nonfinite = "skip";
  now.train.max_skipped_steps = 3;
  now.train.limit_steps = 7;
  now.early_stopping = {2, 0.5};
  now.log.tensorboard = false;
  now.log.histograms = "none";
  std::vector<ConfigChange> changes = config_changes(before, now);
  EXPECT_EQ(changes.size(), 7u);
  for (const ConfigChange& change : changes) EXPECT_FALSE(change.changes_training) << change.path;
  now = before;
  now.train.overfit_batches = 1;
  now.ema = {0.9, false, 2};
  changes = config_changes(before, now);
  EXPECT_EQ(changes.size(), 4u);
  for (const ConfigChange& change : changes) EXPECT_TRUE(change.changes_training) << change.path;
}

// With the schedule of the whole run, and evaluated, recalibrated and saved at its end; it can go on from there.
TEST_F(TrainerEnds, AfterLimitSteps) {
  const auto cpu = [] { return make_cpu_backend(1); };
  const std::string whole_text = text_with("ema: {decay: 0.9}\n", "duration: 2ep");
  const RunOutcome whole = run_in_parts(cpu, whole_text, path("whole"), {});
  const std::string text =
      text_with("ema: {decay: 0.9}\nrecalibrate: {duration: 1it}\n", "duration: 2ep, limit_steps: 5");
  const RunOutcome limited = run_in_parts(cpu, text, path("limited"), {});
  EXPECT_EQ(limited.state.at("step"), 5);
  // Early stopping does not count that evaluation, which the whole run does not have.
  EXPECT_EQ(limited.state.at("early_stopping").at("best_top1"), -1);
  EXPECT_EQ(whole.state.at("early_stopping").at("best_top1"), whole.state.at("best").at("top1"));
  ASSERT_EQ(limited.log.size(), 5u);  // steps 1, 3, 5, the evaluation, and recalibrated
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(limited.log[i], whole.log[i]);
  EXPECT_EQ(limited.log[2].at("step"), 5);
  EXPECT_EQ(limited.log[3].at("type"), "val");
  EXPECT_EQ(limited.log[4].at("type"), "recalibrated");
  expect_exact(text, {2, 5});

  std::filesystem::create_directories(path("longer"));
  std::filesystem::copy(path("limited"), path("longer"), std::filesystem::copy_options::recursive);
  std::vector<std::string> warnings;
  const std::optional<ResumePoint> point = find_resume_point(path("longer"), warnings);
  ASSERT_TRUE(point);
  const auto go_on = [&](const std::string& train, const std::function<void(Trainer&)>& check) {
    const auto backend = cpu();
    const Config changed =
        parse_config(text_with("ema: {decay: 0.9}\nrecalibrate: {duration: 1it}\n", train), "test", {});
    EXPECT_NO_THROW(check_config_changes(*point, changed, /*allowed=*/false));
    const TrainData data = open_train_data(changed);
    std::ostringstream out;
    Progress progress(out, Progress::Style::kPlain, false);
    Trainer trainer(*backend, changed, data, 1, progress);
    check(trainer);
  };
  go_on("duration: 2ep, limit_steps: 5", [&](Trainer& trainer) {
    trainer.resume(point->file, point->path);
    EXPECT_TRUE(trainer.finished());
    expect_contains(trainer.describe_finished(), {"the 5 steps of train.limit_steps"});
  });
  go_on("duration: 2ep, limit_steps: 4", [&](Trainer& trainer) {
    expect_error([&] { trainer.resume(point->file, point->path); }, {"is at step 5", "train.limit_steps is 4"});
  });
  go_on("duration: 2ep", [&](Trainer& trainer) {
    trainer.resume(point->file, point->path);
    EXPECT_FALSE(trainer.finished());
    EXPECT_TRUE(trainer.run(RunFolder::reopen(path("longer")), [] { return false; }));
  });
  const RunOutcome longer = outcome_of(path("longer"));
  for (const auto& [name, tensor] : whole.tensors)
    EXPECT_EQ(longer.tensors.at(name).bytes == tensor.bytes, true) << name;
}

// At the end of an epoch, too, the evaluation may be one that only the limit brings about.
TEST_F(TrainerEnds, ALimitAtAnEpochWithoutEvaluationCountsNone) {
  for (const int every : {1, 2}) {
    const std::string name = join("every", every);
    EXPECT_TRUE(run(name, {"train.limit_steps=8", join("eval.every_epochs=", every)}).finished);
    EXPECT_EQ(records(name, "val").size(), 1u);
    const RunOutcome limited = outcome_of(path(name));
    EXPECT_EQ(limited.state.at("early_stopping").at("best_top1") == -1, every == 2);
  }
}

TEST_F(TrainerEnds, ALimitBeyondTheRunIsNone) {
  const Result result = run("run", {"train.limit_steps=1000"});
  EXPECT_TRUE(result.finished) << result.error;
  EXPECT_EQ(records("run", "train").back().at("step"), 2 * kStepsPerEpoch);
}

// A network that can learn at all learns one batch by heart.
TEST_F(TrainerEnds, OneBatchIsLearntByHeart) {
  const Result result = run("run", {"train.overfit_batches=1", "train.duration=12ep", "optimizer.weight_decay=0",
                                    "eval.every_epochs=12", "checkpoint.every=0"});
  EXPECT_TRUE(result.finished) << result.error;
  const std::vector<nlohmann::json> log = records("run", "train");
  EXPECT_GT(log.front().at("loss"), 1);
  EXPECT_LT(log.back().at("loss"), 0.02);
  EXPECT_EQ(log.back().at("top1"), 1);
}

// The batches come in turn, each as it was augmented and mixed the first time: at a learning rate of next to 0 and without
// dropout the losses repeat, with the period of the batches.
TEST_F(TrainerEnds, OverfitBatchesComeInTurn) {
  const std::vector<std::string> still{"schedule.lr=1e-30",      "optimizer.weight_decay=0", "train.log_every_steps=1",
                                       "augment.mixup=0.5",      "optimizer.accumulate=2",   "train.duration=9it",
                                       "train.overfit_batches=3"};
  EXPECT_TRUE(run("run", still).finished);
  const std::vector<nlohmann::json> log = records("run", "train");
  ASSERT_EQ(log.size(), 9u);
  std::vector<double> losses;
  losses.reserve(log.size());
  for (const nlohmann::json& record : log) losses.push_back(record.at("loss"));
  for (size_t i = 3; i < losses.size(); ++i) EXPECT_EQ(losses[i], losses[i - 3]) << i;
  EXPECT_NE(losses[0], losses[1]);
  EXPECT_NE(losses[1], losses[2]);
  EXPECT_NE(losses[0], losses[2]);
}

TEST_F(TrainerEnds, OverfitBatchesGoOnExactly) {
  std::string text = text_with("", "duration: 2ep, overfit_batches: 3");
  text.insert(text.find("transforms:"), "mixup: 0.2, ");
  expect_exact(text, {1, 3, 8, 10});
}

TEST_F(TrainerEnds, MoreOverfitBatchesThanThereAreAreAnError) {
  const auto backend = make_cpu_backend(1);
  const Config used = config({"train.overfit_batches=9"});
  const TrainData data = open_train_data(used);
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, false);
  expect_error([&] { Trainer(*backend, used, data, 1, progress); },
               {"train.overfit_batches is 9", "an epoch has only 8 batches"});
}

TEST_F(TrainerEnds, ThePlanNamesThem) {
  const auto backend = make_cpu_backend(1);
  const Config used = config({"train.overfit_batches=2", "train.limit_steps=3"});
  const TrainData data = open_train_data(used);
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, false);
  std::string plan;
  for (const std::string& line : Trainer(*backend, used, data, 1, progress).plan()) plan += line + "\n";
  expect_contains(plan, {"the first 2 of an epoch's 8 batches", "stops after step 3 (train.limit_steps)"});
}

}  // namespace
}  // namespace riffle
