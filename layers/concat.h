// Concat along channels.
#pragma once

#include "core/context.h"

namespace riffle {

// a (N,H,W,A), b (N,H,W,B) -> (N,H,W,A+B). Backward hands slices of dy on; nothing is copied.
Variable concat(const Context& context, const std::string& name, const Variable& a, const Variable& b);

}  // namespace riffle
