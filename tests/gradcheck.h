// Gradient checks: the tape's gradients of any function of variables and parameters against central differences, on
// RefBackend in float64. The objective is a sum of outputs weighted by a random cotangent. Every check is made three
// times: into fresh (poisoned) gradients, onto existing ones, and with the function recorded twice on one tape.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "core/module.h"
#include "core/rng.h"
#include "tests/reference/ref_backend.h"
#include "tests/tensor_values.h"

namespace riffle::gradcheck {

using Variables = std::vector<Variable>;
// A scalar of the inputs. With a tape it also sets the gradient of what it computed, the root of the backward pass.
using Objective = std::function<double(const Context& context, const Variables& inputs)>;
using Function = std::function<Variables(const Context& context, const Variables& inputs)>;

// Values that keep clear of a kink at 0.
inline double away_from_zero(RandomStream& random) {
  const double value = random.normal();
  return value + (value < 0 ? -0.1 : 0.1);
}

class GradientCheck {
 public:
  explicit GradientCheck(bool training = true, uint64_t seed = 1)
      : training_(training), random_(seed, RandomPurpose::kTest) {}

  Backend& backend() { return *backend_; }
  RandomStream& random() { return random_; }
  // At most so many elements of each tensor are perturbed, chosen at random; all by default.
  void sample_elements(int64_t most) { most_elements_ = most; }
  void set_tolerance(double relative) { tolerance_ = relative; }

  // Inputs come in this order; `draw` gives the value of each element. A sliced input has neighbours in its rows.
  using Draw = std::function<double(RandomStream& random)>;
  void add_input(Shape shape, bool sliced = false, const Draw& draw = &GradientCheck::draw_normal);
  void add_input(Shape shape, const std::vector<double>& values);
  // A parameter on its own, filled with normals.
  Parameter& add_parameter(Shape shape);
  // All parameters of a module, filled with normals (the weights of norms: around 1).
  void add_parameters(Module& module);

  void expect_correct(const Function& function) { expect_correct(weighted_sum(function)); }
  void expect_correct(const Objective& objective);

 private:
  struct Target {  // a tensor whose gradient is checked
    std::string name;
    Tensor value;
    std::vector<double> gradient;  // the tape's
  };

  static double draw_normal(RandomStream& random) { return random.normal(); }
  static double& element(const Tensor& x, int64_t i) {
    return x.data<double>()[i / x.channels() * x.ld() + i % x.channels()];
  }
  std::vector<double> host(const Tensor& x) { return riffle::host(*backend_, x); }
  Tensor random_like(const Tensor& x);
  Objective weighted_sum(const Function& function);
  double evaluate(const Objective& objective) { return objective(context(nullptr), inputs_); }
  Context context(Tape* tape) const { return {*backend_, tape, training_, 1, 1}; }

  void backward(const Objective& objective, int times);
  std::vector<Tensor> gradients() const;
  bool check_fresh(const Objective& objective);  // false: there is nothing that further checks could use
  void check_existing(const Objective& objective);
  void check_twice(const Objective& objective);
  void expect_gradients(const char* when, double factor, const std::vector<std::vector<double>>& start);
  void check_numerically(const Objective& objective, const Target& target);
  double slope(const Objective& objective, double& x, double typical);
  // Of an element's gradient, relative to it and to the others of its tensor; where all are 0 (a shift before a batch
  // norm), what rounding leaves of the difference of two objectives.
  double bound(double numeric, double typical) const {
    return tolerance_ * std::max({std::abs(numeric), typical, 1e-2});
  }

  std::unique_ptr<Backend> backend_ = make_reference_backend();
  bool training_;
  RandomStream random_;
  int64_t most_elements_ = INT64_MAX;
  double tolerance_ = 1e-7;
  Variables inputs_;
  std::list<Parameter> own_parameters_;
  std::vector<Parameter*> parameters_;
  std::vector<Target> targets_;  // inputs, then parameters
};

inline void GradientCheck::add_input(Shape shape, bool sliced, const Draw& draw) {
  const Tensor buffer = backend_->empty(shape.with_channels(shape.c + (sliced ? 3 : 0)));
  const Tensor value = sliced ? buffer.channel_slice(1, shape.c) : buffer;
  for (int64_t i = 0; i < value.elements(); ++i) element(value, i) = draw(random_);
  inputs_.emplace_back(value);
}

inline void GradientCheck::add_input(Shape shape, const std::vector<double>& values) {
  const Tensor value = backend_->empty(shape);
  backend_->upload(values.data(), DType::kF64, value);
  inputs_.emplace_back(value);
}

inline Parameter& GradientCheck::add_parameter(Shape shape) {
  own_parameters_.push_back(
      {"parameter", ParameterKind::kVector, false, backend_->empty(shape), backend_->empty(shape), {}});
  Parameter& parameter = own_parameters_.back();
  parameter.compute_value = parameter.value = random_like(parameter.value);
  parameters_.push_back(&parameter);
  return parameter;
}

inline void GradientCheck::add_parameters(Module& module) {
  module.for_each_parameter([this](const std::string&, Parameter& parameter) {
    const bool norm_weight = parameter.kind == ParameterKind::kVector && parameter.name == "weight";
    for (int64_t i = 0; i < parameter.value.elements(); ++i)
      element(parameter.value, i) = 0.5 * random_.normal() + (norm_weight ? 1 : 0);
    parameters_.push_back(&parameter);
  });
}

inline Tensor GradientCheck::random_like(const Tensor& x) {
  Tensor tensor = backend_->empty(x.shape());
  for (int64_t i = 0; i < tensor.elements(); ++i) element(tensor, i) = random_.normal();
  return tensor;
}

inline Objective GradientCheck::weighted_sum(const Function& function) {
  const auto cotangents = std::make_shared<std::vector<Tensor>>();
  return [this, function, cotangents](const Context& context, const Variables& inputs) {
    const Variables outputs = function(context, inputs);
    while (cotangents->size() < outputs.size()) cotangents->push_back(random_like(outputs[cotangents->size()].value()));
    double sum = 0;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const std::vector<double> y = host(outputs[i].value()), weights = host((*cotangents)[i]);
      for (size_t j = 0; j < y.size(); ++j) sum += y[j] * weights[j];
      if (!context.tape) continue;
      const Tensor dy = backend_->empty(outputs[i].shape());
      backend_->copy((*cotangents)[i], Write::kOverwrite, dy);  // backward may reuse it
      outputs[i].set_grad(dy);
    }
    return sum;
  };
}

