// Checkpoint metadata <-> JSON. Reading names the field that is wrong; nothing is guessed, since a model that runs with
// the wrong dialect or normalisation gives plausible, wrong answers.
#include "train/checkpoint/metadata.h"

#include <cmath>
#include <limits>
#include <utility>

namespace riffle {
namespace {

using Json = nlohmann::json;

constexpr const char* kArchitecture = "shufflenet_v2";
constexpr const char *kAsTrained = "raw", *kAveraged = "ema";
constexpr int64_t kMaxChannels = 1 << 16, kMaxClasses = 1 << 20, kMaxRepeats = 1 << 10, kMaxPixels = 1 << 14;

// One JSON object of the metadata, with its place for messages.
class Fields {
 public:
  Fields(const Json& json, const std::string& file, std::string place)
      : json_(json), file_(file), place_(std::move(place)) {
    if (!json.is_object()) wrong_self();
  }

  Fields object(const char* key) const { return {at(key), file_, full_name(key)}; }
  bool has(const char* key) const { return json_.contains(key); }

  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) wrong(key, "text");
    return value.get<std::string>();
  }

  bool flag(const char* key) const {
    const Json& value = at(key);
    if (!value.is_boolean()) wrong(key, "true or false");
    return value.get<bool>();
  }

  int64_t whole(const char* key, int64_t min, int64_t max) const {
    const Json& value = at(key);
    if (!is_whole(value, min, max)) wrong(key, join("a whole number from ", min, " to ", max));
    return value.get<int64_t>();
  }

  std::vector<int64_t> wholes(const char* key, size_t count, int64_t min, int64_t max) const {
    const Json& value = at(key);
    bool valid = value.is_array() && value.size() == count;
    for (size_t i = 0; valid && i < count; ++i) valid = is_whole(value[i], min, max);
    if (!valid) wrong(key, join("a list of ", count, " whole numbers from ", min, " to ", max));
    return value.get<std::vector<int64_t>>();
  }

  double number(const char* key) const {
    const Json& value = at(key);
    if (!value.is_number()) wrong(key, "a number");
    return value.get<double>();
  }

  double number_or_null(const char* key) const {
    const Json& value = at(key);
    if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
    if (!value.is_number()) wrong(key, "a number or null");
    return value.get<double>();
  }

  std::vector<double> numbers(const char* key, size_t count) const {
    const Json& value = at(key);
    bool valid = value.is_array() && value.size() == count;
    for (size_t i = 0; valid && i < count; ++i) valid = value[i].is_number();
    if (!valid) wrong(key, join("a list of ", count, count == 1 ? " number" : " numbers"));
    return value.get<std::vector<double>>();
  }

  std::vector<std::string> texts(const char* key, size_t count) const {
    const Json& value = at(key);
    bool valid = value.is_array() && value.size() == count;
    for (size_t i = 0; valid && i < count; ++i) valid = value[i].is_string();
    if (!valid) wrong(key, join("a list of ", count, " texts"));
    return value.get<std::vector<std::string>>();
  }

  // Reports that `key` is there but not as it must be.
  [[noreturn]] void wrong(const char* key, const std::string& expected) const {
    fail(file_, ": metadata '", full_name(key), "' is ", excerpt(at(key)), "; expected ", expected);
  }

 private:
  static bool is_whole(const Json& value, int64_t min, int64_t max) {
    if (!value.is_number_integer()) return false;
    if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return false;
    return value.get<int64_t>() >= min && value.get<int64_t>() <= max;
  }

  static std::string excerpt(const Json& value) {
    constexpr size_t kMaxBytes = 80;
    if (value.is_structured() && value.size() > 16) return join(value.type_name(), " of ", value.size());
    const std::string text = value.dump(-1, ' ', true);
    return text.size() <= kMaxBytes ? text : text.substr(0, kMaxBytes) + "...";
  }

  std::string full_name(const char* key) const { return place_.empty() ? key : place_ + "." + key; }

  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail(file_, ": metadata lacks '", full_name(key), "'; was it written by riffle?");
    return *found;
  }

  [[noreturn]] void wrong_self() const {
    fail(file_, ": metadata", place_.empty() ? "" : " '" + place_ + "'", " is ", excerpt(json_),
         "; expected an object");
  }

  const Json& json_;
  const std::string& file_;
  std::string place_;
};

