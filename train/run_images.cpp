// Contact sheets of a run.
#include "train/run_images.h"

#include <algorithm>
#include <cmath>

#include "data/contact_sheet.h"

namespace riffle {
namespace {

constexpr int kColumns = 8;
constexpr int kLargeColumns = 4;  // of images that are shown unenlarged
constexpr int64_t kRows = 4;

struct Filters {
  Shape shape;                // (K,R,S,C)
  std::vector<float> values;  // in the published order
};

Filters first_filters(Backend& backend, ShuffleNetV2& network) {
  Filters filters;
  network.for_each_parameter([&](const std::string&, Parameter& parameter) {
    if (parameter.kind != ParameterKind::kDenseFilter || !filters.values.empty()) return;
    filters.shape = parameter.value.shape();
    std::vector<float> stored(static_cast<size_t>(parameter.value.elements()));
    backend.download(parameter.value, DType::kF32, stored.data());
    filters.values = to_published_order(stored, filters.shape, parameter.order);
  });
  RIFFLE_CHECK(!filters.values.empty(), "the network has no dense convolution");
  return filters;
}

// values: (R,S,C) of one filter. Not finite ones are black.
Image filter_image(const float* values, const Shape& shape, bool bgr) {
  Image image(static_cast<int>(shape.h), static_cast<int>(shape.w), static_cast<int>(shape.c));
  const auto [least, greatest] = std::minmax_element(values, values + image.pixels.size());
  const float range = *greatest - *least;
  const auto channels = static_cast<size_t>(image.channels);
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    const float part = range > 0 ? (values[i] - *least) / range : 0.5f;
    const size_t c = i % channels, to = bgr ? i - c + (channels - 1 - c) : i;
    image.pixels[to] = std::isfinite(part) ? static_cast<uint8_t>(std::lround(255 * part)) : 0;
  }
  return image;
}

}  // namespace

Image sample_sheet(const Batch& batch, const std::vector<std::string>& classes) {
  const bool enlarged = batch.width < kContactSheetCell;
  const int columns = enlarged ? kColumns : kLargeColumns;
  const int64_t count = std::min(batch.count, columns * kRows);
  std::vector<Image> images;
  std::vector<std::string> captions;
  for (int64_t i = 0; i < count; ++i) {
    Image image(static_cast<int>(batch.height), static_cast<int>(batch.width), static_cast<int>(batch.channels));
    std::copy_n(batch.images + i * static_cast<int64_t>(image.pixels.size()), image.pixels.size(),
                image.pixels.begin());
    images.push_back(std::move(image));
    captions.push_back(classes.at(static_cast<size_t>(batch.labels[i])));
  }
  return contact_sheet(images, captions, columns);
}

Image filter_sheet(Backend& backend, ShuffleNetV2& network, bool bgr) {
  const Filters filters = first_filters(backend, network);
  const int64_t size = filters.shape.h * filters.shape.w * filters.shape.c;
  std::vector<Image> images;
  std::vector<std::string> captions;
  for (int64_t k = 0; k < filters.shape.n; ++k) {
    images.push_back(filter_image(filters.values.data() + k * size, filters.shape, bgr));
    captions.push_back(std::to_string(k));
  }
  return contact_sheet(images, captions, kColumns);
}

}  // namespace riffle
