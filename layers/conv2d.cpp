// Conv2d.
#include "layers/conv2d.h"

#include "core/contracts.h"

namespace riffle {

Variable conv2d(const Context& context, const std::string& name, const Variable& x, Parameter& weight, Parameter* bias,
                const Window& window, int64_t groups, const BatchStatistics& statistics) {
  Backend& backend = context.backend;
  const Shape& in = x.shape();
  check_window_fits(window, in, name.c_str());
  const Tensor y = backend.empty({in.n, window.out_h(in.h), window.out_w(in.w), weight.value.shape().n});
  backend.conv2d(x.value(), weight.compute_value, window, groups,
                 {bias ? bias->compute_value : Tensor{}, false, statistics.mean, statistics.var}, y);
  const bool recorded = records(context, x, {&weight, bias});
  const Variable output(y, recorded);
  if (!recorded) return output;
  context.tape->record(name, output,
                       [&backend, &weight, bias, x = x.value(), dx_slot = x.slot(), window, groups](const Tensor& dy) {
                         if (!weight.frozen)
                           backend.conv2d_backward_weights(x, dy, window, groups, weight.next_write(), weight.grad);
                         if (bias && !bias->frozen) backend.channel_sums(dy, bias->next_write(), bias->grad);
                         write_grad(backend, dx_slot, [&](const Tensor& dx, Write write) {
                           backend.conv2d_backward_data(dy, weight.compute_value, window, groups, write, dx);
                         });
                       });
  return output;
}

Conv2d::Conv2d(Backend& backend, const Conv2dConfig& config) : Convolution(config.outputs), config_(config) {
  RIFFLE_CHECK(config.groups > 0 && config.inputs % config.groups == 0 && config.outputs % config.groups == 0,
               config.inputs, " inputs and ", config.outputs, " outputs cannot be split into ", config.groups,
               " groups");
  weight_ = &add_parameter(backend, "weight", ParameterKind::kDenseFilter,
                           {config.outputs, config.kernel, config.kernel, config.inputs / config.groups}, true);
  if (config.bias) bias_ = &add_parameter(backend, "bias", ParameterKind::kVector, vector_shape(config.outputs), false);
}

Window Conv2d::window(const Shape& input) const {
  return dialect_window(config_.dialect, config_.kernel, config_.stride, input.h, input.w);
}

Variable Conv2d::forward(const Context& context, const Variable& x, const BatchStatistics& statistics) {
  return conv2d(context, path(), x, *weight_, bias_, window(x.shape()), config_.groups, statistics);
}

Tensor Conv2d::infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const {
  const Tensor y = backend.empty(output_shape(x.shape()));
  backend.conv2d(x, weight, window(x.shape()), config_.groups, epilogue, y);
  return y;
}

Shape Conv2d::output_shape(const Shape& input) const {
  const Window w = window(input);
  return {input.n, w.out_h(input.h), w.out_w(input.w), config_.outputs};
}

std::string Conv2d::kind() const {
  return join("conv ", config_.kernel, "x", config_.kernel, config_.stride > 1 ? join(" /", config_.stride) : "",
              config_.groups > 1 ? join(", ", config_.groups, " groups") : "");
}

int64_t Conv2d::inputs_per_output() const {
  return config_.kernel * config_.kernel * config_.inputs / config_.groups;
}

std::unique_ptr<Convolution> make_conv2d(Backend& backend, int64_t inputs, int64_t outputs, int64_t kernel,
                                         int64_t stride, int64_t groups, Dialect dialect) {
  return std::make_unique<Conv2d>(backend, Conv2dConfig{inputs, outputs, kernel, stride, groups, false, dialect});
}

}  // namespace riffle
