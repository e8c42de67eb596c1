// Mixing two normalised images: which share of a pixel is the image's own. See ImageMix in core/backend.h.
#pragma once

#include <cstdint>

#include "core/kernels/host_device.h"

namespace riffle {

struct MixedPixel {
  int32_t top, bottom, left, right;
  float inside;  // the image's share within the box

  RIFFLE_HD bool mixes(int64_t row, int64_t column) const {
    return row >= top && row < bottom && column >= left && column < right;
  }
  // Exact where the share is 0 or 1, which CutMix relies on.
  RIFFLE_HD float mix(float own, float partner) const { return inside * own + (1 - inside) * partner; }
};

}  // namespace riffle
