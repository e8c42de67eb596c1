// MaxPool2d and GlobalAvgPool.
#pragma once

#include "core/context.h"

namespace riffle {

// x (N,H,W,C) -> (N,OH,OW,C). Padding never wins.
Variable max_pool2d(const Context& context, const std::string& name, const Variable& x, const Window& window);
// x (N,H,W,C) -> (N,1,1,C).
Variable global_avg_pool(const Context& context, const std::string& name, const Variable& x);

}  // namespace riffle
