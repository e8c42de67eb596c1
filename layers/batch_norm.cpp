// BatchNorm2d.
#include "layers/batch_norm.h"

#include <cmath>

namespace riffle {
namespace {

constexpr double kEps = 1e-5;
constexpr double kMomentum = 0.1;

std::vector<double> to_host(Backend& backend, const Tensor& vector) {
  std::vector<double> values(static_cast<size_t>(vector.elements()));
  backend.download(vector, DType::kF64, values.data());
  return values;
}

struct GradTarget {
  Tensor grad;
  Write write;
};

// Where a parameter's gradient goes: a frozen one's to scratch memory, for the operation always computes it.
GradTarget grad_target(Backend& backend, Parameter& parameter) {
  if (parameter.frozen) return {backend.empty(parameter.value.shape()), Write::kOverwrite};
  return {parameter.grad, parameter.next_write()};
}

}  // namespace

BatchNorm2d::BatchNorm2d(Backend& backend, int64_t channels)
    : weight_(&add_parameter(backend, "weight", ParameterKind::kVector, vector_shape(channels), false)),
      bias_(&add_parameter(backend, "bias", ParameterKind::kVector, vector_shape(channels), false)),
      running_mean_(&add_buffer(backend, "running_mean", channels, 0)),
      running_var_(&add_buffer(backend, "running_var", channels, 1)) {
  backend.fill(1, weight_->value);
  backend.fill(0, bias_->value);
}

Variable BatchNorm2d::forward(const Context& context, const Variable& x, bool relu) {
  Backend& backend = context.backend;
  const bool batch_statistics = context.training && !frozen_statistics_;
  Tensor mean = running_mean_->value, var = running_var_->value;
  if (batch_statistics) {
    mean = backend.empty(vector_shape(x.shape().c));
    var = backend.empty(vector_shape(x.shape().c));
    backend.batch_norm_statistics(x.value(), mean, var);
    backend.batch_norm_update_running(mean, var, x.shape().pixels(), kMomentum, running_mean_->value,
                                      running_var_->value);
  }
  const Tensor y = backend.empty(x.shape());
  backend.batch_norm_apply(x.value(), mean, var, weight_->value, bias_->value, kEps, relu, y);
  const bool recorded = records(context, x, {weight_, bias_});
  const Variable output(y, recorded);
  if (!recorded) return output;
  Parameter &weight = *weight_, &bias = *bias_;
  context.tape->record(
      path(), output.slot(),
      [&backend, &weight, &bias, x = x.value(), dx_slot = x.slot(), mean, var, relu,
       batch_statistics](const Tensor& dy) {
        const GradTarget dgamma = grad_target(backend, weight), dbeta = grad_target(backend, bias);
        RIFFLE_CHECK(weight.frozen || bias.frozen || dgamma.write == dbeta.write,
                     "weight and bias of a batch norm must be frozen and zeroed together");
        const Write write = weight.frozen ? dbeta.write : dgamma.write;
        const auto backward = batch_statistics ? &Backend::batch_norm_backward : &Backend::batch_norm_backward_frozen;
        (backend.*backward)(x, dy, mean, var, weight.value, bias.value, kEps, relu, write, dy, dgamma.grad, dbeta.grad);
        give_grad(backend, dx_slot, dy);
      });
  return output;
}

BatchNorm2d::Affine BatchNorm2d::evaluation_affine(Backend& backend) const {
  const std::vector<double> gamma = to_host(backend, weight_->value), beta = to_host(backend, bias_->value);
  const std::vector<double> mean = to_host(backend, running_mean_->value), var = to_host(backend, running_var_->value);
  Affine affine{gamma, beta};
  for (size_t c = 0; c < gamma.size(); ++c) {
    affine.scale[c] = gamma[c] / std::sqrt(var[c] + kEps);
    affine.shift[c] = beta[c] - mean[c] * affine.scale[c];
  }
  return affine;
}

}  // namespace riffle
