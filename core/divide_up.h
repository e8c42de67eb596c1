// Division that rounds up, for host and device.
#pragma once

#include <cstdint>

#include "core/kernels/host_device.h"

namespace riffle {

// a / b rounded up, for a >= 0 and b > 0: how many pieces of at most b items make a items.
RIFFLE_HD inline int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace riffle
