// The table of transforms, and which go together: see config_transforms.h.
#include "train/config_transforms.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/check.h"

namespace riffle {
namespace {

constexpr double kMaxPixels = 1 << 14, kInfinity = std::numeric_limits<double>::infinity();
const Constraint kProbability{0, 1};
const Constraint kPositive{0, kInfinity, /*min_included=*/false};
const Constraint kPart{0, 1, /*min_included=*/false};
const Constraint kStrength{0, kInfinity};
const Constraint kBins{2, 1 << 10};

// Lists the parameters of one transform; an overload for each, member by member, so that none is forgotten.
class StepTable {
 public:
  explicit StepTable(std::vector<Field>& fields) : fields_(fields) {}

  void operator()(RandomResizedCrop& step) {
    auto& [scale, ratio] = step;
    add("random_resized_crop.scale", scale, kPart, "Least and greatest part of the image's area.");
    add("random_resized_crop.ratio", ratio, kPositive, "Least and greatest width / height, 3/4 and 4/3 by default.");
  }
  void operator()(PadAndCrop& step) {
    auto& [pad] = step;
    add("pad_and_crop.pad", pad, {0, kMaxPixels}, "Zeros on each side, in pixels.");
  }
  void operator()(Resize& step) {
    auto& [short_edge] = step;
    add("resize.short_edge", short_edge, {1, kMaxPixels}, "Length of the short edge, in pixels.");
  }
  void operator()(CenterCrop&) {}
  void operator()(Flip& step) {
    auto& [probability] = step;
    add("flip.probability", probability, kProbability, "How often an image is mirrored left to right.");
  }
  void operator()(ColorJitter& step) {
    auto& [brightness, contrast, saturation, hue] = step;
    add("color_jitter.brightness", brightness, kStrength, "The factor is uniform in 1 - x .. 1 + x, never below 0.");
    add("color_jitter.contrast", contrast, kStrength, "Likewise.");
    add("color_jitter.saturation", saturation, kStrength, "Likewise.");
    add("color_jitter.hue", hue, {0, 0.5}, "The hue turns by -x .. x of a full circle.");
  }
  void operator()(Grayscale& step) {
    auto& [probability] = step;
    add("grayscale.probability", probability, kProbability, "How often an image loses its colours.");
  }
  void operator()(Lighting& step) {
    auto& [deviation] = step;
    add("lighting.deviation", deviation, kPositive, "Standard deviation of each principal component's weight.");
  }
  void operator()(AutoAugment& step) {
    auto& [interpolation, fill] = step;
    add_sampling("auto_augment", interpolation, fill);
  }
  void operator()(RandAugment& step) {
    auto& [operations, magnitude, bins, interpolation, fill] = step;
    add("rand_augment.operations", operations, {1, 64}, "Operations an image, one after the other.");
    add("rand_augment.magnitude", magnitude, {0, 1 << 10}, "Their strength, of 0 to `bins` - 1.");
    add("rand_augment.bins", bins, kBins, "How many strengths there are.");
    add_sampling("rand_augment", interpolation, fill);
  }
  void operator()(TrivialAugmentWide& step) {
    auto& [bins, interpolation, fill] = step;
    add("trivial_augment_wide.bins", bins, kBins, "How many strengths there are.");
    add_sampling("trivial_augment_wide", interpolation, fill);
  }
  void operator()(RandomErasing& step) {
    auto& [probability, scale, ratio] = step;
    add("random_erasing.probability", probability, kProbability, "How often a rectangle is erased.");
    add("random_erasing.scale", scale, kPart, "Least and greatest part of the image's area.");
    add("random_erasing.ratio", ratio, kPositive, "Least and greatest height / width.");
  }

 private:
  template <class T>
  void add(std::string path, T& value, Constraint constraint, const char* meaning) {
    fields_.push_back({std::move(path), &value, std::move(constraint), meaning});
  }
  void add_sampling(const std::string& name, std::string& interpolation, int& fill) {
    Constraint choice;
    choice.choices = {"nearest", "bilinear"};
    add(name + ".interpolation", interpolation, choice, "How shears, translations and rotations read pixels.");
    add(name + ".fill", fill, {0, 255}, "What they leave uncovered, in every channel.");
  }

