// ReLU on its own. In the network it is fused into batch norm (layers/batch_norm.h) or a folded convolution.
#pragma once

#include "core/context.h"

namespace riffle {

Variable relu(const Context& context, const std::string& name, const Variable& x);

}  // namespace riffle
