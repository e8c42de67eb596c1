// Channel shuffle as an index map: view C channels as a (groups x C/groups) matrix and transpose it (ShuffleNet v1,
// section 3.1). Its inverse is the shuffle with C/groups groups. groups = 2 is torchvision's (interleave the halves);
// groups = C/2 is Megvii's and tensorpack's (evens first, then odds).
#pragma once

#include <cstdint>

#include "core/kernels/host_device.h"

namespace riffle {

struct ChannelShuffle {
  int64_t channels, groups;

  // y[c] = x[source(c)]: with c = j*groups + i, the source is i*(C/groups) + j.
  RIFFLE_HD int64_t source(int64_t c) const { return (c % groups) * (channels / groups) + c / groups; }
};

}  // namespace riffle
