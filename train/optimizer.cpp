// SGD and the moving average of weights.
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "train/checkpoint/module_io.h"
#include "train/lr_multipliers.h"
#include "train/text.h"

namespace riffle {
namespace {

// Parameters, then buffers.
void for_each_value(Module& module, const std::function<void(const Tensor& value, bool frozen)>& visit) {
  module.for_each_parameter(
      [&](const std::string&, Parameter& parameter) { visit(parameter.value, parameter.frozen); });
  module.for_each_buffer([&](const std::string&, Buffer& buffer) { visit(buffer.value, buffer.frozen); });
}

std::vector<Tensor> parameters_and_buffers(Module& module) {
  std::vector<Tensor> values;
  for_each_value(module, [&](const Tensor& value, bool) { values.push_back(value); });
  return values;
}

void copy_all(Backend& backend, const std::vector<Tensor>& from, const std::vector<Tensor>& to) {
  RIFFLE_CHECK(from.size() == to.size(), "networks of ", from.size(), " and ", to.size(), " tensors");
  for (size_t i = 0; i < from.size(); ++i) backend.copy(from[i], Write::kOverwrite, to[i]);
}

// Counts the parameter in; `like` is what a new group is.
void add_to(ParameterGroup& group, const Parameter& parameter, const ParameterGroup& like) {
  if (group.tensors == 0) group = like;
  ++group.tensors;
  group.parameters += parameter.value.elements();
}

}  // namespace

Optimizer::Optimizer(Backend& backend, Module& module, const OptimizerSection& section, bool skip_not_finite)
    : backend_(backend),
      module_(module),
      section_(section),
      skip_not_finite_(skip_not_finite),
      scalars_(backend.empty_parameter(vector_shape(kStepScalars))),
      squared_norm_(backend.empty(vector_shape(1), DType::kF64)) {
  begin(0, 0, 0);
  frozen_changed();
}

void Optimizer::frozen_changed() {
  const std::vector<ParameterUpdate> before = std::move(updates_);
  updates_.clear();
  grads_.clear();
  module_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (parameter.frozen) return;
    ParameterUpdate update;
    update.weight = parameter.value;
    update.grad = parameter.grad;
    update.momentum = momentum_of(before, parameter);
    if (parameter.compute_value.raw() != parameter.value.raw()) update.compute_value = parameter.compute_value;
    update.weight_decay = parameter.decay ? section_.weight_decay : 0;
    const size_t rule = find_lr_multiplier(section_.lr_multipliers, name);
    if (rule < section_.lr_multipliers.size()) update.lr_multiplier = section_.lr_multipliers[rule].multiplier;
    updates_.push_back(update);
    grads_.push_back(parameter.grad);
  });
}

// Kept from `before`, or zeros.
Tensor Optimizer::momentum_of(const std::vector<ParameterUpdate>& before, const Parameter& parameter) const {
  for (const ParameterUpdate& update : before)
    if (update.weight.raw() == parameter.value.raw()) return update.momentum;
  const Tensor momentum = backend_.empty_parameter(parameter.value.shape());
  backend_.fill(0, momentum);
  return momentum;
}

void Optimizer::begin(int64_t step, double lr, double ema_decay, double loss_scale, bool keep_halted) {
  double values[kStepScalars] = {};
  values[kLearningRate] = lr;
  values[kEmaDecay] = ema_decay;
  values[kLossScale] = loss_scale;
  values[kGradScale] = 1 / loss_scale;
  values[kApply] = 1;
  values[kStep] = static_cast<double>(step % kStepModulus);
  static_assert(kHalted == kStepScalars - 1, "all but the last are uploaded");
  backend_.upload(values, DType::kF64, keep_halted ? scalars_.channel_slice(0, kHalted) : scalars_);
}

void Optimizer::step() {
  module_.for_each_parameter([](const std::string& name, Parameter& parameter) {
    RIFFLE_CHECK(parameter.frozen || parameter.grad_written, "parameter ", name, " received no gradient");
  });
  backend_.squared_norm(grads_, squared_norm_);
  if (section_.clip_norm > 0 || skip_not_finite_) {
    backend_.scale_gradients(squared_norm_, section_.clip_norm, skip_not_finite_, scalars_);
  }
  backend_.sgd_step(updates_, {section_.momentum, section_.nesterov}, scalars_);
  module_.zero_grad();
}

double Optimizer::read_grad_norm() const {
  double squared_norm = 0;
  backend_.download(squared_norm_, DType::kF64, &squared_norm);
  return std::sqrt(squared_norm) / read_scalar(kLossScale);
}

void Optimizer::for_each_momentum(const std::function<void(const std::string& name, const Parameter& parameter,
                                                           const Tensor& momentum)>& visit) const {
  size_t next = 0;
  module_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (!parameter.frozen) visit(kMomentumPrefix + name, parameter, updates_[next++].momentum);
  });
}

