// Shears, translations and rotations that keep the image's size, bit for bit as torchvision's affine() and rotate() on
// Pillow images. Where the source lies outside the image the result is `fill`.
#pragma once

#include <array>
#include <string>

#include "data/image.h"

namespace riffle {

enum class AffineInterpolation { kNearest, kBilinear };
AffineInterpolation parse_affine_interpolation(const std::string& name);  // "nearest", "bilinear"

struct Sampling {
  AffineInterpolation interpolation = AffineInterpolation::kNearest;
  uint8_t fill = 0;  // of every channel
};

// Where output pixels come from: x_in = m[0]*x + m[1]*y + m[2], y_in = m[3]*x + m[4]*y + m[5], of pixel centres.
using AffineMap = std::array<double, 6>;
Image transform_affine(const Image& image, const AffineMap& map, const Sampling& sampling);

// As torchvision's AutoAugment family calls them: by the tangent of the angle, about the top left corner; by whole
// pixels; and by degrees, counter-clockwise about the centre.
Image shear_x(const Image& image, double tangent, const Sampling& sampling);
Image shear_y(const Image& image, double tangent, const Sampling& sampling);
Image translate(const Image& image, int right, int down, const Sampling& sampling);
Image rotate(const Image& image, double degrees, const Sampling& sampling);

}  // namespace riffle
