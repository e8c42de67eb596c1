// Linear: a pointwise convolution of one pixel.
#include "layers/linear.h"

#include "layers/pointwise_conv2d.h"

namespace riffle {

Linear::Linear(Backend& backend, int64_t inputs, int64_t outputs, bool bias)
    : weight_(&add_parameter(backend, "weight", ParameterKind::kLinear, {outputs, 1, 1, inputs}, true)) {
  if (bias) bias_ = &add_parameter(backend, "bias", ParameterKind::kVector, vector_shape(outputs), false);
}

Variable Linear::forward(const Context& context, const Variable& x) {
  RIFFLE_CHECK(x.shape().h == 1 && x.shape().w == 1, path(), ": expected (N,1,1,C), got ", x.shape());
  const ProfileRange range(context.backend, path());
  return pointwise_conv2d(context, path(), x, *weight_, bias_);
}

}  // namespace riffle