  std::vector<Field>& fields_;
};

struct StepName {
  std::string operator()(const RandomResizedCrop&) const { return "random_resized_crop"; }
  std::string operator()(const PadAndCrop&) const { return "pad_and_crop"; }
  std::string operator()(const Resize&) const { return "resize"; }
  std::string operator()(const CenterCrop&) const { return "center_crop"; }
  std::string operator()(const Flip&) const { return "flip"; }
  std::string operator()(const ColorJitter&) const { return "color_jitter"; }
  std::string operator()(const Grayscale&) const { return "grayscale"; }
  std::string operator()(const Lighting&) const { return "lighting"; }
  std::string operator()(const AutoAugment&) const { return "auto_augment"; }
  std::string operator()(const RandAugment&) const { return "rand_augment"; }
  std::string operator()(const TrivialAugmentWide&) const { return "trivial_augment_wide"; }
  std::string operator()(const RandomErasing&) const { return "random_erasing"; }
};

// How many of the list give an image its size: it must be one, and only it may be resized before.
void check_size(const std::vector<TransformStep>& steps, const std::string& where) {
  const auto first = std::find_if(steps.begin(), steps.end(), sets_size);
  if (first == steps.end()) {
    fail_usage(where, ": augment.transforms does not give images a size; expected one of random_resized_crop, ",
               "pad_and_crop, center_crop");
  }
  const auto second = std::find_if(first + 1, steps.end(), sets_size);
  if (second != steps.end()) {
    fail_usage(where, ": augment.transforms has both ", name_of(*first), " and ", name_of(*second),
               "; expected one, which makes images of augment.size");
  }
  for (auto step = first; step != steps.end(); ++step) {
    if (std::holds_alternative<Resize>(*step))
      fail_usage(where, ": augment.transforms has resize after ", name_of(*first), ", which makes images of ",
                 "augment.size; expected it before");
  }
}

void check_step(const TransformStep& step, int64_t channels, const std::string& where) {
  const auto* jitter = std::get_if<ColorJitter>(&step);
  if (const auto* rand = std::get_if<RandAugment>(&step); rand != nullptr && rand->magnitude >= rand->bins) {
    fail_usage(where, ": rand_augment.magnitude is ", rand->magnitude, "; expected less than rand_augment.bins, ",
               rand->bins);
  }
  if (jitter != nullptr && jitter->brightness + jitter->contrast + jitter->saturation + jitter->hue == 0) {
    fail_usage(where, ": color_jitter changes nothing; expected a strength, such as {color_jitter: {brightness: 0.4}}");
  }
  const bool needs_colour = std::holds_alternative<Grayscale>(step) || std::holds_alternative<Lighting>(step) ||
                            (jitter != nullptr && (jitter->saturation > 0 || jitter->hue > 0));
  if (needs_colour && channels == 1) {
    fail_usage(where, ": augment.transforms has ", name_of(step), jitter != nullptr ? " of saturation or hue" : "",
               ", but model.input_channels is 1; gray images have no colours");
  }
}

}  // namespace

std::string name_of(const TransformStep& step) {
  return std::visit(StepName{}, step);
}

const std::vector<TransformStep>& known_steps() {
  static const std::vector<TransformStep> steps{
      RandomResizedCrop{},  PadAndCrop{},   Resize{},   CenterCrop{},  Flip{},
      ColorJitter{},        Grayscale{},    Lighting{}, AutoAugment{}, RandAugment{},
      TrivialAugmentWide{}, RandomErasing{}};
  return steps;
}

std::vector<Field> fields_of(TransformStep& step) {
  std::vector<Field> fields;
  std::visit(StepTable(fields), step);
  return fields;
}

std::string value_text(const Interval& range) {
  return "[" + value_text(range.min) + ", " + value_text(range.max) + "]";
}

std::string value_text(const TransformStep& step) {
  TransformStep copy = step;  // the table points into what it may write
  std::string parameters;
  for (const Field& field : fields_of(copy))
    parameters += (parameters.empty() ? "" : ", ") + leaf_of(field.path) + ": " + field.value_text();
  return parameters.empty() ? name_of(step) : "{" + name_of(step) + ": {" + parameters + "}}";
}

ValueKind kind_of(const Interval&) {
  return {"two numbers", "pairs of numbers", "[0.08, 1]", "[[0.08, 1]]"};
}

ValueKind kind_of(const TransformStep&) {
  return {"a transform", "transforms", "{flip: 0.5}", "[random_resized_crop, {flip: 0.5}]"};
}

void check_transforms(const Config& config, const ConfigSources& sources) {
  const std::vector<TransformStep>& steps = config.augment.transforms;
  const std::string where = sources.of({"augment.transforms"});
  check_size(steps, where);
  bool resizes = false, pads = false;
  for (const TransformStep& step : steps) {
    check_step(step, config.model.input_channels, where);
    resizes = resizes || std::holds_alternative<Resize>(step);
    pads = pads || std::holds_alternative<PadAndCrop>(step);
  }
  if (pads && !resizes && config.eval.resize != 0) {
    fail_usage(sources.of({"eval.resize", "augment.transforms"}), ": eval.resize is ", config.eval.resize,
               ", but pad_and_crop trains on images as they are; expected eval.resize 0, so that evaluation sees the ",
               "same, or resize before pad_and_crop");
  }
}

}  // namespace riffle