inline void GradientCheck::backward(const Objective& objective, int times) {
  Tape tape;
  for (int i = 0; i < times; ++i) objective(context(&tape), inputs_);
  tape.backward();
}

inline std::vector<Tensor> GradientCheck::gradients() const {
  std::vector<Tensor> all;
  for (const Variable& input : inputs_) all.push_back(input.grad());
  for (const Parameter* parameter : parameters_) all.push_back(parameter->grad);
  return all;
}

inline void GradientCheck::expect_correct(const Objective& objective) {
  for (size_t i = 0; i < inputs_.size(); ++i) targets_.push_back({join("input ", i), inputs_[i].value(), {}});
  for (size_t i = 0; i < parameters_.size(); ++i)
    targets_.push_back({join("parameter ", i, " (", parameters_[i]->name, ")"), parameters_[i]->value, {}});
  if (!check_fresh(objective)) return;
  check_existing(objective);
  check_twice(objective);
}

inline bool GradientCheck::check_fresh(const Objective& objective) {
  for (const Variable& input : inputs_) input.clear_grad();
  for (Parameter* parameter : parameters_) {
    parameter->grad_written = false;
    backend_->fill(std::nan(""), parameter->grad);
  }
  backward(objective, 1);
  const std::vector<Tensor> grads = gradients();
  for (size_t t = 0; t < targets_.size(); ++t) {
    if (!grads[t].defined()) {
      ADD_FAILURE() << targets_[t].name << " got no gradient";
      return false;
    }
    targets_[t].gradient = host(grads[t]);
    check_numerically(objective, targets_[t]);
  }
  return true;
}

inline void GradientCheck::check_existing(const Objective& objective) {
  std::vector<std::vector<double>> start;
  for (const Variable& input : inputs_) {
    input.set_grad(random_like(input.value()));
    start.push_back(host(input.grad()));
  }
  for (Parameter* parameter : parameters_) {
    parameter->grad_written = true;
    parameter->grad = random_like(parameter->value);
    start.push_back(host(parameter->grad));
  }
  backward(objective, 1);
  expect_gradients("added to existing gradients", 1, start);
}

inline void GradientCheck::check_twice(const Objective& objective) {
  std::vector<std::vector<double>> zero;
  for (const Target& target : targets_) zero.emplace_back(target.gradient.size(), 0.0);
  for (const Variable& input : inputs_) input.clear_grad();
  for (Parameter* parameter : parameters_) {
    parameter->grad_written = false;
    backend_->fill(std::nan(""), parameter->grad);
  }
  backward(objective, 2);
  expect_gradients("of the function used twice", 2, zero);
}

inline void GradientCheck::expect_gradients(const char* when, double factor,
                                            const std::vector<std::vector<double>>& start) {
  constexpr double kOrderOfSummation = 1e-12;  // the same terms, added in another order
  const std::vector<Tensor> grads = gradients();
  for (size_t t = 0; t < targets_.size(); ++t) {
    const std::vector<double> got = host(grads[t]), &once = targets_[t].gradient;
    double scale = 1;
    for (double value : once) scale = std::max(scale, std::abs(value));
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], start[t][i] + factor * once[i], kOrderOfSummation * scale)
          << targets_[t].name << ", element " << i << ", gradient " << when;
  }
}

// The central difference of `objective` along x. A smooth function has nearly the same slope over half the step; if it
// has not, a ReLU or a maximum switches between the points, and smaller steps may be clear of it. NaN if none is.
inline double GradientCheck::slope(const Objective& objective, double& x, double typical) {
  const auto difference = [&](double step) {
    const double at = x;
    x = at + step;
    const double above = evaluate(objective), upper = x;
    x = at - step;
    const double below = evaluate(objective), lower = x;
    x = at;
    return (above - below) / (upper - lower);
  };
  for (double step : {1e-5, 2.5e-6, 6e-7}) {
    const double whole = difference(step), half = difference(step / 2);
    if (std::abs(whole - half) <= bound(whole, typical)) return whole;
  }
  return std::nan("");
}

inline void GradientCheck::check_numerically(const Objective& objective, const Target& target) {
  const int64_t size = target.value.elements(), tested = std::min(size, most_elements_);
  double squares = 0;
  for (double value : target.gradient) squares += value * value;
  const double typical = std::sqrt(squares / static_cast<double>(size));
  int64_t kinks = 0;
  for (int64_t k = 0; k < tested; ++k) {
    const int64_t i = tested == size ? k : random_.below(size);
    const double numeric = slope(objective, element(target.value, i), typical);
    if (std::isnan(numeric)) {
      ++kinks;
      continue;
    }
    ASSERT_NEAR(target.gradient[static_cast<size_t>(i)], numeric, bound(numeric, typical))
        << target.name << " of shape " << target.value.shape() << ", element " << i;
  }
  EXPECT_LE(kinks, tested / 20) << target.name << ": too many of " << tested << " elements lie at kinks";
}

}  // namespace riffle::gradcheck
