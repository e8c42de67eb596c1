// Crops, flips and the evaluation pipeline. Training's is in augment.cpp.
#include "data/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "data/orientation.h"
#include "data/pixel_loops.h"
#include "data/resize.h"

namespace riffle {
namespace {

size_t row_bytes(const Image& image) {
  return static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
}

// Half of a margin of n >= 0 pixels: rounded down, or as Python's round() does, to the even neighbour.
int half_margin(int n, CropOffset offset) {
  const int down = n / 2;
  return n % 2 == 0 || offset == CropOffset::kFloor ? down : down + down % 2;
}

}  // namespace

Image window_with_zeros(const Image& image, int top, int left, int height, int width) {
  Image out(height, width, image.channels);
  const int y_begin = std::max(0, -top), y_end = std::min(height, image.height - top);
  const int x_begin = std::max(0, -left), x_end = std::min(width, image.width - left);
  if (x_begin >= x_end) return out;
  const auto channels = static_cast<size_t>(image.channels);
  const size_t bytes = static_cast<size_t>(x_end - x_begin) * channels;
  for (int y = y_begin; y < y_end; ++y) {
    const uint8_t* from = image.pixels.data() + static_cast<size_t>(top + y) * row_bytes(image) +
                          static_cast<size_t>(left + x_begin) * channels;
    std::memcpy(out.pixels.data() + static_cast<size_t>(y) * row_bytes(out) + static_cast<size_t>(x_begin) * channels,
                from, bytes);
  }
  return out;
}

Image crop(const Image& image, const CropBox& box) {
  check_box(box, image.height, image.width);
  return window_with_zeros(image, box.top, box.left, box.height, box.width);
}

Image pad_zero(const Image& image, int border) {
  RIFFLE_CHECK(border >= 0, "border ", border);
  return window_with_zeros(image, -border, -border, image.height + 2 * border, image.width + 2 * border);
}

Image center_crop(const Image& image, int height, int width, CropOffset offset) {
  RIFFLE_CHECK(height > 0 && width > 0, "crop of ", height, "x", width);
  // Where an axis is too short torchvision pads the smaller half before, then crops nothing.
  const auto start = [&](int in, int out) { return out > in ? -((out - in) / 2) : half_margin(in - out, offset); };
  return window_with_zeros(image, start(image.height, height), start(image.width, width), height, width);
}

void flip_horizontal(Image& image) {
  const size_t bytes = row_bytes(image);
  std::vector<uint8_t> copy(bytes + 1);  // see reverse_row
  uint8_t* row = image.pixels.data();
  for (int y = 0; y < image.height; ++y, row += bytes) {
    if (image.channels == 1) {
      std::reverse(row, row + bytes);
      continue;
    }
    std::memcpy(copy.data(), row, bytes);
    pixel_loops().reverse_row(copy.data(), static_cast<size_t>(image.width), row);
  }
}

CropBox draw_crop(const RandomResizedCrop& parameters, int height, int width, RandomStream& random) {
  constexpr int kTries = 10;
  const double area = static_cast<double>(height) * width;
  const double log_min = std::log(parameters.ratio.min), log_max = std::log(parameters.ratio.max);
  for (int i = 0; i < kTries; ++i) {
    const double target_area = area * random.uniform(parameters.scale.min, parameters.scale.max);
    const double ratio = std::exp(random.uniform(log_min, log_max));
    const double exact_w = std::nearbyint(std::sqrt(target_area * ratio));
    const double exact_h = std::nearbyint(std::sqrt(target_area / ratio));
    if (exact_w < 1 || exact_h < 1 || exact_w > width || exact_h > height) continue;
    const auto w = static_cast<int>(exact_w), h = static_cast<int>(exact_h);
    const auto top = static_cast<int>(random.below(height - h + 1));
    const auto left = static_cast<int>(random.below(width - w + 1));
    return {top, left, h, w};
  }
  // The largest centred box of an allowed aspect.
  int h = height, w = width;
  const double ratio = static_cast<double>(width) / height;
  if (ratio < parameters.ratio.min) h = std::max(1, static_cast<int>(std::nearbyint(width / parameters.ratio.min)));
  if (ratio > parameters.ratio.max) w = std::max(1, static_cast<int>(std::nearbyint(height * parameters.ratio.max)));
  return {(height - h) / 2, (width - w) / 2, h, w};
}

Image EvalTransform::apply(const Image& image) const {
  if (exif_orientation && image.orientation != kUpright) return apply(upright(image));
  RIFFLE_CHECK(resize >= 0 && crop > 0, "resize ", resize, ", crop ", crop);
  if (resize == 0) {
    if (image.height != crop || image.width != crop)
      fail("the image is ", image.height, "x", image.width, ", but without resizing (resize: 0) it must be ", crop, "x",
           crop, " already");
    return image;
  }
  const ImageSize resized = short_edge_size(image.height, image.width, resize, rounding);
  if (resized.height < crop || resized.width < crop) {
    return center_crop(resize_short_edge(image, resize, interpolation, rounding), crop, crop, crop_offset);
  }
  // The same as resizing and then cropping, without computing what the crop drops.
  const CropBox window{half_margin(resized.height - crop, crop_offset), half_margin(resized.width - crop, crop_offset),
                       crop, crop};
  return resize_window(image, resized.height, resized.width, window, interpolation);
}

}  // namespace riffle