ShuffleNetV2Config read_model(const Fields& fields) {
  if (fields.text("architecture") != kArchitecture) fields.wrong("architecture", join('"', kArchitecture, '"'));
  ShuffleNetV2Config model;
  try {
    model.dialect = parse_dialect(fields.text("dialect"));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    fields.wrong("dialect", "a dialect that this version knows: torchvision, megvii or tensorpack");
  }
  model.stage_channels = fields.wholes("stage_channels", 3, 2, kMaxChannels);
  model.stage_repeats = fields.wholes("stage_repeats", 3, 1, kMaxRepeats);
  model.stem_channels = fields.whole("stem_channels", 1, kMaxChannels);
  model.head_channels = fields.whole("head_channels", 1, kMaxChannels);
  model.classes = fields.whole("classes", 1, kMaxClasses);
  model.input_channels = fields.whole("input_channels", 1, 3);
  if (model.input_channels == 2) fields.wrong("input_channels", "1 or 3");
  model.stem_stride = fields.whole("stem_stride", 1, 2);
  model.stem_max_pool = fields.flag("stem_max_pool");
  model.dropout = fields.number("dropout");
  if (!(model.dropout >= 0 && model.dropout < 1)) fields.wrong("dropout", "a number in [0, 1)");
  return model;
}

Normalisation read_normalisation(const Fields& fields, size_t channels) {
  Normalisation normalisation;
  normalisation.scale = fields.number("scale");
  if (!(normalisation.scale > 0)) fields.wrong("scale", "a number > 0");
  normalisation.mean = fields.numbers("mean", channels);
  normalisation.std = fields.numbers("std", channels);
  for (double std : normalisation.std) {
    if (!(std > 0)) fields.wrong("std", "numbers > 0");
  }
  const std::string order = fields.text("channel_order");
  if (order != "rgb" && order != "bgr") fields.wrong("channel_order", "\"rgb\" or \"bgr\"");
  normalisation.reverse_channels = order == "bgr";
  return normalisation;
}

// The value of `key` among a choice's names; `find` is its find_*() of data/transform.h.
template <class Choice>
Choice read_choice(const Fields& fields, const char* key, std::optional<Choice> (*find)(const std::string&),
                   const std::vector<std::string>& names) {
  const std::optional<Choice> found = find(fields.text(key));
  if (!found) {
    std::string expected;
    for (const std::string& name : names) expected += (expected.empty() ? "\"" : ", \"") + name + '"';
    fields.wrong(key, "one of " + expected);
  }
  return *found;
}

EvalTransform read_preprocessing(const Fields& fields) {
  EvalTransform transform;
  transform.resize = static_cast<int>(fields.whole("resize", 0, kMaxPixels));
  transform.crop = static_cast<int>(fields.whole("crop", 1, kMaxPixels));
  transform.interpolation = read_choice(fields, "interpolation", find_interpolation, interpolation_names());
  // Checkpoints of before these fields are torchvision's kind, the defaults.
  if (fields.has("rounding")) transform.rounding = read_choice(fields, "rounding", find_rounding, rounding_names());
  if (fields.has("crop_offset")) {
    transform.crop_offset = read_choice(fields, "crop_offset", find_crop_offset, crop_offset_names());
  }
  if (fields.has("exif_orientation")) transform.exif_orientation = fields.flag("exif_orientation");
  return transform;
}

void check_consistent(const CheckpointMetadata& metadata) {
  const ShuffleNetV2Config& model = metadata.model;
  RIFFLE_CHECK(static_cast<int64_t>(metadata.classes.size()) == model.classes, metadata.classes.size(),
               " class names for a model of ", model.classes, " classes");
  const Normalisation& normalisation = metadata.normalisation;
  RIFFLE_CHECK(static_cast<int64_t>(normalisation.mean.size()) == model.input_channels &&
                   static_cast<int64_t>(normalisation.std.size()) == model.input_channels,
               normalisation.mean.size(), " means and ", normalisation.std.size(), " standard deviations for ",
               model.input_channels, " input channels");
  for (size_t i = 0; i < metadata.classes.size(); ++i) {
    try {
      (void)Json(metadata.classes[i]).dump();
    } catch (const Json::exception&) {
      fail("the name of class ", i, ", '", metadata.classes[i],
           "', is not UTF-8 text and cannot be stored in a checkpoint; rename its folder");
    }
  }
}

}  // namespace

Json to_json(const EvalTransform& preprocessing) {
  return {{"resize", preprocessing.resize},
          {"crop", preprocessing.crop},
          {"interpolation", name_of(preprocessing.interpolation)},
          {"rounding", name_of(preprocessing.rounding)},
          {"crop_offset", name_of(preprocessing.crop_offset)},
          {"exif_orientation", preprocessing.exif_orientation}};
}

