// A network small enough for whole training steps on the reference backend, with every kind of layer and odd widths.
#pragma once

#include "layers/shufflenet_v2.h"

namespace riffle {

inline ShuffleNetV2Config small_network(Dialect dialect, double dropout = 0) {
  ShuffleNetV2Config config;
  config.dialect = dialect;
  config.stage_channels = {20, 36};
  config.stage_repeats = {2, 3};
  config.stem_channels = 9;
  config.head_channels = 40;
  config.classes = 7;
  config.stem_stride = 1;
  config.dropout = dropout;
  return config;
}

}  // namespace riffle
