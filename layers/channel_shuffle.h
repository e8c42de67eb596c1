// ChannelShuffle (Zhang et al., "ShuffleNet", 2017, section 3.1), and the fusions of it that the dialects need.
#pragma once

#include <utility>

#include "core/context.h"

namespace riffle {

// y[j*groups + i] = x[i*(C/groups) + j]. The inverse is the shuffle with C/groups groups, which backward applies.
Variable channel_shuffle(const Context& context, const std::string& name, const Variable& x, int64_t groups);

// channel_shuffle(concat(a, b), 2) in one pass: y[2i] = a[i], y[2i+1] = b[i]. a, b (N,H,W,C/2).
Variable concat_shuffle(const Context& context, const std::string& name, const Variable& a, const Variable& b);

// channel_split(channel_shuffle(x, C/2), C/2) in one pass: even channels, odd channels.
std::pair<Variable, Variable> shuffle_split(const Context& context, const std::string& name, const Variable& x);

}  // namespace riffle
