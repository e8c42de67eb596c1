// The network's first layers as one node: convolution, norm, ReLU and max-pool. Its tensors are by far the largest of a
// training step, so only one of them is kept, the convolution's output; the gradient of that is never written.
#pragma once

#include <string>

#include "layers/batch_norm.h"

namespace riffle {

struct FusedStem {
  Parameter* filter = nullptr;  // (K,R,S,C)
  Window conv_window;
  BatchNorm2d* norm = nullptr;
  Window pool_window;
};

// Whether the stem may be computed that way here: in training, with nothing frozen, and no gradient of x wanted.
bool can_fuse(const Context& context, const Variable& x, const FusedStem& stem);

// x (N,H,W,C) packed -> (N,OH,OW,K). `name`: of the node.
Variable fused_stem(const Context& context, const std::string& name, const Variable& x, const FusedStem& stem);

}  // namespace riffle
