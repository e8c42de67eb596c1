// The stages of a training image: see training_image.h.
#include "data/training_image.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "data/orientation.h"
#include "data/quick_decode.h"

namespace riffle {
namespace {

bool resamples(const TransformStep& step) {
  return std::holds_alternative<RandomResizedCrop>(step) || std::holds_alternative<Resize>(step);
}

// A whole image is worth scaled decoding only if it shrinks that much; the exact way also says what is wrong with others.
bool is_worthwhile(const TransformStep& step, int height, int width) {
  const auto* resize = std::get_if<Resize>(&step);
  return resize == nullptr || std::min(height, width) / 2 >= resize->short_edge;
}

}  // namespace

std::string why_not_quick(const TrainTransform& transform) {
  const bool fits = !transform.steps.empty() && resamples(transform.steps.front());
  return fits ? "" : "the first transform is neither random_resized_crop nor resize, so that whole images are needed";
}

TrainingImage::TrainingImage(const Dataset& data, int64_t index, const TrainTransform& transform,
                             const RandomStream& random)
    : data_(&data), index_(index), transform_(&transform), random_(random) {
  if (transform.decode == DecodeMode::kExact) return;
  const std::string reason = why_not_quick(transform);
  RIFFLE_CHECK(reason.empty(), "quick decoding: ", reason);
}

void TrainingImage::read() {
  bytes_ = data_->encoded(index_);
}

void TrainingImage::decode() {
  if (!bytes_) {
    image_ = data_->load(index_);
  } else if (transform_->decode == DecodeMode::kExact || !decode_part()) {
    image_ = decode_image(bytes_->data(), bytes_->size(), data_->name_in_errors(index_), data_->channels(),
                          data_->truncated_images());
  }
  truncated_ = image_.truncated;
}

bool TrainingImage::decode_part() {
  PartialJpeg file(bytes_->data(), bytes_->size(), data_->channels(), data_->truncated_images());
  const TransformStep& step = transform_->steps.front();
  if (!file.readable() || (transform_->exif_orientation && file.orientation() != kUpright) ||
      !is_worthwhile(step, file.height(), file.width()))
    return false;
  CropBox crop{0, 0, file.height(), file.width()};
  if (const auto* resized_crop = std::get_if<RandomResizedCrop>(&step)) {
    crop = draw_crop(*resized_crop, file.height(), file.width(), random_);
    target_ = {transform_->size, transform_->size};
  } else {
    target_ = short_edge_size(file.height(), file.width(), std::get<Resize>(step).short_edge);
  }
  DecodedCrop decoded = file.decode(crop, target_.height, target_.width, data_->name_in_errors(index_));
  image_ = std::move(decoded.image);
  part_ = decoded.box;
  return true;
}

void TrainingImage::resample() {
  if (target_.height > 0) {
    image_ = resize_fractional(image_, part_, target_.height, target_.width);
    steps_done_ = 1;
    return;
  }
  if (transform_->exif_orientation && image_.orientation != kUpright) image_ = upright(image_);
  if (transform_->steps.empty() || !resamples(transform_->steps.front())) return;
  image_ = transform_->apply_some(std::move(image_), random_, 0, 1);
  steps_done_ = 1;
}

Image TrainingImage::augment() {
  return transform_->apply_some(std::move(image_), random_, steps_done_, transform_->steps.size());
}

}  // namespace riffle
