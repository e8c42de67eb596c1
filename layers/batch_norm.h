// BatchNorm2d (Ioffe and Szegedy, 2015), with PyTorch's conventions: momentum 0.1 is the weight of the new batch, the
// running variance is unbiased, eps 1e-5.
#pragma once

#include "core/module.h"
#include "layers/batch_statistics.h"

namespace riffle {

class BatchNorm2d : public Module {
 public:
  static constexpr double kMomentum = 0.1;

  BatchNorm2d(Backend& backend, int64_t channels);

  // Training: statistics of the batch, and the running ones updated. Else, or with frozen statistics: the running ones.
  // relu fuses max(0, y) into the same pass. x (N,H,W,C).
  // `known`: the statistics of x, if wanted() when it was computed; else they are computed here.
  Variable forward(const Context& context, const Variable& x, bool relu, const BatchStatistics& known = {});
  // What the operation before this one is to fill in: wanted where this layer will use the batch's statistics.
  BatchStatistics batch_statistics(const Context& context) const;

  // forward(pointwise_conv2d(x, filter), relu). In training, with nothing frozen, the two are one node on the tape, named
  // after the convolution, whose backward pass never writes the gradient between them.
  Variable forward_pointwise(const Context& context, const std::string& conv_name, const Variable& x, Parameter& filter,
                             bool relu);

  // y = scale*x + shift is what this layer does in evaluation; (C) each, in double.
  struct Affine {
    std::vector<double> scale, shift;
  };
  Affine evaluation_affine(Backend& backend) const;

  // Whether a forward pass in this context uses the batch's statistics and all gradients are wanted.
  bool trains(const Context& context) const;
  // Moves the running statistics towards those of a batch of `pixels`.
  void update_running(Backend& backend, const Tensor& mean, const Tensor& var, int64_t pixels);
  // With the parameters of this layer. mean, var (C).
  BatchNormState state(const Tensor& mean, const Tensor& var, bool relu) const;

  Parameter& weight() { return *weight_; }
  Parameter& bias() { return *bias_; }
  // Frozen: the running statistics are used and stay as they are, in training too.
  void freeze_statistics(bool frozen);

 private:
  // The mean and variance to normalise with; in training the batch's, and the running ones are updated.
  struct Statistics {
    Tensor mean, var;
    bool of_batch;
  };
  Statistics statistics(const Context& context, const Tensor& x, const BatchStatistics& known);

  Parameter* weight_;
  Parameter* bias_;
  Buffer* running_mean_;
  Buffer* running_var_;
};

}  // namespace riffle
