// The list of transforms: see augment.h.
#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/check.h"
#include "data/augment_color.h"
#include "data/augment_policy.h"
#include "data/orientation.h"

namespace riffle {
namespace {

Image pad_and_crop(const Image& image, int pad, int size, RandomStream& random) {
  const int rows = image.height + 2 * pad - size, columns = image.width + 2 * pad - size;
  if (rows < 0 || columns < 0)
    fail("a ", image.height, "x", image.width, " image padded by ", pad, " on each side is smaller than the crop of ",
         size, "x", size, "; use a smaller augment.size, a larger pad, or random_resized_crop");
  const auto top = static_cast<int>(random.below(rows + 1));
  const auto left = static_cast<int>(random.below(columns + 1));
  return window_with_zeros(image, top - pad, left - pad, size, size);
}

// Applies one step to `image`. The first geometric step reads the decoded image in place, without a copy.
class StepApplier {
 public:
  StepApplier(const TrainTransform& transform, const Image& source, RandomStream& random)
      : transform_(transform), random_(random), source_(&source) {}
  StepApplier(const TrainTransform& transform, Image&& image, RandomStream& random)
      : transform_(transform), random_(random), source_(nullptr), image_(std::move(image)) {}

  void operator()(const RandomResizedCrop& step) {
    const Image& image = current();
    replace(
        resize_bilinear(image, draw_crop(step, image.height, image.width, random_), transform_.size, transform_.size));
  }
  void operator()(const PadAndCrop& step) { replace(pad_and_crop(current(), step.pad, transform_.size, random_)); }
  void operator()(const Resize& step) { replace(resize_short_edge(current(), step.short_edge)); }
  void operator()(const CenterCrop&) { replace(center_crop(current(), transform_.size, transform_.size)); }
  void operator()(const Flip& step) {
    if (random_.flip(step.probability)) flip_horizontal(owned());
  }
  void operator()(const ColorJitter& step) { apply_jitter(owned(), draw_jitter(step, random_)); }
  void operator()(const Grayscale& step) {
    if (random_.flip(step.probability)) make_gray(owned());
  }
  void operator()(const Lighting& step) {
    std::array<double, 3> weights{};
    for (double& weight : weights) weight = step.deviation * random_.normal();
    add_to_channels(owned(), lighting_offsets(weights));
  }
  void operator()(const AutoAugment& step) {
    apply_all(draw_auto_augment(current().height, current().width, random_), step.interpolation, step.fill);
  }
  void operator()(const RandAugment& step) {
    apply_all(draw_rand_augment(step.operations, step.magnitude, step.bins, current().height, current().width, random_),
              step.interpolation, step.fill);
  }
  void operator()(const TrivialAugmentWide& step) {
    apply_all(draw_trivial_augment_wide(step.bins, current().height, current().width, random_), step.interpolation,
              step.fill);
  }
  void operator()(const RandomErasing& step) {
    if (!random_.flip(step.probability)) return;
    erase(owned(), draw_erasing(step, current().height, current().width, random_), transform_.mean_colour);
  }

  Image take() { return std::move(owned()); }

 private:
  const Image& current() const { return source_ != nullptr ? *source_ : image_; }
  Image& owned() {
    if (source_ != nullptr) replace(Image(*source_));
    return image_;
  }
  void replace(Image image) {
    image_ = std::move(image);
    source_ = nullptr;
  }
  void apply_all(const std::vector<DrawnOp>& drawn, const std::string& interpolation, int fill) {
    const Sampling sampling{parse_affine_interpolation(interpolation), static_cast<uint8_t>(fill)};
    for (const DrawnOp& op : drawn) apply_op(owned(), op, sampling);
  }

  const TrainTransform& transform_;
  RandomStream& random_;
  const Image* source_;  // until the first step that changes it
  Image image_;
};

double draw_factor(double strength, RandomStream& random) {
  return strength > 0 ? random.uniform(std::max(0.0, 1 - strength), 1 + strength) : 1.0;
}

}  // namespace

CropBox draw_erasing(const RandomErasing& parameters, int height, int width, RandomStream& random) {
  constexpr int kTries = 10;
  const double area = static_cast<double>(height) * width;
  const double log_min = std::log(parameters.ratio.min), log_max = std::log(parameters.ratio.max);
  for (int i = 0; i < kTries; ++i) {
    const double erased = area * random.uniform(parameters.scale.min, parameters.scale.max);
    const double ratio = std::exp(random.uniform(log_min, log_max));
    const double h = std::nearbyint(std::sqrt(erased * ratio)), w = std::nearbyint(std::sqrt(erased / ratio));
    if (h >= height || w >= width) continue;
    const auto rows = static_cast<int>(h), columns = static_cast<int>(w);
    const auto top = static_cast<int>(random.below(height - rows + 1));
    const auto left = static_cast<int>(random.below(width - columns + 1));
    return {top, left, rows, columns};
  }
  return {};
}

void erase(Image& image, const CropBox& box, const std::array<uint8_t, 3>& colour) {
  const auto channels = static_cast<size_t>(image.channels);
  for (int y = box.top; y < box.top + box.height; ++y) {
    uint8_t* pixel =
        image.pixels.data() +
        (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(box.left)) * channels;
    for (int x = 0; x < box.width; ++x, pixel += channels) std::copy_n(colour.begin(), channels, pixel);
  }
}

DrawnJitter draw_jitter(const ColorJitter& parameters, RandomStream& random) {
  DrawnJitter drawn;
  for (size_t i = drawn.order.size() - 1; i > 0; --i)
    std::swap(drawn.order[i], drawn.order[static_cast<size_t>(random.below(static_cast<int64_t>(i) + 1))]);
  drawn.brightness = draw_factor(parameters.brightness, random);
  drawn.contrast = draw_factor(parameters.contrast, random);
  drawn.saturation = draw_factor(parameters.saturation, random);
  if (parameters.hue > 0) drawn.hue = random.uniform(-parameters.hue, parameters.hue);
  return drawn;
}

void apply_jitter(Image& image, const DrawnJitter& drawn) {
  for (const int part : drawn.order) {
    if (part == 0) adjust_brightness(image, drawn.brightness);
    if (part == 1) adjust_contrast(image, drawn.contrast);
    if (part == 2) adjust_saturation(image, drawn.saturation);
    if (part == 3 && drawn.hue != 0) adjust_hue(image, drawn.hue);
  }
}

bool sets_size(const TransformStep& step) {
  return std::holds_alternative<RandomResizedCrop>(step) || std::holds_alternative<PadAndCrop>(step) ||
         std::holds_alternative<CenterCrop>(step);
}

Image TrainTransform::apply(const Image& image, RandomStream& random) const {
  if (exif_orientation && image.orientation != kUpright) return apply(upright(image), random);
  RIFFLE_CHECK(size > 0, "size ", size);
  StepApplier applier(*this, image, random);
  for (const TransformStep& step : steps) std::visit(applier, step);
  return applier.take();
}

Image TrainTransform::apply_some(Image image, RandomStream& random, size_t begin, size_t end) const {
  RIFFLE_CHECK(size > 0 && begin <= end && end <= steps.size(), "size ", size, ", steps ", begin, " to ", end, " of ",
               steps.size());
  StepApplier applier(*this, std::move(image), random);
  for (size_t i = begin; i < end; ++i) std::visit(applier, steps[i]);
  return applier.take();
}

}  // namespace riffle
