// Loading and transforming of training images: see training_image.h.
#include "data/training_image.h"

#include <optional>
#include <utility>

#include "core/check.h"
#include "data/quick_decode.h"

namespace riffle {
namespace {

// What the first step of a list makes of an image whose size is known: a resized crop.
struct FirstStep {
  CropBox crop;
  ImageSize target;
};

FirstStep draw_first_step(const TrainTransform& transform, int height, int width, RandomStream& random) {
  if (const auto* step = std::get_if<RandomResizedCrop>(&transform.steps.front()))
    return {draw_crop(*step, height, width, random), {transform.size, transform.size}};
  const auto& step = std::get<Resize>(transform.steps.front());
  return {{0, 0, height, width}, short_edge_size(height, width, step.short_edge)};
}

// A whole image is worth this only if it shrinks; the exact way also says what is wrong with the others.
bool is_worthwhile(const TransformStep& step, int height, int width) {
  const auto* resize = std::get_if<Resize>(&step);
  return resize == nullptr || std::min(height, width) >= 2 * resize->short_edge;
}

std::optional<LoadedImage> load_quickly(const Dataset& data, int64_t index, const TrainTransform& transform,
                                        const RandomStream& random) {
  const EncodedImage bytes = data.encoded(index);
  if (!bytes) return std::nullopt;  // pixels are stored
  PartialJpeg file(bytes->data(), bytes->size(), data.channels());
  if (!file.readable() || (transform.exif_orientation && file.orientation() != kUpright) ||
      !is_worthwhile(transform.steps.front(), file.height(), file.width()))
    return LoadedImage{decode_image(bytes->data(), bytes->size(), data.name_in_errors(index), data.channels()), random};
  LoadedImage loaded{Image(), random, 1};
  const FirstStep step = draw_first_step(transform, file.height(), file.width(), loaded.random);
  const DecodedCrop decoded =
      file.decode(step.crop, step.target.height, step.target.width, data.name_in_errors(index));
  loaded.image = resize_fractional(decoded.image, decoded.box, step.target.height, step.target.width);
  return loaded;
}

}  // namespace

std::string why_not_quick(const TrainTransform& transform) {
  const bool fits = !transform.steps.empty() && (std::holds_alternative<RandomResizedCrop>(transform.steps.front()) ||
                                                 std::holds_alternative<Resize>(transform.steps.front()));
  return fits ? "" : "the first transform is neither random_resized_crop nor resize, so that whole images are needed";
}

LoadedImage load_training_image(const Dataset& data, int64_t index, const TrainTransform& transform,
                                const RandomStream& random) {
  if (transform.decode == DecodeMode::kQuick) {
    const std::string reason = why_not_quick(transform);
    RIFFLE_CHECK(reason.empty(), "quick decoding: ", reason);
    if (std::optional<LoadedImage> loaded = load_quickly(data, index, transform, random)) return std::move(*loaded);
  }
  return {data.load(index), random};
}

Image finish_training_image(LoadedImage& loaded, const TrainTransform& transform) {
  return transform.finish(std::move(loaded.image), loaded.random, loaded.steps_done);
}

}  // namespace riffle
