// What happens to an image between decoder and batch: geometry in 8-bit pixels, so that training and evaluation read
// the same values as torchvision on Pillow images. Normalisation runs on the device (Backend::normalize).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/image.h"

namespace riffle {

// A rectangle in pixels.
struct CropBox {
  int top = 0, left = 0, height = 0, width = 0;
};

// The filter of a resize and whose pixels it equals: Pillow's antialias when they shrink, OpenCV's do not.
enum class Interpolation { kPillowBilinear, kPillowBicubic, kOpenCvBilinear, kOpenCvBicubic };
// Of the resized long edge: torchvision's int(size * long / short), or int(size / short * long + 0.5) of Megvii and
// tensorpack.
enum class ResizeRounding { kTruncate, kHalfUp };
// Of half the margin of the centre crop: Python's round() (torchvision, Megvii), or int() (tensorpack).
enum class CropOffset { kHalfToEven, kFloor };

// The names in configurations, checkpoints and on the command line.
const char* name_of(Interpolation interpolation);  // "pillow-bilinear", "pillow-bicubic", "opencv-bilinear", ...
const char* name_of(ResizeRounding rounding);      // "truncate", "half-up"
const char* name_of(CropOffset offset);            // "half-to-even", "floor"
const std::vector<std::string>& interpolation_names();
const std::vector<std::string>& rounding_names();
const std::vector<std::string>& crop_offset_names();
// Nothing where `name` is none of the names.
std::optional<Interpolation> find_interpolation(const std::string& name);
std::optional<ResizeRounding> find_rounding(const std::string& name);
std::optional<CropOffset> find_crop_offset(const std::string& name);

// Pillow's Image.resize (antialiased, 8-bit fixed point, horizontal pass first) and OpenCV's cv::resize with INTER_LINEAR
// or INTER_CUBIC (fixed point of its own, no antialiasing), bit-exact: docs/preprocessing.md.
Image resize(const Image& image, int height, int width, Interpolation interpolation);
// With Pillow's bilinear filter, of the part of `image` inside `box`.
Image resize_bilinear(const Image& image, const CropBox& box, int height, int width);

// The short edge becomes `size`; the long one keeps the aspect, rounded. By default torchvision's Resize(size).
Image resize_short_edge(const Image& image, int size, Interpolation interpolation = Interpolation::kPillowBilinear,
                        ResizeRounding rounding = ResizeRounding::kTruncate);
// torchvision's CenterCrop: pads with zeros if smaller; `offset` says how half the margin is rounded if larger.
Image center_crop(const Image& image, int height, int width, CropOffset offset = CropOffset::kHalfToEven);
void flip_horizontal(Image& image);
Image crop(const Image& image, const CropBox& box);
Image pad_zero(const Image& image, int border);
// The window whose top left corner is at (top, left), zero where it lies outside the image.
Image window_with_zeros(const Image& image, int top, int left, int height, int width);

// torchvision's RandomResizedCrop.get_params: ten tries of area in `scale` and log-uniform aspect in `ratio`, then a
// centre crop. The draws come from `random`; the distribution, not the bits, equals torchvision's.
struct Interval {
  double min = 0, max = 0;
};
struct RandomResizedCrop {
  Interval scale{0.08, 1.0}, ratio{3.0 / 4, 4.0 / 3};  // of the image's area; width / height
};
CropBox draw_crop(const RandomResizedCrop& parameters, int height, int width, RandomStream& random);

// Evaluation preprocessing; stored in every checkpoint. resize = 0: no resizing (the image must be `crop` x `crop`
// already, as with IDX data, else an error says so).
struct EvalTransform {
  int resize = 256;
  int crop = 224;
  Interpolation interpolation = Interpolation::kPillowBilinear;
  ResizeRounding rounding = ResizeRounding::kTruncate;
  CropOffset crop_offset = CropOffset::kHalfToEven;
  bool exif_orientation = false;  // turn images upright first; nobody does for ImageNet

  Image apply(const Image& image) const;
  bool operator==(const EvalTransform& other) const;
};

}  // namespace riffle
