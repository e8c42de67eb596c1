// Scatter: the opposite of concat. Consecutive channel ranges of a tensor, each copied to memory of its own.
#pragma once

#include <string>
#include <vector>

#include "core/context.h"

namespace riffle {

// x (N,H,W,C); `parts` together have its shape and receive its channels. Returns them as variables.
std::vector<Variable> scatter(const Context& context, const std::string& name, const Variable& x,
                              const std::vector<Tensor>& parts);

// The gradient of the parts as one operation's argument, where some may have received none (it is zero then).
ChannelParts gathered_grads(Backend& backend, const std::vector<Tensor>& dys, const std::vector<Shape>& shapes);

}  // namespace riffle
