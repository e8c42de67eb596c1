// What training goes on from besides tensors, as the "state" of a checkpoint's metadata: where the run is, the best so
// far, and the log line that was being gathered. Everything else is a function of the configuration and the step.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "train/early_stopping.h"
#include "train/metrics.h"
#include "train/train_step.h"

namespace riffle {

struct TrainingState {
  int64_t step = 0;  // finished
  int64_t steps_per_epoch = 0, train_images = 0;
  bool evaluated = false;  // at this step; false also where no evaluation is due
  LossScale loss_scale;
  std::string device;  // it was trained on

  struct Best {
    double top1 = -1;         // of the run so far; -1: not evaluated yet
    std::string description;  // "EMA weights of epoch 3"
  };
  Best best;
  EarlyStopping early_stopping;
  int64_t skipped_steps = 0;  // because their gradients were not finite

  // Since the last log line.
  struct Window {
    int64_t first_step = 0;
    double seconds = 0, wait_ms = 0;
    int64_t ready_batches = 0;  // before each one that was taken, summed
    MetricSums sums;
  };
  Window window;

  // For the time that is left.
  double training_seconds = 0, evaluation_seconds = 0;
  int64_t evaluations = 0;
};

nlohmann::json to_json(const TrainingState& state);

// Throws where the metadata has no state (it is not a checkpoint that training can go on from) or a wrong one.
TrainingState training_state_from_json(const nlohmann::json& metadata, const std::string& path);

inline constexpr const char* kTrainingStateKey = "state";

}  // namespace riffle