void Optimizer::export_momentum(TensorMap& tensors) const {
  for_each_momentum([&](const std::string& name, const Parameter& parameter, const Tensor& momentum) {
    tensors.insert_or_assign(name, export_tensor(backend_, parameter.kind, parameter.order, momentum));
  });
}

void Optimizer::import_momentum(const TensorMap& tensors, const std::string& path) {
  for_each_momentum([&](const std::string& name, const Parameter& parameter, const Tensor& momentum) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) fail(path, " lacks the tensor '", name, "': training cannot go on from it");
    import_tensor(backend_, parameter.kind, parameter.order, found->second, momentum,
                  join(path, ": tensor '", name, "'"));
  });
}

double Optimizer::read_scalar(StepScalar which) const {
  double values[kStepScalars] = {};
  backend_.download(scalars_, DType::kF64, values);
  return values[which];
}

std::vector<ParameterGroup> Optimizer::groups() const {
  std::set<std::string> frozen;
  module_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (parameter.frozen) frozen.insert(name);
  });
  return groups([&](const std::string& name) { return frozen.count(name) > 0; });
}

std::vector<ParameterGroup> Optimizer::groups(const std::function<bool(const std::string&)>& frozen) const {
  const std::vector<LrMultiplier>& rules = section_.lr_multipliers;
  // Keys in the order of the groups: frozen, 0 or the rule's number, undecayed.
  std::map<std::tuple<bool, size_t, bool>, ParameterGroup> groups;
  module_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (frozen(name)) {
      add_to(groups[{true, 0, false}], parameter, {"frozen", 0, 0, true});
      return;
    }
    const size_t rule = find_lr_multiplier(rules, name);
    const bool has_rule = rule < rules.size();
    const std::string of_rule = has_rule ? rules[rule].pattern + ": " : "";
    const std::string kind = parameter.decay ? has_rule ? "weights" : "weights (filters, matrices)"
                             : has_rule      ? "norms and biases"
                                             : "batch norm and biases";
    add_to(groups[{false, has_rule ? rule + 1 : 0, !parameter.decay}], parameter,
           {of_rule + kind, has_rule ? rules[rule].multiplier : 1, parameter.decay ? section_.weight_decay : 0});
  });
  std::vector<ParameterGroup> list;
  list.reserve(groups.size());
  for (const auto& [key, group] : groups) list.push_back(group);
  return list;
}

std::vector<std::string> group_table(const std::vector<ParameterGroup>& groups) {
  std::vector<std::string> lines{
      "parameters  group                          tensors   parameters  lr multiplier  weight decay  frozen"};
  for (const ParameterGroup& group : groups) {
    std::string row = "            " + group.name;
    const auto align_right = [&row](const std::string& text, size_t column) {
      row.resize(std::max(row.size() + 1, column - text.size()), ' ');
      row += text;
    };
    align_right(std::to_string(group.tensors), 50);
    align_right(format_count(group.parameters), 63);
    align_right(group.frozen ? "-" : format_significant(group.lr_multiplier, 4), 78);
    align_right(group.frozen ? "-" : format_significant(group.weight_decay, 4), 92);
    align_right(group.frozen ? "yes" : "no", 100);
    lines.push_back(row);
  }
  return lines;
}

WeightAverage::WeightAverage(Backend& backend, ShuffleNetV2& network, double decay, bool warmup, int64_t every)
    : backend_(backend),
      network_(network),
      decay_(decay),
      warmup_(warmup),
      every_(every),
      values_(parameters_and_buffers(network)) {
  for (const Tensor& value : values_) {
    averages_.push_back(backend.empty_parameter(value.shape()));
    backend.copy(value, Write::kOverwrite, averages_.back());
  }
  frozen_changed();
}

void WeightAverage::frozen_changed() {
  trained_averages_.clear();
  trained_values_.clear();
  size_t i = 0;
  for_each_value(network_, [&](const Tensor& value, bool frozen) {
    if (!frozen) {
      trained_averages_.push_back(averages_[i]);
      trained_values_.push_back(value);
    }
    ++i;
  });
}

double WeightAverage::decay_at(int64_t step) const {
  const int64_t updates = step / every_;
  const auto t = static_cast<double>(updates);
  return warmup_ ? std::min(decay_, (1 + t) / (10 + t)) : decay_;
}

void WeightAverage::update(const Tensor& scalars) {
  const ProfileRange range(backend_, "weight average");
  backend_.ema_update(trained_averages_, trained_values_, scalars);
}

void WeightAverage::copy_to(ShuffleNetV2& target) {
  copy_all(backend_, averages_, parameters_and_buffers(target));
  target.values_changed(backend_);
}

void WeightAverage::copy_from(ShuffleNetV2& source) {
  copy_all(backend_, parameters_and_buffers(source), averages_);
}

void copy_network(Backend& backend, ShuffleNetV2& source, ShuffleNetV2& target) {
  copy_all(backend, parameters_and_buffers(source), parameters_and_buffers(target));
  target.values_changed(backend);
}

}  // namespace riffle
