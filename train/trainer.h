// The training loop: steps, log lines, evaluations and checkpoints, as a configuration asks for.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/bad_images.h"
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
#include "train/training_state.h"
#include "train/trial.h"

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
  // Goes on from what RunCheckpoints saved; instead of initial weights, before run(). `path` is for messages.
  // allow_other_data: whether epochs may have other lengths than before.
  void resume(const CheckpointFile& file, const std::string& path, bool allow_other_data = false);
  // Whether all steps are taken, or an early end was reached, and evaluated: resume() came to the run's end.
  bool finished() const { return (step() == last_step_ || stops_early()) && evaluated_; }
  // Of a finished run: "has taken all its 16 steps; for more: ...".
  std::string describe_finished() const;
  // Whether the run in `folder` still lacks its last phase, batch norm's statistics for the final weights.
  bool recalibration_is_due(const std::string& folder) const;
  // `stop` is asked after every step, and while evaluating and recalibrating. If it says so, everything is saved, and
  // false returned.
  bool run(
      const RunFolder& folder, const std::function<bool()>& stop = [] { return false; });
  // Takes `steps` steps and returns how many seconds the last of them took. Writes nothing.
  double try_steps(int64_t steps);
  // The same, and how long loading takes, and where memory goes (train/trainer_trial.cpp). The run cannot go on then.
  Trial try_out(int64_t steps);

  int64_t finished_steps() const { return step(); }
  int64_t last_step() const { return last_step_; }
  int64_t images_per_step() const { return config_.train.batch * config_.optimizer.accumulate; }
  const LearningRate& learning_rate() const { return learning_rate_; }
  int64_t steps_per_epoch() const { return steps_per_epoch_; }
  ShuffleNetV2& network() { return network_; }

 private:
  struct Stopped {};  // thrown out of an evaluation that a signal ends; the run then saves what it has

  std::vector<std::string> describe_groups() const;
  void follow_image_size();
  // The batch-th of the run, from 0: where the loader finds it, and how it is mixed.
  struct BatchPosition {
    int64_t epoch = 0, batch = 0;
  };
  BatchPosition position_of(int64_t batch) const;
  std::optional<BatchMix> mix_of(int64_t batch, int64_t image_size) const;
  void go_to_batch(int64_t batch);
  void take_step();
  void begin_step();
  BatchTargets targets_of(const Batch& batch, const std::optional<BatchMix>& mix);
  void report();
  void describe_end();
  bool log(TrainProgress& progress);
  void finish_epoch();
  void report_bad_images();
  bool evaluation_is_scheduled() const;  // also without train.limit_steps
  bool evaluation_is_due() const;
  bool checkpoint_is_due() const;
  void evaluate();
  void keep_measured(const EvaluationRecord& record);
  EvalResult measure(ShuffleNetV2& network, const std::string& what);
  // train/trainer_recalibrate.cpp: writes `recalibrated`, and `best` where it is better.
  bool recalibrate_network(const RunFolder& folder);  // false: stopped
  void recalibrate_and_measure(const RunFolder& folder);
  void estimate_statistics(ShuffleNetV2& network);
  int64_t recalibration_batches() const;
  MemoryPlan memory_plan();
  double loading_seconds_per_step();
  void read_window();
  // sums: what was measured of the network, or null before that.
  void save(const MetricSums* sums);
  void report_failed_saves();
  TrainingState state() const;
  double window_seconds() const { return state_.window.seconds + window_clock_.seconds(); }
  bool stops_early() const { return riffle::stops_early(config_.early_stopping, state_.early_stopping); }
  // train/trainer_nonfinite.cpp: of the steps since the last read that were not applied, stops the run or counts them.
  void handle_unapplied_steps();
  [[noreturn]] void stop_at_non_finite(int64_t bad_step);
  void check_loss(int64_t first_step);
  std::string describe_step(int64_t step) const;
  std::string find_non_finite(int64_t bad_step, int64_t suspect, const std::string& if_none);
  std::string first_non_finite(int64_t step, int64_t number);
  Batch load_again(int64_t number);
  std::string save_batch(int64_t number);
  double remaining_seconds() const;
  int64_t step() const { return train_step_.finished_steps(); }
  int64_t epoch() const { return (step() + steps_per_epoch_ - 1) / steps_per_epoch_; }  // the current one, from 1
  int64_t epochs() const { return (last_step_ + steps_per_epoch_ - 1) / steps_per_epoch_; }
  double epochs_done() const { return static_cast<double>(step()) / static_cast<double>(steps_per_epoch_); }

  Backend& backend_;
  Config config_;
  const TrainData& data_;
  Progress& progress_;
  ShuffleNetV2 network_;
  std::string weights_note_;                // what it began with
  std::unique_ptr<ShuffleNetV2> averaged_;  // receives the moving averages; null without them
  Loader loader_;
  TruncatedImageLog truncated_train_, truncated_val_;
  int64_t steps_per_epoch_, total_steps_;
  int64_t last_step_;  // total_steps_, or fewer with train.limit_steps
  int64_t head_only_steps_;
  LearningRate learning_rate_;
  TrainStep train_step_;
  NetworkInput input_;
  Evaluator evaluator_;
  CheckpointMetadata metadata_;
  std::optional<RunFolder> folder_;  // these three since run()
  std::unique_ptr<RunLog> log_;
  std::unique_ptr<RunCheckpoints> checkpoints_;

  TrainingState state_;     // but for what state() adds; its window: without the time since window_clock_
  Stopwatch window_clock_;  // since the last log line, or what interrupted it
  bool chosen_shown_ = false;
  bool in_epoch_ = false;    // whether the loader is where the next step begins
  bool evaluated_ = false;   // at this step
  int64_t saved_step_ = -1;  // the last that was saved, as it is now
  std::function<bool()> stop_;
  TrainProgress last_progress_;
  std::optional<EvaluationRecord> last_evaluation_;  // of this process
};

}  // namespace riffle
