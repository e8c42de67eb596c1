// PointwiseConv2d.
#include "layers/pointwise_conv2d.h"

namespace riffle {

Variable pointwise_conv2d(const Context& context, const std::string& name, const Variable& x, Parameter& weight,
                          Parameter* bias, const BatchStatistics& statistics) {
  Backend& backend = context.backend;
  const Tensor y = backend.empty(x.shape().with_channels(weight.value.shape().n));
  backend.pointwise(x.value(), weight.compute_value,
                    {bias ? bias->compute_value : Tensor{}, false, statistics.mean, statistics.var}, y);
  const bool recorded = records(context, x, {&weight, bias});
  const Variable output(y, recorded);
  if (!recorded) return output;
  context.tape->record(name, output, [&backend, &weight, bias, x = x.value(), dx_slot = x.slot()](const Tensor& dy) {
    if (!weight.frozen) backend.pointwise_backward_weights(x, dy, weight.next_write(), weight.grad);
    if (bias && !bias->frozen) backend.channel_sums(dy, bias->next_write(), bias->grad);
    write_grad(backend, dx_slot, [&](const Tensor& dx, Write write) {
      backend.pointwise_backward_data(dy, weight.compute_value, write, dx);
    });
  });
  return output;
}

PointwiseConv2d::PointwiseConv2d(Backend& backend, int64_t inputs, int64_t outputs) : Convolution(outputs) {
  weight_ = &add_parameter(backend, "weight", ParameterKind::kMatrix, {outputs, 1, 1, inputs}, true);
}

Variable PointwiseConv2d::forward(const Context& context, const Variable& x, const BatchStatistics& statistics) {
  return pointwise_conv2d(context, path(), x, *weight_, nullptr, statistics);
}

Tensor PointwiseConv2d::infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const {
  const Tensor y = backend.empty(output_shape(x.shape()));
  backend.pointwise(x, weight, epilogue, y);
  return y;
}

std::unique_ptr<Convolution> make_pointwise_conv2d(Backend& backend, int64_t inputs, int64_t outputs) {
  return std::make_unique<PointwiseConv2d>(backend, inputs, outputs);
}

}  // namespace riffle
