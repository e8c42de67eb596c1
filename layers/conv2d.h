// Conv2d: dense or grouped convolution, any kernel and padding.
#pragma once

#include "layers/convolution.h"

namespace riffle {

// y = conv(x, weight) + bias. x (N,H,W,C), weight (K,R,S,C/groups), bias (K) or null. x packed.
Variable conv2d(const Context& context, const std::string& name, const Variable& x, Parameter& weight, Parameter* bias,
                const Window& window, int64_t groups, const BatchStatistics& statistics = {});

struct Conv2dConfig {
  int64_t inputs, outputs, kernel = 3, stride = 1, groups = 1;
  bool bias = false;
  Dialect dialect = Dialect::kTorchvision;  // decides the padding
};

class Conv2d : public Convolution {
 public:
  Conv2d(Backend& backend, const Conv2dConfig& config);

  using Convolution::forward;
  Variable forward(const Context& context, const Variable& x, const BatchStatistics& statistics) override;
  Tensor infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const override;
  Shape output_shape(const Shape& input) const override;
  Window window(const Shape& input) const override;
  std::string kind() const override;
  int64_t inputs_per_output() const override;
  bool has_bias() const override { return config_.bias; }
  int64_t groups() const override { return config_.groups; }

 private:
  Conv2dConfig config_;
  Parameter* bias_ = nullptr;
};

}  // namespace riffle
