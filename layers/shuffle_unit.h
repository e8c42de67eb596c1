// The unit of ShuffleNetV2 (Ma et al., 2018, figure 3 c and d), as the plain composition: split, branch, concat,
// shuffle.
#pragma once

#include <memory>
#include <utility>

#include "layers/conv_bn.h"

namespace riffle {

// Stride 1: half of the channels pass, half go through the main branch. Stride 2: both branches see all channels.
// Which half, where the shuffle is, and how wide the stride-2 projection is depends on the dialect (layers/dialect.h).
class ShuffleUnit : public Module {
 public:
  // Main branch: pointwise inputs -> outputs/2, depthwise 3x3 of the unit's stride, pointwise -> the rest.
  ShuffleUnit(Backend& backend, int64_t inputs, int64_t outputs, int64_t stride, Dialect dialect);

  // x (N,H,W,inputs) -> (N,OH,OW,outputs).
  Variable forward(const Context& context, const Variable& x);

  // Branches in execution order; the projection is null at stride 1.
  ConvBnSequence* projection() { return projection_.get(); }
  const ConvBnSequence* projection() const { return projection_.get(); }
  ConvBnSequence& main() { return main_; }
  const ConvBnSequence& main() const { return main_; }

 private:
  std::pair<Variable, Variable> split(const Context& context, const Variable& x) const;
  Variable join(const Context& context, const Variable& a, const Variable& b) const;

  Dialect dialect_;
  std::unique_ptr<ConvBnSequence> projection_;
  ConvBnSequence main_;
};

}  // namespace riffle
