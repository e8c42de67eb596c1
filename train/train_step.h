// One optimisation step: forward and backward passes over one or more batches, then one update.
#pragma once

#include <cstdint>
#include <memory>

#include "train/config.h"
#include "train/metrics.h"
#include "train/network_input.h"
#include "train/optimizer.h"

namespace riffle {

struct TrainStepOptions {
  OptimizerSection optimizer;
  double label_smoothing = 0;
  double ema_decay = 0;  // 0: no moving average
  uint64_t seed = 0;     // of dropout
  int64_t batch = 1;     // images a forward pass
  int64_t steps_between_reads = 1;
};

class TrainStep {
 public:
  TrainStep(Backend& backend, ShuffleNetV2& network, const TrainStepOptions& options);

  // One of the optimizer.accumulate batches of a step. x (N,H,W,C), labels i32 (N,1,1,1). The gradient of a step is
  // that of the mean over all its images.
  void forward_backward(const Variable& x, const Tensor& labels);
  // Ends the step. Returns the gradient norm before clipping, 0 where clipping is off.
  double update(double lr);

  // Loss and counts of the steps since the last read; at most steps_between_reads of them. Waits for the device.
  MetricSums read_metrics() { return metrics_.read(); }

  int64_t finished_steps() const { return finished_steps_; }
  const Optimizer& optimizer() const { return optimizer_; }
  WeightAverage* average() { return average_.get(); }  // null without ema_decay

 private:
  Backend& backend_;
  ShuffleNetV2& network_;
  TrainStepOptions options_;
  Optimizer optimizer_;
  std::unique_ptr<WeightAverage> average_;
  MetricBuffer metrics_;
  Tape tape_;
  int64_t finished_steps_ = 0;
  int64_t batches_of_step_ = 0;
};

}  // namespace riffle
