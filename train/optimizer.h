// SGD over all parameters of a network in one call, with weight decay and learning rate by group and clipping of the
// global gradient norm; and the exponential moving average of the parameters. Frozen parameters take no part.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/module.h"
#include "layers/shufflenet_v2.h"
#include "train/checkpoint/host_tensor.h"
#include "train/config.h"

namespace riffle {

// Parameters that are treated alike.
struct ParameterGroup {
  std::string name;  // "weights (filters, matrices)", "fc.*: weights", "frozen"
  double lr_multiplier = 1, weight_decay = 0;
  bool frozen = false;
  int64_t tensors = 0, parameters = 0;
};

// A table for people, as lines.
std::vector<std::string> group_table(const std::vector<ParameterGroup>& groups);

class Optimizer {
 public:
  // The module must outlive the optimizer.
  // skip_not_finite: a step whose gradients are not finite changes nothing; read_applied() tells.
  Optimizer(Backend& backend, Module& module, const OptimizerSection& section, bool skip_not_finite = false);

  // After parameters were frozen or thawed, between steps. Those that go on training keep their momentum, those that
  // begin to start with none.
  void frozen_changed();

  // Puts the numbers of step `step`, from 0, where the device reads them. Before the step's first forward pass.
  // keep_halted: kHalted stays as the last step left it.
  void begin(int64_t step, double lr, double ema_decay, double loss_scale = 1, bool keep_halted = false);
  // One update from the gradients that the backward passes left; forgets them afterwards.
  void step();
  // The global gradient norm of the last step, before clipping. Waits for the device.
  double read_grad_norm() const;
  // Whether the last step changed anything. Waits for the device.
  bool read_applied() const { return read_scalar(kApply) != 0; }

  const Tensor& scalars() const { return scalars_; }  // see StepScalar

  // Of all parameters that are not frozen, as "optimizer.momentum.<name>".
  void export_momentum(TensorMap& tensors) const;
  void import_momentum(const TensorMap& tensors, const std::string& path);

  // Parameters without a rule of lr_multipliers, those of each rule, and frozen ones, in this order; each but the last
  // decayed and undecayed. Groups without parameters are left out.
  std::vector<ParameterGroup> groups() const;
  // The same if those were frozen that `frozen` says, by their names.
  std::vector<ParameterGroup> groups(const std::function<bool(const std::string& name)>& frozen) const;

 private:
  double read_scalar(StepScalar which) const;
  // Names carry the prefix of files.
  void for_each_momentum(const std::function<void(const std::string& name, const Parameter& parameter,
                                                  const Tensor& momentum)>& visit) const;
  Tensor momentum_of(const std::vector<ParameterUpdate>& before, const Parameter& parameter) const;

  Backend& backend_;
  Module& module_;
  OptimizerSection section_;
  bool skip_not_finite_;
  std::vector<ParameterUpdate> updates_;
  std::vector<Tensor> grads_;
  Tensor scalars_;       // (kStepScalars)
  Tensor squared_norm_;  // f64 (1)
};

// average = d * average + (1 - d) * value, at update t = 1, 2, ... with d = min(decay, (1 + t) / (10 + t)), so that a short
// run is not dominated by its initial weights, or without warm-up d = decay. Update t comes after step t * every; a step
// that is skipped counts, so that t follows from the step. The average starts as the network's weights. Batch norm's
// running statistics are averaged alike: those of the last steps belong to the last weights, not to the average ones.
class WeightAverage {
 public:
  WeightAverage(Backend& backend, ShuffleNetV2& network, double decay, bool warmup = true, int64_t every = 1);

  bool due_after(int64_t step) const { return step % every_ == 0; }  // step 1, 2, ...
  double decay_at(int64_t step) const;                               // d of an update after it
  // Reads scalars[kEmaDecay].
  void update(const Tensor& scalars);
  // After parameters were frozen or thawed: frozen ones equal their average, and no rounding may change that.
  void frozen_changed();
  // Copies the averages into `target`, of the same architecture; and back.
  void copy_to(ShuffleNetV2& target);
  void copy_from(ShuffleNetV2& source);

 private:
  Backend& backend_;
  ShuffleNetV2& network_;
  double decay_;
  bool warmup_;
  int64_t every_;
  std::vector<Tensor> averages_, values_;                  // of parameters, then buffers
  std::vector<Tensor> trained_averages_, trained_values_;  // of those that are not frozen
};

// target = source: parameters and buffers of two networks of one architecture.
void copy_network(Backend& backend, ShuffleNetV2& source, ShuffleNetV2& target);

}  // namespace riffle
