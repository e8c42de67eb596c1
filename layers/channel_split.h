// ChannelSplit: the two parts are views, forward and backward; nothing is copied.
#pragma once

#include <utility>

#include "core/context.h"

namespace riffle {

// x (N,H,W,C) -> channels [0, first) and [first, C).
std::pair<Variable, Variable> channel_split(const Context& context, const std::string& name, const Variable& x,
                                            int64_t first);

}  // namespace riffle
