// RefBackend: the oracle. Every primitive of core/backend.h as naive loops in float64, written from the contracts there
// and sharing no code with the backends it judges (Philox's bits excepted). It checks every shape, dtype and aliasing
// rule and poisons what it allocates, so that layers tested on it cannot lean on lenience or on zeroed memory.
#pragma once

#include <memory>

#include "core/backend.h"

namespace riffle {

std::unique_ptr<Backend> make_reference_backend();

}  // namespace riffle
