// Changes of colour and sharpness, in place, bit for bit as torchvision's functions on Pillow images give them
// (torchvision.transforms.functional on PIL.ImageEnhance). docs/augmentation.md has the formulas.
#pragma once

#include <array>

#include "data/image.h"

namespace riffle {

// Each blends the image with a degenerate one, out = degenerate + factor * (image - degenerate), in f32, cut off to
// 0..255 and truncated. Factors are not negative; 1 changes nothing.
void adjust_brightness(Image& image, double factor);  // with black
void adjust_contrast(Image& image, double factor);    // with the mean of its luma, rounded
void adjust_saturation(Image& image, double factor);  // with its luma; gray images have none to change
void adjust_sharpness(Image& image, double factor);   // with itself smoothed by (1 1 1, 1 5 1, 1 1 1) / 13

// Turns the hue by `shift` (-0.5 .. 0.5) of a full circle, through Pillow's 8-bit HSV. Gray images stay.
void adjust_hue(Image& image, double shift);

// Every channel becomes the luma, (19595 R + 38470 G + 7471 B + 32768) / 65536.
void make_gray(Image& image);

// What AlexNet's PCA lighting adds to R, G and B of 8-bit pixels: 255 * sum_i weights[i] * value[i] * vector[i] over the
// principal components of ImageNet's colours (Krizhevsky, Sutskever, Hinton, 2012), rounded to whole numbers.
std::array<int, 3> lighting_offsets(const std::array<double, 3>& weights);
// Adds to each channel, cut off to 0..255. The image has three channels.
void add_to_channels(Image& image, const std::array<int, 3>& offsets);

}  // namespace riffle
