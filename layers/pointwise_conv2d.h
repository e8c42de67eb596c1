// PointwiseConv2d: 1x1 convolution, a matrix product over the channels of every pixel.
#pragma once

#include "layers/convolution.h"

namespace riffle {

// x (N,H,W,C), weight (K,1,1,C), bias (K) or null -> (N,H,W,K). x may be a channel slice.
Variable pointwise_conv2d(const Context& context, const std::string& name, const Variable& x, Parameter& weight,
                          Parameter* bias, const BatchStatistics& statistics = {});

class PointwiseConv2d : public Convolution {
 public:
  PointwiseConv2d(Backend& backend, int64_t inputs, int64_t outputs);

  using Convolution::forward;
  Variable forward(const Context& context, const Variable& x, const BatchStatistics& statistics) override;
  Tensor infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const override;
  Shape output_shape(const Shape& input) const override { return input.with_channels(outputs()); }
  Window window(const Shape&) const override { return {1, 1, 1, {}}; }
  std::string kind() const override { return "pointwise 1x1"; }
  int64_t inputs_per_output() const override { return weight().value.channels(); }
};

}  // namespace riffle
