// SoftmaxCrossEntropy with label smoothing (Szegedy et al., 2016, section 7; PyTorch's definition: the target is
// (1 - smoothing)*onehot + smoothing/K), and with targets of the caller's.
#pragma once

#include "core/context.h"

namespace riffle {

// Losses of the images, (N,1,1,1). With a tape, this is the root of the backward pass: the gradient of
// grad_scale * (mean of the losses) with respect to the logits (N,1,1,K) is set. labels: i32 (N,1,1,1).
// scalars: of the step (StepScalar), whose loss scale multiplies the gradient; undefined where there is none.
Tensor softmax_cross_entropy(const Context& context, const Variable& logits, const Tensor& labels, double smoothing,
                             double grad_scale = 1, const Tensor& scalars = {});

// The same for any target, such as a mixture of two labels: targets (N,1,1,K) of the backend's parameter_dtype(), rows of
// probabilities.
Tensor soft_cross_entropy(const Context& context, const Variable& logits, const Tensor& targets, double grad_scale = 1,
                          const Tensor& scalars = {});

}  // namespace riffle