Json to_json(const CheckpointMetadata& metadata) {
  check_consistent(metadata);
  const ShuffleNetV2Config& model = metadata.model;
  const Normalisation& normalisation = metadata.normalisation;
  Json json = {
      {"riffle_version", metadata.riffle_version},
      {"model",
       {{"architecture", kArchitecture},
        {"width", model.width_name()},
        {"dialect", name_of(model.dialect)},
        {"stage_channels", model.stage_channels},
        {"stage_repeats", model.stage_repeats},
        {"stem_channels", model.stem_channels},
        {"head_channels", model.head_channels},
        {"classes", model.classes},
        {"input_channels", model.input_channels},
        {"stem_stride", model.stem_stride},
        {"stem_max_pool", model.stem_max_pool},
        {"dropout", model.dropout}}},
      {"classes", metadata.classes},
      {"preprocessing", to_json(metadata.preprocessing)},
      {"normalisation",
       {{"scale", normalisation.scale},
        {"mean", normalisation.mean},
        {"std", normalisation.std},
        {"channel_order", normalisation.reverse_channels ? "bgr" : "rgb"}}},
      {"weights", metadata.averaged ? kAveraged : kAsTrained},
      {"config", metadata.config_yaml},
  };
  if (metadata.training) {
    Json& training = json["training"];
    training = {{"epoch", metadata.training->epoch}, {"step", metadata.training->step}};
    if (metadata.training->loss_scale != 1) training["loss_scale"] = metadata.training->loss_scale;
  }
  if (metadata.metrics) {
    const double loss = metadata.metrics->loss;
    json["metrics"] = {{"top1_percent", metadata.metrics->top1_percent},
                       {"top5_percent", metadata.metrics->top5_percent},
                       {"loss", std::isfinite(loss) ? Json(loss) : Json(nullptr)}};
  }
  if (metadata.recalibrated_images) json["recalibrated"] = {{"images", *metadata.recalibrated_images}};
  return json;
}

CheckpointMetadata metadata_from_json(const Json& json, const std::string& path) {
  const Fields fields(json, path, "");
  CheckpointMetadata metadata;
  metadata.model = read_model(fields.object("model"));
  metadata.classes = fields.texts("classes", static_cast<size_t>(metadata.model.classes));
  metadata.preprocessing = read_preprocessing(fields.object("preprocessing"));
  metadata.normalisation =
      read_normalisation(fields.object("normalisation"), static_cast<size_t>(metadata.model.input_channels));
  if (fields.has("training")) {
    const Fields training = fields.object("training");
    metadata.training = {training.whole("epoch", 0, INT64_MAX), training.whole("step", 0, INT64_MAX)};
    if (training.has("loss_scale")) {
      metadata.training->loss_scale = training.number("loss_scale");
      if (!(metadata.training->loss_scale > 0)) training.wrong("loss_scale", "a number > 0");
    }
  }
  if (fields.has("metrics")) {
    const Fields metrics = fields.object("metrics");
    metadata.metrics = {metrics.number("top1_percent"), metrics.number("top5_percent"), metrics.number_or_null("loss")};
  }
  if (fields.has("recalibrated"))
    metadata.recalibrated_images = fields.object("recalibrated").whole("images", 1, INT64_MAX);
  if (fields.has("weights")) {  // a converted checkpoint need not say
    const std::string weights = fields.text("weights");
    if (weights != kAveraged && weights != kAsTrained) fields.wrong("weights", "\"raw\" or \"ema\"");
    metadata.averaged = weights == kAveraged;
  }
  metadata.config_yaml = fields.text("config");
  metadata.riffle_version = fields.text("riffle_version");
  return metadata;
}

std::string describe_architecture(const Json& metadata) {
  const auto model = metadata.find("model");
  if (model == metadata.end() || !model->is_object()) return "";
  const auto text = [&](const char* key) {
    const auto found = model->find(key);
    return found != model->end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  if (text("architecture") != kArchitecture || text("width").empty() || text("dialect").empty()) return "";
  std::string description = join("ShuffleNetV2 ", text("width"), " (", text("dialect"), ")");
  const auto classes = model->find("classes");
  if (classes != model->end() && classes->is_number_integer()) description += join(", ", classes->dump(), " classes");
  return description;
}

}  // namespace riffle
