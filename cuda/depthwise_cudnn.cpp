// cuDNN's own depthwise convolution (CudaOptions::cudnn_depthwise), to compare ours with: a grouped convolution of one
// channel a group, on packed tensors. What ours fuses with it takes passes of its own here.
#include "cuda/convolution_plans.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

Tensor packed_form(Backend& backend, const Tensor& x) {
  if (x.packed()) return x;
  const Tensor copy = backend.empty(x.shape());
  backend.copy(x, Write::kOverwrite, copy);
  return copy;
}

Tensor normalised(Backend& backend, const Tensor& x, const BatchNormState& norm) {
  const Tensor z = backend.empty(x.shape());
  backend.batch_norm_apply(x, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, norm.relu, z);
  return z;
}

// dy + from_y*(y - mean_y).
Tensor whole_gradient(Backend& backend, const Tensor& y, const Tensor& mean_y, const Tensor& from_y, const Tensor& dy) {
  const Tensor one = backend.empty_parameter(from_y.shape()), zero = backend.empty_parameter(from_y.shape());
  backend.fill(1, one);
  backend.fill(0, zero);
  const Tensor gradient = backend.empty(y.shape());
  backend.batch_norm_apply(y, mean_y, /*var=*/one, /*gamma=*/from_y, /*beta=*/zero, /*eps=*/0, /*relu=*/false,
                           gradient);
  backend.copy(dy, Write::kAccumulate, gradient);
  return gradient;
}

// Ours are (1,R,S,C), cuDNN's (C,R,S,1): the transpose of (R*S, C), which is what a channel shuffle makes.
Tensor to_cudnn_filters(Backend& backend, const Tensor& w) {
  const Shape& s = w.shape();
  const Tensor filters = backend.empty({s.c, s.h, s.w, 1}, w.dtype());
  const Shape row = vector_shape(w.elements());
  backend.channel_shuffle(w.reshaped(row), /*groups=*/s.h * s.w, filters.reshaped(row));
  return filters;
}

Tensor from_cudnn_filters(Backend& backend, const Tensor& filters) {
  const Shape& s = filters.shape();
  const Tensor w = backend.empty({1, s.h, s.w, s.n}, filters.dtype());
  const Shape row = vector_shape(w.elements());
  backend.channel_shuffle(filters.reshaped(row), /*groups=*/s.n, w.reshaped(row));
  return w;
}

}  // namespace

void CudaBackend::cudnn_depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                                  const Tensor& y) {
  const Tensor target = y.packed() ? y : empty(y.shape());
  conv2d(packed_form(*this, x), to_cudnn_filters(*this, w), window, /*groups=*/x.channels(), epilogue, target);
  if (!y.packed()) copy(target, Write::kOverwrite, y);
}

void CudaBackend::cudnn_depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                                                const Tensor& dx) {
  const Tensor target = dx.packed() ? dx : empty(dx.shape());
  conv2d_backward_data(packed_form(*this, dy), to_cudnn_filters(*this, w), window, /*groups=*/dx.channels(),
                       dx.packed() ? write : Write::kOverwrite, target);
  if (!dx.packed()) copy(target, write, dx);
}

// In dtype(), as conv2d_backward_weights explains.
void CudaBackend::cudnn_depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                                   const Tensor& dw) {
  const Tensor filters = empty({dw.channels(), window.kernel_h, window.kernel_w, 1});
  convolutions().run(
      {ConvolutionPass::kBackwardWeights, packed_form(*this, x), filters, packed_form(*this, dy), window});
  copy(from_cudnn_filters(*this, filters), write, dw);
}

void CudaBackend::cudnn_norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                       const Window& window, const Tensor& mean, const Tensor& var, const Tensor& y) {
  Epilogue statistics;
  statistics.mean = mean;
  statistics.var = var;
  cudnn_depthwise(normalised(*this, x, before), w, window, statistics, y);
}

void CudaBackend::cudnn_norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                                const Window& window, const Tensor& y, const Tensor& mean_y,
                                                const Tensor& from_y, const Tensor& dy, Write write_dx,
                                                const Tensor& dx, Write write_dw, const Tensor& dw,
                                                const Tensor& sums) {
  const bool normed = before.mean.defined();
  const Tensor gradient = whole_gradient(*this, y, mean_y, from_y, dy);
  const Tensor z = normed ? normalised(*this, x, before) : x;
  cudnn_depthwise_backward_weights(z, gradient, window, write_dw, dw);
  cudnn_depthwise_backward_data(gradient, w, window, write_dx, dx);
  if (!normed) return;
  const Tensor partial = norm_gradient_sums(x, dx, before);  // (2, parts, C)
  const int64_t half = partial.elements() / 2, channels = x.channels();
  const Tensor both = sums.reshaped({2, 1, 1, channels});
  for (int64_t i : {0, 1})
    sum_parts(partial.data<float>() + i * half, half / channels, Write::kOverwrite, both.sample_slice(i, 1));
}

}  // namespace riffle
