// A network small enough for whole training steps on the reference backend, with every kind of layer and odd widths.
#pragma once

#include <utility>
#include <vector>

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

// Three stages of channel counts that vector kernels take whole; quick on the emulated device.
inline ShuffleNetV2Config three_stage_network(int64_t classes, std::vector<int64_t> repeats = {2, 1, 1}) {
  ShuffleNetV2Config config;
  config.stage_channels = {16, 24, 32};
  config.stage_repeats = std::move(repeats);
  config.stem_channels = 8;
  config.head_channels = 32;
  config.classes = classes;
  return config;
}

}  // namespace riffle
