// The checkpoints of a run: which files there are, when they are written and which of them stay.
//
// step-NNNNNNNN holds all that training goes on from: the network, averages ("ema.*"), momentum ("optimizer.*") and
// TrainingState; `last` is a symbolic link to the newest. `best` holds the weights with the highest top-1 so far,
// averaged or not, and nothing else. A thread of its own writes them, so that steps do not wait for the disk.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "train/checkpoint/metadata.h"
#include "train/checkpoint/safetensors.h"
#include "train/run_folder.h"
#include "train/training_state.h"

namespace riffle {

struct KeepOptions {
  int64_t last = 2;         // this many of the newest stay
  int64_t every_steps = 0;  // and those of multiples of it; 0: no others
};

class RunCheckpoints {
 public:
  // metadata: what is the same in all of them.
  RunCheckpoints(Backend& backend, const RunFolder& folder, CheckpointMetadata metadata, const KeepOptions& keep);
  RunCheckpoints(const RunCheckpoints&) = delete;
  RunCheckpoints& operator=(const RunCheckpoints&) = delete;
  ~RunCheckpoints();  // waits for what is being written

  // To be called before the first step of a run that goes on after `step`. States of later steps, which that run leaves,
  // are renamed (RunFolder::superseded), with them the best weights if they are of a later step, and `last` is the state of
  // `step` again. Returns what it did, as lines for people.
  std::vector<std::string> set_aside_after(int64_t step);

  // Copies the weights. They are written with the next submit(). averaged: whether they are moving averages.
  void stage_best(ShuffleNetV2& network, bool averaged, const TrainingState& state, const MetricSums& sums);
  // Likewise; averages: of the network's weights, or null. sums: what was measured of the network, or null before that.
  void stage_state(ShuffleNetV2& network, ShuffleNetV2* averages, TrainStep& step, const TrainingState& state,
                   const MetricSums* sums);
  // Hands what is staged to the writing thread, best first: a state that speaks of a best one never outlives it. Waits
  // while the thread still writes what it got before.
  void submit();

  // What could not be done since the last call, as sentences. A best one that failed is tried again with the next submit().
  std::vector<std::string> take_failures();
  // Waits until everything is on the disk; throws if the newest state or the best weights are not.
  void finish();

 private:
  struct Job {
    std::optional<CheckpointFile> best, state;
    int64_t step = 0;
  };

  nlohmann::json metadata(bool averaged, const TrainingState& state, const MetricSums* sums) const;
  void write_jobs();
  void write(Job& job);
  void tidy_up(int64_t newest_step);
  void remove_old() const;

  Backend& backend_;
  const RunFolder folder_;  // a copy: the thread still writes when an error has unwound the caller
  CheckpointMetadata metadata_;
  KeepOptions keep_;
  Job staged_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Job> submitted_;  // not yet written, or being written
  std::vector<std::string> failures_;
  std::string last_failure_;  // of the last job; empty: it was written
  bool ends_ = false;
  bool link_failure_told_ = false, removal_failure_told_ = false;  // the writing thread's
  std::thread writer_;
};

}  // namespace riffle
