// SGD and the moving average of weights.
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace riffle {
namespace {

std::vector<Tensor> parameters_and_buffers(Module& module) {
  std::vector<Tensor> values;
  module.for_each_parameter([&](const std::string&, Parameter& parameter) { values.push_back(parameter.value); });
  module.for_each_buffer([&](const std::string&, Buffer& buffer) { values.push_back(buffer.value); });
  return values;
}

void copy_all(Backend& backend, const std::vector<Tensor>& from, const std::vector<Tensor>& to) {
  RIFFLE_CHECK(from.size() == to.size(), "networks of ", from.size(), " and ", to.size(), " tensors");
  for (size_t i = 0; i < from.size(); ++i) backend.copy(from[i], Write::kOverwrite, to[i]);
}

}  // namespace

Optimizer::Optimizer(Backend& backend, Module& module, const OptimizerSection& section, bool skip_not_finite)
    : backend_(backend),
      module_(module),
      section_(section),
      skip_not_finite_(skip_not_finite),
      scalars_(backend.empty_parameter(vector_shape(kStepScalars))),
      squared_norm_(backend.empty(vector_shape(1), DType::kF64)) {
  module.for_each_parameter([&](const std::string&, Parameter& parameter) {
    if (parameter.frozen) return;
    ParameterUpdate update;
    update.weight = parameter.value;
    update.grad = parameter.grad;
    update.momentum = backend.empty_parameter(parameter.value.shape());
    if (parameter.compute_value.raw() != parameter.value.raw()) update.compute_value = parameter.compute_value;
    backend.fill(0, update.momentum);
    update.weight_decay = parameter.decay ? section.weight_decay : 0;
    updates_.push_back(update);
    grads_.push_back(parameter.grad);
  });
}

void Optimizer::begin(int64_t step, double lr, double ema_decay, double loss_scale) {
  double values[kStepScalars] = {};
  values[kLearningRate] = lr;
  values[kEmaDecay] = ema_decay;
  values[kLossScale] = loss_scale;
  values[kGradScale] = 1 / loss_scale;
  values[kApply] = 1;
  values[kStep] = static_cast<double>(step % kStepModulus);
  backend_.upload(values, DType::kF64, scalars_);
}

void Optimizer::step() {
  module_.for_each_parameter([](const std::string& name, Parameter& parameter) {
    RIFFLE_CHECK(parameter.frozen || parameter.grad_written, "parameter ", name, " received no gradient");
  });
  if (section_.clip_norm > 0 || skip_not_finite_) {
    backend_.squared_norm(grads_, squared_norm_);
    backend_.scale_gradients(squared_norm_, section_.clip_norm, skip_not_finite_, scalars_);
  }
  backend_.sgd_step(updates_, {section_.momentum, section_.nesterov}, scalars_);
  module_.zero_grad();
}

double Optimizer::read_grad_norm() const {
  if (section_.clip_norm <= 0) return 0;
  double squared_norm = 0;
  backend_.download(squared_norm_, DType::kF64, &squared_norm);
  return std::sqrt(squared_norm) / read_scalar(kLossScale);
}

double Optimizer::read_scalar(StepScalar which) const {
  double values[kStepScalars] = {};
  backend_.download(scalars_, DType::kF64, values);
  return values[which];
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
    : backend_(backend), decay_(decay), values_(parameters_and_buffers(network)) {
  for (const Tensor& value : values_) {
    averages_.push_back(backend.empty_parameter(value.shape()));
    backend.copy(value, Write::kOverwrite, averages_.back());
  }
}

double WeightAverage::decay_at(int64_t step) const {
  const auto t = static_cast<double>(step);
  return std::min(decay_, (1 + t) / (10 + t));
}

void WeightAverage::update(const Tensor& scalars) {
  backend_.ema_update(averages_, values_, scalars);
}

void WeightAverage::copy_to(ShuffleNetV2& target) {
  copy_all(backend_, averages_, parameters_and_buffers(target));
  target.values_changed(backend_);
}

void copy_network(Backend& backend, ShuffleNetV2& source, ShuffleNetV2& target) {
  copy_all(backend, parameters_and_buffers(source), parameters_and_buffers(target));
  target.values_changed(backend);
}

}  // namespace riffle
