// What happens to an image between decoder and batch: geometry in 8-bit pixels, so that training and evaluation read
// the same values as torchvision on Pillow images. Normalisation runs on the device (Backend::normalize).
#pragma once

#include <cstdint>
#include <string>

#include "core/rng.h"
#include "data/image.h"

namespace riffle {

// A rectangle in pixels.
struct CropBox {
  int top = 0, left = 0, height = 0, width = 0;
};

// Pillow's Image.resize with BILINEAR (antialiased triangle filter, 8-bit fixed point, horizontal pass first), of the
// part of `image` inside `box`, bit-exact with Pillow: https://github.com/python-pillow/Pillow (libImaging/Resample.c).
Image resize_bilinear(const Image& image, const CropBox& box, int height, int width);
Image resize_bilinear(const Image& image, int height, int width);

// torchvision's Resize(size): the short edge becomes `size`, the long one int(size * long / short) (truncated).
Image resize_short_edge(const Image& image, int size);
// torchvision's CenterCrop: pads with zeros if smaller; offsets round half to even, as Python's round().
Image center_crop(const Image& image, int height, int width);
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

  Image apply(const Image& image) const;
};

}  // namespace riffle
