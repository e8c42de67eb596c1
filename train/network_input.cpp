// Upload and normalisation.
#include "train/network_input.h"

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
  for (Tensor& y : normalised_) y = backend_.empty(images);
}

Variable NetworkInput::images(const uint8_t* pixels, int64_t count) {
  RIFFLE_CHECK(count >= 1 && count <= capacity().n, count, " images for a buffer of ", capacity());
  const Tensor target = pixels_.sample_slice(0, count);
  const Tensor y = normalised_[next_images_++ % normalised_.size()].sample_slice(0, count);
  backend_.upload(pixels, DType::kU8, target);
  backend_.normalize(target, Tensor{}, normalisation_, y);
  return Variable(y, /*requires_grad=*/false);
}

Tensor NetworkInput::labels(const int32_t* values, int64_t count) {
  RIFFLE_CHECK(count >= 1 && count <= capacity().n, count, " labels for a buffer of ", capacity().n);
  const Tensor y = labels_[next_labels_++ % labels_.size()].sample_slice(0, count);
  backend_.upload(values, DType::kI32, y);
  return y;
}

}  // namespace riffle
