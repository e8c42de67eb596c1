// Convolution + batch norm (+ ReLU), the block that ShuffleNetV2 is made of, and sequences of it. In training: two
// operations, ReLU fused into the second. In evaluation the same with running statistics. Folded (inference only): one
// convolution with bias and ReLU.
#pragma once

#include <memory>
#include <vector>

#include "layers/batch_norm.h"
#include "layers/convolution.h"
#include "layers/fused_branch.h"

namespace riffle {

class ConvBn {
 public:
  ConvBn(Backend& backend, std::unique_ptr<Convolution> conv, bool relu);

  Variable forward(const Context& context, const Variable& x);
  // max_pool2d of it; in training, for a dense convolution with ReLU, as one node: fused_stem.h.
  Variable forward_max_pool(const Context& context, const Variable& x, const Window& window);
  // Later forward passes compute relu(conv(x, w * scale) + shift); idempotent. Parameters stay as they are;
  // ones that are loaded later do not show.
  void fold(Backend& backend);

  Convolution& conv() { return *conv_; }
  const Convolution& conv() const { return *conv_; }
  // A folded pointwise block into `parts`, which together have its result's shape.
  void infer_into(const Context& context, const Tensor& x, const std::vector<Tensor>& parts) const;
  BatchNorm2d& norm() { return norm_; }
  bool relu() const { return relu_; }
  bool folded() const { return folded_weight_.defined(); }

 private:
  Variable forward_folded(const Context& context, const Variable& x) const;

  std::unique_ptr<Convolution> conv_;
  BatchNorm2d norm_;
  bool relu_;
  Tensor folded_weight_, folded_bias_;
};

// Blocks in a row. Children are numbered as in the published state dicts, which number convolution, norm and ReLU: a
// block without ReLU takes two numbers, one with it three.
class ConvBnSequence : public Module {
 public:
  ConvBnSequence& append(Backend& backend, std::unique_ptr<Convolution> conv, bool relu);
  Variable forward(const Context& context, Variable x);
  // The same, its channels written to `parts`, which together have its shape. Returns them as variables.
  std::vector<Variable> forward_into(const Context& context, Variable x, const std::vector<Tensor>& parts);
  Shape output_shape(Shape input) const;
  int64_t outputs() const { return blocks_.back()->conv().outputs(); }
  std::vector<std::unique_ptr<ConvBn>>& blocks() { return blocks_; }
  const std::vector<std::unique_ptr<ConvBn>>& blocks() const { return blocks_; }

 private:
  // Whether the blocks are those of a FusedBranch, which is filled in.
  bool as_branch(const Shape& input, FusedBranch& branch);

  std::vector<std::unique_ptr<ConvBn>> blocks_;
  int next_number_ = 0;
};

}  // namespace riffle
