// One optimisation step: forward and backward passes over one or more batches, then one update.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/out_of_memory.h"
#include "train/config.h"
#include "train/metrics.h"
#include "train/network_input.h"
#include "train/non_finite.h"
#include "train/optimizer.h"

namespace riffle {

// What becomes of a step whose gradients are NaN or infinite: it is applied, it and all later ones are not, or it alone is
// not. A step that is not applied leaves weights, momentum, averages and batch norm's statistics as they were.
enum class NonFinite { kApply, kStop, kSkip };

struct TrainStepOptions {
  OptimizerSection optimizer;
  double label_smoothing = 0;
  double ema_decay = 0;    // 0: no moving average
  bool ema_warmup = true;  // see WeightAverage
  int64_t ema_every = 1;   // likewise
  NonFinite nonfinite = NonFinite::kApply;
  uint64_t seed = 0;            // of dropout
  int64_t batch = 1;            // images a forward pass
  int64_t frozen_parts = 0;     // of ShuffleNetV2::parts()
  int64_t head_only_steps = 0;  // at first, when all parts are frozen
  bool scale_loss = false;      // dynamically: for f16 gradients
  bool cuda_graphs = false;     // where the backend can capture and accumulate = 1
  int64_t steps_between_reads = 1;
};

// Of gradients in f16, as PyTorch's GradScaler: halved when they overflow, doubled after so many steps that did not.
struct LossScale {
  double value = 1;
  int64_t steps_since_change = 0;
};

class TrainStep {
 public:
  TrainStep(Backend& backend, ShuffleNetV2& network, const TrainStepOptions& options);

  // begin(), optimizer.accumulate times forward_backward(), finish(). With scale_loss the inputs stay as they are until
  // settle() returns, since it may compute all batches of a step again.
  void begin(double lr);
  // One of the optimizer.accumulate batches of a step. x (N,H,W,C). The gradient of a step is that of the mean over all
  // its images. Label smoothing is the targets' own affair where they are probabilities.
  void forward_backward(const Variable& x, const BatchTargets& targets);
  // The update. Does not wait for the device.
  void finish();
  // With scale_loss a step whose gradients were not finite is computed again with a smaller scale, so that none is lost
  // and nothing else sees anything of it. Where no scale is left to try, it is options.nonfinite that says what becomes
  // of the step; with kApply that is an error. This does so for the last step, and waits for the device; begin() and
  // whatever reads what a step leaves call it. Only who reads the network's tensors between steps must do so first.
  void settle();
  // Of the last step, before clipping. Waits for the device.
  double read_grad_norm() {
    settle();
    return optimizer_.read_grad_norm();
  }

  // Loss and counts of the steps since the last read, added to `before`; at most steps_between_reads of them. Waits for
  // the device. Steps that were not applied do not count.
  MetricSums read_metrics(const MetricSums& before = {});
  int64_t unread_steps() const { return unread_steps_; }
  // Those of the last read that were not applied, by their numbers from 0, in order. Never with kApply.
  const std::vector<int64_t>& unapplied_steps() const { return unapplied_steps_; }
  // Whether it is known already, without a read, that a step was not applied: the last one that is settled.
  bool known_unapplied() const { return known_unapplied_; }
  // Computes batch `index` of step `step` without an update, looking at every tensor: the first that is not finite, in
  // words, or "". Overwrites gradients, so nothing can be trained afterwards.
  std::string first_non_finite(int64_t step, double lr, size_t index, const Variable& x, const BatchTargets& targets);

  // Between steps: from here on all but options.frozen_parts trains. Happens by itself after options.head_only_steps.
  void end_head_only();

  // Gives back the memory that a CUDA graph keeps, as an evaluation may need it; the graph is recorded again later.
  void release_graph();

  // What the next step depends on besides the network: momentum, and in numbers the rest.
  void export_state(TensorMap& tensors) {
    settle();
    optimizer_.export_momentum(tensors);
  }
  // Goes on as the step that was exported after `finished_steps`; the network must hold its weights already. averages:
  // of the weights; null where there are none.
  void import_state(const TensorMap& tensors, const std::string& path, int64_t finished_steps,
                    const LossScale& loss_scale, ShuffleNetV2* averages);

  int64_t finished_steps() const { return finished_steps_; }
  const Optimizer& optimizer() const { return optimizer_; }
  // Null without ema_decay.
  WeightAverage* average() {
    settle();
    return average_.get();
  }
  // Once the last step is settled.
  const LossScale& loss_scale() const {
    RIFFLE_CHECK(!undecided_, "the loss scale is known when the step is settled");
    return loss_scale_;
  }
  // What the gradients of the last step are multiplied by, once it is settled. None before the first step, which may be
  // one of a run that goes on: gradients are not part of a checkpoint.
  std::optional<double> gradient_scale() const { return gradient_scale_; }
  // How steps run, once that is known (after the third): "one CUDA graph a step", or why not; else empty.
  const std::string& execution() const { return execution_; }
  // Whether that is for want of a graph that was asked for and could not be had.
  bool gave_up_graph() const { return gave_up_; }

 private:
  struct BatchResult {
    Tensor losses, logits;  // (N,1,1,1), (N,1,1,K)
  };
  struct Batch {
    Variable x;
    BatchTargets targets;
  };

  void write_scalars(int64_t step, bool keep_halted);
  BatchResult run_batch(size_t index);
  BatchResult forward_and_backward(const Batch& batch, size_t index, NonFiniteSearch* search = nullptr);
  // How many images a step could have where `error` says that a batch's were too many; 0: not even one.
  int64_t fitting_batch(const OutOfMemory& error, size_t index);
  void run_update();
  void end_step();
  void keep_statistics();
  bool replays(const Batch& batch);
  void capture(const Batch& batch);
  bool gradients_were_finite();

  Backend& backend_;
  ShuffleNetV2& network_;
  TrainStepOptions options_;
  Optimizer optimizer_;
  std::unique_ptr<WeightAverage> average_;
  MetricBuffer metrics_;
  Tape tape_;
  int64_t fixed_bytes_ = 0;  // of memory: what does not depend on the batch
  int64_t most_bytes_ = 0;   // in use during a backward pass
  int64_t finished_steps_ = 0;
  bool begun_ = false;
  double lr_ = 0;
  LossScale loss_scale_;
  double loss_scale_before_step_ = 1;
  std::optional<double> gradient_scale_;
  std::vector<Tensor> statistics_, kept_statistics_;  // of batch norm, and what they were before the step
  Tensor applied_;                                    // kApply of the steps since the last read
  int64_t unread_steps_ = 0;
  std::vector<int64_t> unapplied_steps_;
  bool known_unapplied_ = false;
  std::vector<Batch> batches_;  // of the step so far, for computing them again

  std::unique_ptr<CapturedWork> graph_;  // of a whole step on graph_batch_
  std::unique_ptr<Batch> graph_batch_;
  BatchResult graph_result_;
  bool replaying_ = false;  // this step
  bool undecided_ = false;  // whether the last step's gradients were finite: settle()
  int failed_captures_ = 0;
  bool gave_up_ = false;        // capturing
  int64_t ordinary_steps_ = 0;  // since the beginning or release_graph()
  std::string execution_;
};

}  // namespace riffle
