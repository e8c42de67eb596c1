// Maps from old to new pixel values, in place, bit for bit as PIL.ImageOps gives them.
#pragma once

#include "data/image.h"

namespace riffle {

void posterize(Image& image, int bits);         // keeps the upper `bits`, 1 .. 8
void solarize(Image& image, double threshold);  // p becomes 255 - p where p >= threshold
void invert(Image& image);                      // 255 - p
void stretch_contrast(Image& image);            // autocontrast: each channel's least value to 0, greatest to 255
void equalize(Image& image);                    // each channel's histogram made flat

}  // namespace riffle
