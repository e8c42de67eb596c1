// The training loop: steps, log lines, evaluations and checkpoints, as a configuration asks for.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/batch_mix.h"
#include "train/checkpoint/metadata.h"
#include "train/config.h"
#include "train/evaluator.h"
#include "train/initial_weights.h"
#include "train/progress.h"
#include "train/run_checkpoints.h"
#include "train/run_folder.h"
#include "train/run_log.h"
#include "train/schedule.h"
#include "train/stopwatch.h"
#include "train/train_data.h"
#include "train/train_step.h"

namespace riffle {

// Evaluations from epoch `epoch` (not yet evaluated, from 1) to the last, `epochs`: after every `every_epochs` epochs and
// after the last one.
int64_t count_evaluations(int64_t epoch, int64_t epochs, int64_t every_epochs);

class Trainer {
 public:
  // `data` must outlive the trainer. cpu_threads sizes the loader where the configuration does not. `initial`: what the
  // network begins with; null: random weights.
  Trainer(Backend& backend, const Config& config, const TrainData& data, int cpu_threads, Progress& progress,
          const InitialWeights* initial = nullptr);

  // Network, data, parameter groups and duration, as lines for people.
  std::vector<std::string> plan() const;
  void run(const RunFolder& folder);
  // Takes `steps` steps and returns how many seconds the last of them took. Writes nothing.
  double try_steps(int64_t steps);

  int64_t total_steps() const { return total_steps_; }
  int64_t images_per_step() const { return config_.train.batch * config_.optimizer.accumulate; }
  ShuffleNetV2& network() { return network_; }

 private:
  // What happened since the last log line.
  struct Window {
    Stopwatch clock;
    int64_t first_step = 0;
    double wait_ms = 0;
    int64_t ready_batches = 0;  // before each one that was taken, summed
  };
  struct Best {
    double top1 = -1;
    std::string description;  // "EMA weights of epoch 3"
  };

  std::vector<std::string> describe_groups() const;
  void follow_image_size();
  void take_step();
  BatchTargets targets_of(const Batch& batch, const std::optional<BatchMix>& mix);
  void report();
  void describe_end();
  void log(TrainProgress& progress);
  void finish_epoch();
  void report_bad_images();
  void evaluate();
  EvalResult measure(ShuffleNetV2& network, const std::string& what);
  // train/trainer_recalibrate.cpp: writes `recalibrated`, and `best` where it is better.
  void recalibrate_network(const RunFolder& folder);
  void estimate_statistics(ShuffleNetV2& network);
  int64_t recalibration_batches() const;
  // sums: what was measured of it, or null before that.
  void save_last(const MetricSums* sums);
  CheckpointMetadata::Training training_state() const {
    return {step() / steps_per_epoch_, step(), train_step_.loss_scale()};
  }
  void check_finite(const MetricSums& sums) const;
  double checked_grad_norm() const;
  double remaining_seconds() const;
  int64_t step() const { return train_step_.finished_steps(); }
  int64_t epoch() const { return (step() + steps_per_epoch_ - 1) / steps_per_epoch_; }  // the current one, from 1
  int64_t epochs() const { return (total_steps_ + steps_per_epoch_ - 1) / steps_per_epoch_; }
  double epochs_done() const { return static_cast<double>(step()) / static_cast<double>(steps_per_epoch_); }

  Backend& backend_;
  Config config_;
  const TrainData& data_;
  Progress& progress_;
  ShuffleNetV2 network_;
  std::string weights_note_;                // what it began with
  std::unique_ptr<ShuffleNetV2> averaged_;  // receives the moving averages; null without them
  Loader loader_;
  int64_t steps_per_epoch_, total_steps_, head_only_steps_;
  LearningRate learning_rate_;
  TrainStep train_step_;
  NetworkInput input_;
  Evaluator evaluator_;
  CheckpointMetadata metadata_;
  std::unique_ptr<RunLog> log_;  // these two since run()
  std::unique_ptr<RunCheckpoints> checkpoints_;

  Window window_;
  double training_seconds_ = 0, evaluation_seconds_ = 0;
  int64_t evaluations_ = 0, trained_images_ = 0;
  TrainProgress last_progress_;
  EvaluationRecord last_evaluation_;
  Best best_;
};

}  // namespace riffle
