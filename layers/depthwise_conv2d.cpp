// DepthwiseConv2d.
#include "layers/depthwise_conv2d.h"

#include "core/contracts.h"

namespace riffle {

Variable depthwise_conv2d(const Context& context, const std::string& name, const Variable& x, Parameter& weight,
                          const Window& window, const BatchStatistics& statistics) {
  Backend& backend = context.backend;
  const Shape& in = x.shape();
  check_window_fits(window, in, name.c_str());
  const Tensor y = backend.empty({in.n, window.out_h(in.h), window.out_w(in.w), in.c});
  backend.depthwise(x.value(), weight.compute_value, window, {{}, false, statistics.mean, statistics.var}, y);
  const bool recorded = records(context, x, {&weight});
  const Variable output(y, recorded);
  if (!recorded) return output;
  context.tape->record(name, output, [&backend, &weight, x = x.value(), dx_slot = x.slot(), window](const Tensor& dy) {
    if (!weight.frozen) backend.depthwise_backward_weights(x, dy, window, weight.next_write(), weight.grad);
    write_grad(backend, dx_slot, [&](const Tensor& dx, Write write) {
      backend.depthwise_backward_data(dy, weight.compute_value, window, write, dx);
    });
  });
  return output;
}

DepthwiseConv2d::DepthwiseConv2d(Backend& backend, int64_t channels, int64_t kernel, int64_t stride, Dialect dialect)
    : Convolution(channels), kernel_(kernel), stride_(stride), dialect_(dialect) {
  weight_ = &add_parameter(backend, "weight", ParameterKind::kDepthwiseFilter, {1, kernel, kernel, channels}, true);
}

Window DepthwiseConv2d::window(const Shape& input) const {
  return dialect_window(dialect_, kernel_, stride_, input.h, input.w);
}

Variable DepthwiseConv2d::forward(const Context& context, const Variable& x, const BatchStatistics& statistics) {
  return depthwise_conv2d(context, path(), x, *weight_, window(x.shape()), statistics);
}

Tensor DepthwiseConv2d::infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const {
  const Tensor y = backend.empty(output_shape(x.shape()));
  backend.depthwise(x, weight, window(x.shape()), epilogue, y);
  return y;
}

Shape DepthwiseConv2d::output_shape(const Shape& input) const {
  const Window w = window(input);
  return {input.n, w.out_h(input.h), w.out_w(input.w), input.c};
}

std::string DepthwiseConv2d::kind() const {
  return join("depthwise ", kernel_, "x", kernel_, stride_ > 1 ? join(" /", stride_) : "");
}

std::unique_ptr<Convolution> make_depthwise_conv2d(Backend& backend, int64_t channels, int64_t stride,
                                                   Dialect dialect) {
  return std::make_unique<DepthwiseConv2d>(backend, channels, 3, stride, dialect);
}

}  // namespace riffle
