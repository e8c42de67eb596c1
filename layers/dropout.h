// Dropout (Srivastava et al., 2014), inverted: kept values are scaled by 1/(1 - rate) in training, evaluation is the
// identity.
#pragma once

#include "core/context.h"

namespace riffle {

// The mask is a pure function of (context.seed, the step among context.scalars, context.batch, layer).
Variable dropout(const Context& context, const std::string& name, const Variable& x, double rate, uint64_t layer);

}  // namespace riffle
