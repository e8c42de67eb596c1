// Bilinear resampling of a part of the output, for transforms that would crop the rest away.
#pragma once

#include "data/transform.h"

namespace riffle {

// The inner loops' instruction set: the best that the CPU has, or (for tests) the one that every CPU has.
enum class ResizeLoops { kBest, kBaseline };

// crop(resize_bilinear(image, box, height, width), window), computing only the window's pixels.
Image resize_bilinear_window(const Image& image, const CropBox& box, int height, int width, const CropBox& window,
                             ResizeLoops loops = ResizeLoops::kBest);

// Throws unless `box` is a non-empty part of a height x width image.
void check_box(const CropBox& box, int height, int width);

// The size that resize_short_edge() gives. Throws where the long edge would not fit an int.
struct ImageSize {
  int height, width;
};
ImageSize short_edge_size(int height, int width, int size);

}  // namespace riffle
