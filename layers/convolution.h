// Convolution: what the three kinds share, so that a block can hold any of them. conv2d.h, depthwise_conv2d.h and
// pointwise_conv2d.h are the kinds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/module.h"
#include "layers/batch_statistics.h"
#include "layers/dialect.h"

namespace riffle {

class Convolution : public Module {
 public:
  // x (N,H,W,inputs) -> (N,OH,OW,outputs). Records on the context's tape. `statistics`, if wanted, receive the mean and
  // variance of the result.
  virtual Variable forward(const Context& context, const Variable& x, const BatchStatistics& statistics) = 0;
  Variable forward(const Context& context, const Variable& x) { return forward(context, x, {}); }
  // Without a tape, with other weights of the same shape, a bias and optionally ReLU: a folded batch norm.
  virtual Tensor infer(Backend& backend, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) const = 0;
  virtual Shape output_shape(const Shape& input) const = 0;
  virtual Window window(const Shape& input) const = 0;  // for an input of this shape
  virtual std::string kind() const = 0;                 // "depthwise 3x3 /2"
  virtual int64_t inputs_per_output() const = 0;        // multiply-accumulates for one output element

  virtual bool has_bias() const { return false; }
  virtual int64_t groups() const { return 1; }
  Parameter& weight() { return *weight_; }
  const Parameter& weight() const { return *weight_; }
  int64_t outputs() const { return outputs_; }

 protected:
  explicit Convolution(int64_t outputs) : outputs_(outputs) {}
  Parameter* weight_ = nullptr;  // named "weight"

 private:
  int64_t outputs_;
};

// The published network's convolutions have no bias: batch norm follows each of them.
std::unique_ptr<Convolution> make_conv2d(Backend& backend, int64_t inputs, int64_t outputs, int64_t kernel,
                                         int64_t stride, int64_t groups, Dialect dialect);
std::unique_ptr<Convolution> make_depthwise_conv2d(Backend& backend, int64_t channels, int64_t stride, Dialect dialect);
std::unique_ptr<Convolution> make_pointwise_conv2d(Backend& backend, int64_t inputs, int64_t outputs);

}  // namespace riffle
