// Upload and normalisation.
#include "train/network_input.h"

#include <algorithm>

namespace riffle {

NetworkInput::NetworkInput(Backend& backend, const Normalisation& normalisation, Shape images, int batches)
    : backend_(backend), normalisation_(normalisation), pixels_(backend.empty(images, DType::kU8)) {
  for (int i = 0; i < batches; ++i) {
    normalised_.push_back(backend.empty(images));
    labels_.push_back(backend.empty({images.n, 1, 1, 1}, DType::kI32));
  }
  const auto channels = static_cast<size_t>(images.c);
  RIFFLE_CHECK(normalisation.mean.size() == channels && normalisation.std.size() == channels, "the images have ",
               channels, " channels, the normalisation ", normalisation.mean.size(), " means and ",
               normalisation.std.size(), " deviations");
}

void NetworkInput::resize(int64_t height, int64_t width) {
  const Shape before = capacity(), images{before.n, height, width, before.c};
  if (images == before) return;
  pixels_ = {};
  for (Tensor& y : normalised_) y = {};
  pixels_ = backend_.empty(images, DType::kU8);
  uploaded_ = 0;
  for (Tensor& y : normalised_) y = backend_.empty(images);
}

void NetworkInput::upload(const uint8_t* pixels, int64_t count) {
  RIFFLE_CHECK(count >= 1 && count <= capacity().n, count, " images for a buffer of ", capacity());
  backend_.upload(pixels, DType::kU8, pixels_.sample_slice(0, count));
  uploaded_ = count;
}

Variable NetworkInput::images(const ImageMix* mix) {
  RIFFLE_CHECK(uploaded_ > 0, "images are uploaded before they are normalised");
  const Tensor pixels = pixels_.sample_slice(0, uploaded_);
  const Tensor y = normalised_[next_images_++ % normalised_.size()].sample_slice(0, uploaded_);
  if (mix == nullptr) {
    backend_.normalize(pixels, Tensor{}, normalisation_, y);
  } else {
    backend_.normalize_mixed(pixels, normalisation_, *mix, y);
  }
  return Variable(y, /*requires_grad=*/false);
}

Tensor NetworkInput::labels(const int32_t* values, int64_t count) {
  RIFFLE_CHECK(count >= 1 && count <= capacity().n, count, " labels for a buffer of ", capacity().n);
  const Tensor y = labels_[next_labels_++ % labels_.size()].sample_slice(0, count);
  backend_.upload(values, DType::kI32, y);
  return y;
}

BatchTargets NetworkInput::mixed_labels(const int32_t* values, int64_t count, double share, double smoothing,
                                        int64_t classes) {
  const int64_t largest = capacity().n;
  RIFFLE_CHECK(count >= 1 && count <= largest, count, " labels for a buffer of ", largest);
  if (targets_.empty()) {
    for (size_t i = 0; i < labels_.size(); ++i) targets_.push_back(backend_.empty_parameter({largest, 1, 1, classes}));
    other_labels_ = backend_.empty({largest, 1, 1, 1}, DType::kI32);
  }
  host_labels_.assign(values, values + count);
  std::rotate(host_labels_.begin(), host_labels_.end() - 1, host_labels_.end());
  const Tensor targets = targets_[next_labels_ % targets_.size()].sample_slice(0, count);
  const Tensor others = other_labels_.sample_slice(0, count);
  const bool own = share >= 0.5;
  const Tensor likeliest = labels(own ? values : host_labels_.data(), count);
  backend_.upload(own ? host_labels_.data() : values, DType::kI32, others);
  backend_.mixed_targets(likeliest, others, own ? share : 1 - share, smoothing, targets);
  return {likeliest, targets};
}

}  // namespace riffle
