// SGD and the moving average of weights.
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace riffle {
namespace {

std::vector<Tensor> parameter_values(Module& module) {
  std::vector<Tensor> values;
  module.for_each_parameter([&](const std::string&, Parameter& parameter) { values.push_back(parameter.value); });
  return values;
}

std::vector<Tensor> buffer_values(Module& module) {
  std::vector<Tensor> values;
  module.for_each_buffer([&](const std::string&, Buffer& buffer) { values.push_back(buffer.value); });
  return values;
}

void copy_all(Backend& backend, const std::vector<Tensor>& from, const std::vector<Tensor>& to) {
  RIFFLE_CHECK(from.size() == to.size(), "networks of ", from.size(), " and ", to.size(), " tensors");
  for (size_t i = 0; i < from.size(); ++i) backend.copy(from[i], Write::kOverwrite, to[i]);
}

}  // namespace

Optimizer::Optimizer(Backend& backend, Module& module, const OptimizerSection& section)
    : backend_(backend), module_(module), section_(section) {
  module.for_each_parameter([&](const std::string&, Parameter& parameter) {
    if (parameter.frozen) return;
    ParameterUpdate update;
    update.weight = parameter.value;
    update.grad = parameter.grad;
    update.momentum = backend.empty(parameter.value.shape());
    backend.fill(0, update.momentum);
    update.weight_decay = parameter.decay ? section.weight_decay : 0;
    updates_.push_back(update);
    grads_.push_back(parameter.grad);
  });
}

double Optimizer::step(double lr) {
  module_.for_each_parameter([](const std::string& name, Parameter& parameter) {
    RIFFLE_CHECK(parameter.frozen || parameter.grad_written, "parameter ", name, " received no gradient");
  });
  SgdStep step;
  step.lr = lr;
  step.momentum = section_.momentum;
  step.nesterov = section_.nesterov;
  double norm = 0;
  if (section_.clip_norm > 0) {
    norm = std::sqrt(backend_.squared_norm(grads_));
    if (norm > section_.clip_norm) step.grad_scale = section_.clip_norm / norm;
  }
  backend_.sgd_step(updates_, step);
  module_.zero_grad();
  return norm;
}

std::vector<ParameterGroup> Optimizer::groups() const {
  ParameterGroup decayed{"weights (filters, matrices)", section_.weight_decay};
  ParameterGroup undecayed{"batch norm and biases", 0};
  ParameterGroup frozen{"frozen", 0};
  module_.for_each_parameter([&](const std::string&, Parameter& parameter) {
    ParameterGroup& group = parameter.frozen ? frozen : parameter.decay ? decayed : undecayed;
    ++group.tensors;
    group.parameters += parameter.value.elements();
  });
  std::vector<ParameterGroup> groups;
  for (const ParameterGroup& group : {decayed, undecayed, frozen}) {
    if (group.tensors > 0) groups.push_back(group);
  }
  return groups;
}

WeightAverage::WeightAverage(Backend& backend, ShuffleNetV2& network, double decay)
    : backend_(backend), network_(network), decay_(decay), values_(parameter_values(network)) {
  for (const Tensor& value : values_) {
    averages_.push_back(backend.empty(value.shape()));
    backend.copy(value, Write::kOverwrite, averages_.back());
  }
}

void WeightAverage::update(int64_t step) {
  const auto t = static_cast<double>(step);
  backend_.ema_update(averages_, values_, std::min(decay_, (1 + t) / (10 + t)));
}

void WeightAverage::copy_to(ShuffleNetV2& target) {
  copy_all(backend_, averages_, parameter_values(target));
  copy_all(backend_, buffer_values(network_), buffer_values(target));
}

void copy_network(Backend& backend, ShuffleNetV2& source, ShuffleNetV2& target) {
  copy_all(backend, parameter_values(source), parameter_values(target));
  copy_all(backend, buffer_values(source), buffer_values(target));
}

}  // namespace riffle
