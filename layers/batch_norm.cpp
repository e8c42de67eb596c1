// BatchNorm2d.
#include "layers/batch_norm.h"

#include <cmath>

#include "layers/pointwise_conv2d.h"

namespace riffle {
namespace {

constexpr double kEps = 1e-5;

std::vector<double> to_host(Backend& backend, const Tensor& vector) {
  std::vector<double> values(static_cast<size_t>(vector.elements()));
  backend.download(vector, DType::kF64, values.data());
  return values;
}

struct GradTargets {
  Tensor dgamma, dbeta;
  Write write;
};

// Where the parameters' gradients go: a frozen one's to scratch memory, for the operation always computes both.
GradTargets grad_targets(Backend& backend, Parameter& weight, Parameter& bias) {
  const auto target = [&](Parameter& p) { return p.frozen ? backend.empty_parameter(p.value.shape()) : p.grad; };
  RIFFLE_CHECK(weight.frozen || bias.frozen || weight.grad_written == bias.grad_written,
               "weight and bias of a batch norm must be frozen and zeroed together");
  const Write bias_write = bias.frozen ? Write::kOverwrite : bias.next_write();
  return {target(weight), target(bias), weight.frozen ? bias_write : weight.next_write()};
}

}  // namespace

BatchNorm2d::BatchNorm2d(Backend& backend, int64_t channels)
    : weight_(&add_parameter(backend, "weight", ParameterKind::kVector, vector_shape(channels), false)),
      bias_(&add_parameter(backend, "bias", ParameterKind::kVector, vector_shape(channels), false)),
      running_mean_(&add_buffer(backend, "running_mean", channels, 0)),
      running_var_(&add_buffer(backend, "running_var", channels, 1)) {
  for (Parameter* parameter : {weight_, bias_}) parameter->read_unrounded();
  backend.fill(1, weight_->value);
  backend.fill(0, bias_->value);
}

void BatchNorm2d::freeze_statistics(bool frozen) {
  running_mean_->frozen = frozen;
  running_var_->frozen = frozen;
}

BatchStatistics BatchNorm2d::batch_statistics(const Context& context) const {
  if (!context.training || running_mean_->frozen) return {};
  const Shape& shape = weight_->value.shape();
  return {context.backend.empty_parameter(shape), context.backend.empty_parameter(shape)};
}

bool BatchNorm2d::trains(const Context& context) const {
  return context.tape && context.training && !running_mean_->frozen && !weight_->frozen && !bias_->frozen;
}

void BatchNorm2d::update_running(Backend& backend, const Tensor& mean, const Tensor& var, int64_t pixels) {
  backend.batch_norm_update_running(mean, var, pixels, kMomentum, running_mean_->value, running_var_->value);
}

BatchNormState BatchNorm2d::state(const Tensor& mean, const Tensor& var, bool relu) const {
  return {mean, var, weight_->value, bias_->value, kEps, relu};
}

BatchNorm2d::Statistics BatchNorm2d::statistics(const Context& context, const Tensor& x, const BatchStatistics& known) {
  if (!context.training || running_mean_->frozen) return {running_mean_->value, running_var_->value, false};
  Backend& backend = context.backend;
  const BatchStatistics batch = known.wanted() ? known : batch_statistics(context);
  if (!known.wanted()) backend.batch_norm_statistics(x, batch.mean, batch.var);
  update_running(backend, batch.mean, batch.var, x.pixels());
  return {batch.mean, batch.var, true};
}

Variable BatchNorm2d::forward(const Context& context, const Variable& x, bool relu, const BatchStatistics& known) {
  Backend& backend = context.backend;
  const Statistics used = statistics(context, x.value(), known);
  const Tensor y = backend.empty(x.shape());
  backend.batch_norm_apply(x.value(), used.mean, used.var, weight_->value, bias_->value, kEps, relu, y);
  const bool recorded = records(context, x, {weight_, bias_});
  const Variable output(y, recorded);
  if (!recorded) return output;
  Parameter &weight = *weight_, &bias = *bias_;
  context.tape->record(
      path(), output, [&backend, &weight, &bias, x = x.value(), dx_slot = x.slot(), used, relu](const Tensor& dy) {
        const GradTargets targets = grad_targets(backend, weight, bias);
        const auto backward = used.of_batch ? &Backend::batch_norm_backward : &Backend::batch_norm_backward_frozen;
        (backend.*backward)(x, dy, used.mean, used.var, weight.value, bias.value, kEps, relu, targets.write, dy,
                            targets.dgamma, targets.dbeta);
        give_grad(backend, dx_slot, dy);
      });
  return output;
}

Variable BatchNorm2d::forward_pointwise(const Context& context, const std::string& conv_name, const Variable& x,
                                        Parameter& filter, bool relu) {
  const BatchStatistics batch = batch_statistics(context);
  if (!trains(context) || filter.frozen)
    return forward(context, pointwise_conv2d(context, conv_name, x, filter, nullptr, batch), relu, batch);
  Backend& backend = context.backend;
  const Tensor y = backend.empty(x.shape().with_channels(filter.value.shape().n));
  backend.pointwise(x.value(), filter.compute_value, {{}, false, batch.mean, batch.var}, y);
  const Statistics used = statistics(context, y, batch);
  const Tensor z = backend.empty(y.shape());
  backend.batch_norm_apply(y, used.mean, used.var, weight_->value, bias_->value, kEps, relu, z);
  const Variable output(z, true);
  Parameter &weight = *weight_, &bias = *bias_;
  context.tape->record(
      conv_name, output,
      [&backend, &weight, &bias, &filter, x = x.value(), dx_slot = x.slot(), y, used, relu](const Tensor& dz) {
        const Write write = filter.next_write();
        RIFFLE_CHECK(weight.next_write() == write && bias.next_write() == write,
                     "a convolution and its norm must be zeroed together");
        const BatchNormState norm{used.mean, used.var, weight.value, bias.value, kEps, relu};
        const auto backward = [&](const Tensor& dx, Write write_dx) {
          backend.pointwise_batch_norm_backward(x, filter.compute_value, y, dz, Tensor{}, norm, write_dx, dx, write,
                                                filter.grad, weight.grad, bias.grad);
        };
        if (dx_slot.requires_grad()) {
          write_grad(backend, dx_slot, backward);
        } else {
          backward(Tensor{}, Write::kOverwrite);
        }
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
