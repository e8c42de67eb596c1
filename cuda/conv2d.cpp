// Dense convolutions by cuDNN. A network has one, its stem, and training gives that no bias and no ReLU, so an epilogue
// is done by the operations that exist for it, in passes of their own.
#include "core/contracts.h"
#include "cuda/convolution_plans.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

void check_dtypes(std::initializer_list<const Tensor*> tensors, DType dtype, const char* operation) {
  for (const Tensor* tensor : tensors)
    RIFFLE_CHECK(tensor->dtype() == dtype, operation, ": tensors must be ", dtype, ", got ", tensor->dtype());
}

}  // namespace

ConvolutionPlans& CudaBackend::convolutions() {
  if (!convolutions_)
    convolutions_ = std::make_unique<ConvolutionPlans>(
        cudnn(), stream_, [this](int64_t bytes) { return empty(vector_shape(bytes), DType::kU8); },
        LibrarySettings{options_.tf32, options_.deterministic});
  return *convolutions_;
}

void CudaBackend::conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups,
                         const Epilogue& epilogue, const Tensor& y) {
  check_conv2d(x, w, window, groups, y);
  check_no_overlap(y, {&x, &w, &epilogue.bias}, "conv2d");
  check_epilogue(epilogue, y.channels(), "conv2d");
  check_dtypes({&x, &w, &y}, dtype(), "conv2d");
  convolutions().run({ConvolutionPass::kForward, x, w, y, window});
  if (epilogue.bias.defined()) add_bias(epilogue.bias, epilogue.relu, y);
  if (epilogue.relu && !epilogue.bias.defined()) relu(y, y);
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

// cuDNN's engines overwrite. What is added to goes through memory of its own.
void CudaBackend::conv2d_backward_data(const Tensor& dy, const Tensor& w, const Window& window, int64_t groups,
                                       Write write, const Tensor& dx) {
  check_conv2d(dx, w, window, groups, dy);
  check_no_overlap(dx, {&dy, &w}, "conv2d_backward_data");
  check_dtypes({&dy, &w, &dx}, dtype(), "conv2d_backward_data");
  const Tensor target = write == Write::kAccumulate ? empty(dx.shape()) : dx;
  convolutions().run({ConvolutionPass::kBackwardData, target, w, dy, window});
  if (write == Write::kAccumulate) copy(target, write, dx);
}

// cuDNN computes weight gradients in the dtype of its inputs alone (asked of 9.19: no engine has bf16 or f16 inputs and
// an f32 result): its f32 sums are rounded once, then converted.
void CudaBackend::conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, int64_t groups,
                                          Write write, const Tensor& dw) {
  check_conv2d(x, dw, window, groups, dy);
  check_no_overlap(dw, {&x, &dy}, "conv2d_backward_weights");
  check_dtypes({&x, &dy}, dtype(), "conv2d_backward_weights");
  check_dtypes({&dw}, parameter_dtype(), "conv2d_backward_weights");
  const bool direct = write == Write::kOverwrite && dtype() == parameter_dtype();
  const Tensor target = direct ? dw : empty(dw.shape());
  convolutions().run({ConvolutionPass::kBackwardWeights, x, target, dy, window});
  if (!direct) copy(target, write, dw);
}

// Composed: cuDNN takes no gradient that is made on the way, so the gradient of x is written, to scratch memory.
void CudaBackend::conv2d_norm_max_pool_backward(const Tensor& input, const Window& conv_window, const Tensor& x,
                                                const BatchNormState& norm, const Window& pool_window, const Tensor& dy,
                                                const Tensor& winner, Write write_params, const Tensor& dw,
                                                const Tensor& dgamma, const Tensor& dbeta) {
  check_conv2d(input, dw, conv_window, 1, x);
  check_no_overlap(dw, {&input, &x, &dy}, "conv2d_norm_max_pool_backward");
  const Tensor dx = empty(x.shape());
  batch_norm_max_pool_backward(x, dy, winner, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, pool_window,
                               write_params, dx, dgamma, dbeta);
  conv2d_backward_weights(input, dx, conv_window, 1, write_params, dw);
}

}  // namespace riffle
