// Looks for the first tensor of a training step that holds a NaN or an infinity. Downloads what it looks at, so it is for
// a step that has gone wrong already.
#pragma once

#include <string>

#include "layers/shufflenet_v2.h"

namespace riffle {

class NonFiniteSearch {
 public:
  NonFiniteSearch(Backend& backend, ShuffleNetV2& network) : backend_(backend), network_(network) {}

  // Nothing is looked at once something was found. `what`: for people.
  void look(const std::string& what, const Tensor& tensor);
  // Of all parameters, in the order of the backward pass.
  void look_at_gradients();
  // "" if nothing was found; else what was, and how many parameters are not finite themselves.
  std::string found();

 private:
  Backend& backend_;
  ShuffleNetV2& network_;
  std::string found_;
};

}  // namespace riffle
