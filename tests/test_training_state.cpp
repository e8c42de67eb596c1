// What a run goes on from, besides tensors: every number of it comes back, what contradicts itself is refused, and which
// changes of configuration and device are told.
#include "train/training_state.h"

#include <gtest/gtest.h>

#include "tests/checkpoint_files.h"
#include "train/config_reader.h"
#include "train/resume.h"

namespace riffle {
namespace {

// No two members are equal, none has its initial value, and no sum is a round number.
TrainingState every_member() {
  TrainingState state;
  state.step = 1001;
  state.steps_per_epoch = 102;
  state.train_images = 10003;
  state.evaluated = true;
  state.loss_scale = {4096.0, 55};
  state.device = "cuda:3";
  state.best = {0.1 + 0.2, "EMA weights of epoch 3"};
  state.window.first_step = 990;
  state.window.seconds = 1.0 / 3;
  state.window.wait_ms = 2.0 / 3;
  state.window.ready_batches = 17;
  state.window.sums.images = 352;
  state.window.sums.top1_correct = 211;
  state.window.sums.top5_correct = 301;
  state.window.sums.loss_sum = 0.1 * 3;
  state.training_seconds = 1e5 / 7;
  state.evaluation_seconds = 1e3 / 7;
  state.evaluations = 9;
  state.skipped_steps = 3;
  state.early_stopping = {0.7 + 0.1, 4};
  return state;
}

TrainingState read(const nlohmann::json& state) {
  return training_state_from_json({{kTrainingStateKey, state}}, "x.safetensors");
}

// Through text, as in a file.
TEST(TrainingState, ComesBackWhole) {
  const nlohmann::json written = to_json(every_member());
  const TrainingState state = read(nlohmann::json::parse(written.dump()));
  EXPECT_EQ(to_json(state), written);
  EXPECT_EQ(state.window.seconds, 1.0 / 3);
  EXPECT_EQ(state.window.wait_ms, 2.0 / 3);
  EXPECT_EQ(state.training_seconds, 1e5 / 7);
  EXPECT_EQ(state.evaluation_seconds, 1e3 / 7);
  EXPECT_EQ(state.best.top1, 0.1 + 0.2);
}

TEST(TrainingState, OfTheFirstVersionsIsRead) {
  nlohmann::json written = to_json(every_member());
  written.erase("early_stopping");
  written.erase("skipped_steps");
  const TrainingState state = read(written);
  EXPECT_EQ(state.early_stopping.best_top1, -1);
  EXPECT_EQ(state.early_stopping.waited, 0);
  EXPECT_EQ(state.skipped_steps, 0);
  EXPECT_EQ(state.evaluations, 9);
}

TEST(TrainingState, ThatContradictsItselfIsRefused) {
  const auto changed = [](const char* where, const nlohmann::json& value) {
    nlohmann::json state = to_json(every_member());
    state[nlohmann::json::json_pointer(where)] = value;
    return state;
  };
  const auto message = [&](const char* where, const nlohmann::json& value) {
    return message_of([&] { read(changed(where, value)); });
  };
  for (const auto& [where, value] : {std::pair{"/step", -1},
                                     {"/step", 989},
                                     {"/steps_per_epoch", 0},
                                     {"/loss_scale/value", 0},
                                     {"/window/first_step", -1}})
    expect_message(message(where, value), {"x.safetensors", "contradicts itself"});
  EXPECT_EQ(read(changed("/step", 990)).step, 990) << "right after a line of the log";
  expect_message(message("/window", nullptr), {"x.safetensors", "'state'", "cannot be read"});
}

// docs/resuming.md lists them.
TEST(ResumedConfiguration, OnlyKeysThatLeaveEveryWeightAreFree) {
  const auto changes = [&](const std::string& override) {
    const std::vector<ConfigChange> all = config_changes(parse_config("", "a", {}), parse_config("", "b", {override}));
    EXPECT_EQ(all.size(), 1u) << override;
    return !all.empty() && all.front().changes_training;
  };
  for (const char* free :
       {"data.loader_threads=9", "data.prefetch=9", "data.index_cache=none", "data.cache_bytes=9",
        "data.max_bad_images=9", "eval.batch=9", "eval.every_epochs=9", "train.log_every_steps=9",
        "train.cuda_graphs=false", "checkpoint.every=9it", "checkpoint.keep=9", "train.limit_steps=9",
        "early_stopping.patience=9", "log.histograms=none", "log.tensorboard=false"})
    EXPECT_FALSE(changes(free)) << free;
  for (const char* bound :
       {"train.seed=9", "train.batch=9", "train.duration=9it", "train.precision=bf16", "train.label_smoothing=0.2",
        "train.deterministic=true", "data.shuffle=shards", "optimizer.weight_decay=0.2", "optimizer.accumulate=2",
        "ema.decay=0.9", "augment.mixup=0.3", "train.overfit_batches=1", "recalibrate.duration=1ep", "schedule.lr=0.2",
        "model.dialect=megvii"})
    EXPECT_TRUE(changes(bound)) << bound;
}

// Threads change no bit, so that they are not told.
TEST(ResumedDevice, IsToldWhereItRoundsDifferently) {
  TrainingState state = every_member();
  state.device = "CPU: X, 8 threads, AVX-512";
  const ResumePoint point{"x.safetensors", {{}, {{kTrainingStateKey, to_json(state)}}}, ""};
  EXPECT_EQ(device_note(point, "CPU: X, 1 thread, AVX-512"), "");
  const std::string note = device_note(point, "CPU: X, 8 threads, AVX2");
  EXPECT_NE(note.find("on another device before (CPU: X, 8 threads, AVX-512)"), std::string::npos) << note;
}

}  // namespace
}  // namespace riffle
