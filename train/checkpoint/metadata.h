// What a checkpoint says about itself, so that evaluating it and predicting with it need nothing else: the network, the
// classes, how images become its input, and where in which training it was taken.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/backend.h"
#include "data/transform.h"
#include "layers/shufflenet_v2.h"

namespace riffle {

struct CheckpointMetadata {
  ShuffleNetV2Config model;
  std::vector<std::string> classes;  // index -> name; model.classes of them, UTF-8
  EvalTransform preprocessing;
  Normalisation normalisation;  // one mean and std for each of model.input_channels

  struct Training {
    int64_t epoch = 0, step = 0;  // finished ones
    double loss_scale = 1;        // of fp16, see TrainStep
  };
  std::optional<Training> training;  // absent: converted, not trained here

  bool averaged = false;  // "weights": whether the network's tensors are moving averages ("ema") or as trained ("raw")

  struct Metrics {  // on the validation data
    double top1_percent = 0, top5_percent = 0;
    double loss = 0;  // may be NaN or infinite; null in JSON and NaN when read back
  };
  std::optional<Metrics> metrics;  // absent: not evaluated

  // From how many images batch norm's statistics were estimated after training; absent: they are those of training.
  std::optional<int64_t> recalibrated_images;

  std::string config_yaml;  // the resolved configuration, or ""
  std::string riffle_version;
};

// Throws if the parts contradict each other or cannot be stored (a class name that is not UTF-8, named with its index).
// Build it once before training starts, so that this is known before the first checkpoint.
nlohmann::json to_json(const CheckpointMetadata& metadata);
// Throws for a missing, ill-typed or out-of-range field, naming `path`, the field and what would be accepted.
CheckpointMetadata metadata_from_json(const nlohmann::json& json, const std::string& path);

// {"resize", "crop", "interpolation", "rounding", "crop_offset", "exif_orientation"}, as checkpoints hold it.
nlohmann::json to_json(const EvalTransform& preprocessing);

// "ShuffleNetV2 1.0x (torchvision), 1000 classes" of any checkpoint's metadata; "" where it does not say.
std::string describe_architecture(const nlohmann::json& metadata);

}  // namespace riffle
