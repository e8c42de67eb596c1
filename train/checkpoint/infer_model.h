// Which ShuffleNetV2 a file of foreign names holds. Names decide the dialect, shapes the channels: weights of Megvii's
// 0.5x fit torchvision's network, run, and are wrong.
#pragma once

#include <optional>
#include <string>

#include "layers/shufflenet_v2.h"
#include "train/checkpoint/name_map.h"
#include "train/checkpoint/tensor_file.h"

namespace riffle {

// What the user says; where nothing, names and shapes say it.
struct ModelClaims {
  std::optional<Dialect> dialect;
  std::optional<std::string> width;  // "0.5x", ...
  // Not to be seen from names or shapes: 2 and true by default.
  std::optional<int64_t> stem_stride;
  std::optional<bool> stem_max_pool;
};

struct InferredModel {
  Naming naming = Naming::kRiffle;
  ShuffleNetV2Config model;
};

// Throws where names are nobody's or several's, where shapes make no ShuffleNetV2, and where claims contradict them.
InferredModel infer_model(const TensorFile& file, const ModelClaims& claims, const std::string& path);

// "ShuffleNetV2 0.5x (megvii), 1000 classes".
std::string describe(const ShuffleNetV2Config& model);

}  // namespace riffle
