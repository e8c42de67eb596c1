// A branch of a shuffle unit as one node on the tape: [pointwise, norm, ReLU,] depthwise, norm, pointwise, norm, ReLU. A
// training step is bound by memory, and the composition of layers writes every norm's result; here none but the last is:
//  * the first norm and its ReLU are applied where the depthwise convolution reads, forward and backward;
//  * the second, which has no ReLU, folds into the filters of the pointwise convolution after it. Its shift is a
//    constant that the third norm subtracts again, so only the running mean has to add it back; and its gradients follow
//    from those of the filters, without another pass over the activations (Backend::fold_norm has the algebra).
// Values and gradients are those of the composition, in training with nothing frozen; everywhere else that is used.
#pragma once

#include <string>
#include <vector>

#include "layers/batch_norm.h"

namespace riffle {

struct PointwiseBlock {
  Parameter* filter = nullptr;  // (K,1,1,C)
  BatchNorm2d* norm = nullptr;
  bool relu = false;
};

struct FusedBranch {
  PointwiseBlock first;                   // absent (null) in a projection
  Parameter* depthwise_filter = nullptr;  // (1,3,3,C)
  Window window;                          // of the depthwise convolution
  BatchNorm2d* depthwise_norm = nullptr;
  PointwiseBlock last;
};

// Whether the branch may be computed that way here: in training, with nothing frozen.
bool can_fuse(const Context& context, const FusedBranch& branch);

// x (N,H,W,C) -> (N,OH,OW,K), written to `parts`, which together have that shape and are returned as variables.
// `name`: of the node.
std::vector<Variable> fused_branch(const Context& context, const std::string& name, const Variable& x,
                                   const FusedBranch& branch, const std::vector<Tensor>& parts);

}  // namespace riffle
