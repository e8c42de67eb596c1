// SGD over all parameters of a network in one call, with weight decay by group and clipping of the global gradient
// norm; and the exponential moving average of the parameters.
#pragma once

#include <string>
#include <vector>

#include "core/module.h"
#include "layers/shufflenet_v2.h"
#include "train/config.h"

namespace riffle {

struct ParameterGroup {
  std::string name;  // "weights: filters and matrices"
  double weight_decay = 0;
  int64_t tensors = 0, parameters = 0;
};

class Optimizer {
 public:
  // The module must outlive the optimizer.
  Optimizer(Backend& backend, Module& module, const OptimizerSection& section);

  // One update from the gradients that the backward passes left; forgets them afterwards. Returns the global gradient
  // norm before clipping, or 0 where clipping is off (the norm is not computed then).
  double step(double lr);

  // Decayed, undecayed and frozen parameters, in this order; groups without parameters are left out.
  std::vector<ParameterGroup> groups() const;

 private:
  Backend& backend_;
  Module& module_;
  OptimizerSection section_;
  std::vector<ParameterUpdate> updates_;
  std::vector<Tensor> grads_;
};

// average = d * average + (1 - d) * value after each step t = 1, 2, ..., with d = min(decay, (1 + t) / (10 + t)), so
// that a short run is not dominated by its initial weights. The average starts as the network's weights.
class WeightAverage {
 public:
  WeightAverage(Backend& backend, ShuffleNetV2& network, double decay);

  void update(int64_t step);
  // Copies the averages into `target`, of the same architecture. Batch-norm statistics are the network's own, copied:
  // they are already running averages.
  void copy_to(ShuffleNetV2& target);

 private:
  Backend& backend_;
  ShuffleNetV2& network_;
  double decay_;
  std::vector<Tensor> averages_, values_;
};

// target = source: parameters and buffers of two networks of one architecture.
void copy_network(Backend& backend, ShuffleNetV2& source, ShuffleNetV2& target);

}  // namespace riffle
