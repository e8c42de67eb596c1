// DepthwiseConv2d: one filter for each channel.
#pragma once

#include "layers/convolution.h"

namespace riffle {

// x (N,H,W,C), weight (1,R,S,C).
Variable depthwise_conv2d(const Context& context, const std::string& name, const Variable& x, Parameter& weight,
                          const Window& window, const BatchStatistics& statistics = {});

class DepthwiseConv2d : public Convolution {
 public:
  DepthwiseConv2d(Backend& backend, int64_t channels, int64_t kernel, int64_t stride, Dialect dialect);

  using Convolution::forward;
  Variable forward(const Context& context, const Variable& x, const BatchStatistics& statistics) override;
  Tensor infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const override;
  Shape output_shape(const Shape& input) const override;
  Window window(const Shape& input) const override;
  std::string kind() const override;
  int64_t inputs_per_output() const override { return kernel_ * kernel_; }

 private:
  int64_t kernel_, stride_;
  Dialect dialect_;
};

}  // namespace riffle
