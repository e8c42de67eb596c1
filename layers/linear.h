// Linear: the classifier. y = x w^T + b.
#pragma once

#include "core/module.h"

namespace riffle {

class Linear : public Module {
 public:
  Linear(Backend& backend, int64_t inputs, int64_t outputs, bool bias);

  // x (N,1,1,inputs) -> (N,1,1,outputs).
  Variable forward(const Context& context, const Variable& x);

  Parameter& weight() { return *weight_; }
  const Parameter& weight() const { return *weight_; }
  Parameter* bias() { return bias_; }  // null without
  const Parameter* bias() const { return bias_; }

 private:
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace riffle
