// What the sections of a configuration mean to the rest of the program: steps, network, preprocessing.
#include "train/config.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "train/config_values.h"

namespace riffle {

int64_t Duration::steps(int64_t steps_per_epoch) const {
  const double steps = unit == Unit::kSteps ? value : value * static_cast<double>(steps_per_epoch);
  // Up to 2^53 a double holds every whole number.
  if (!(steps >= 0 && steps <= 9007199254740992.0)) {
    fail_usage("a duration of ", text(), " with ", steps_per_epoch, " steps an epoch is out of range");
  }
  return std::llround(steps);
}

std::string Duration::text() const {
  return value_text(value) + (unit == Unit::kSteps ? "it" : "ep");
}

ShuffleNetV2Config Config::network(int64_t data_classes) const {
  ShuffleNetV2Config network;
  const Dialect dialect = parse_dialect(model.dialect);
  if (model.width != "custom") network = ShuffleNetV2Config::published(model.width, dialect);
  network.dialect = dialect;
  if (!model.stage_channels.empty()) network.stage_channels = model.stage_channels;
  if (!model.stage_repeats.empty()) network.stage_repeats = model.stage_repeats;
  network.stem_channels = model.stem_channels;
  if (model.head_channels > 0) network.head_channels = model.head_channels;
  network.classes = model.classes > 0 ? model.classes : data_classes;
  network.input_channels = model.input_channels;
  network.stem_stride = model.stem_stride;
  network.stem_max_pool = model.stem_max_pool;
  if (model.dropout >= 0) network.dropout = model.dropout;
  if (network.classes < 1) {
    fail_usage(
        "model.classes is 0 and there is no data to count classes in; pass a number, such as model.classes=1000");
  }
  if (data_classes > network.classes) {
    fail_usage("the data has ", data_classes, " classes, but model.classes is ", network.classes,
               "; expected at least ", data_classes, ", or 0 to count them");
  }
  return network;
}

int64_t Config::frozen_parts() const {
  return static_cast<int64_t>(finetune.freeze.size());  // check_config(): each is followed by the next
}

Normalisation Config::network_input() const {
  Normalisation input;
  input.scale = normalisation.scale;
  input.mean = normalisation.mean;
  input.std = normalisation.std;
  input.reverse_channels = normalisation.channel_order == "bgr";
  return input;
}

TrainTransform Config::train_transform() const {
  TrainTransform transform;
  transform.size = augment.size;
  transform.steps = augment.transforms;
  // The pixel that normalises to 0, or the nearest.
  std::vector<double> means = normalisation.mean;
  if (normalisation.channel_order == "bgr") std::reverse(means.begin(), means.end());
  for (size_t c = 0; c < std::min(means.size(), transform.mean_colour.size()); ++c)
    transform.mean_colour[c] =
        static_cast<uint8_t>(std::lround(std::clamp(means[c] / normalisation.scale, 0.0, 255.0)));
  transform.exif_orientation = data.exif_orientation;
  transform.decode = data.decode == "quick" ? DecodeMode::kQuick : DecodeMode::kExact;
  return transform;
}

EvalTransform Config::eval_transform() const {
  EvalTransform transform;
  transform.resize = eval.resize;
  transform.crop = eval.crop;
  transform.interpolation = find_interpolation(eval.interpolation).value();  // one of its names: config_fields.cpp
  transform.rounding = find_rounding(eval.rounding).value();
  transform.crop_offset = find_crop_offset(eval.crop_offset).value();
  transform.exif_orientation = data.exif_orientation;
  return transform;
}

}  // namespace riffle
