// Resampling of a part of the output, for transforms that would crop the rest away, as Pillow does it and as OpenCV.
#pragma once

#include "data/transform.h"

namespace riffle {

// The inner loops' instruction set: the best that the CPU has, or (for tests) the one that every CPU has.
enum class ResizeLoops { kBest, kBaseline };

// crop(resize(image, height, width, interpolation), window), computing only the window's pixels.
Image resize_window(const Image& image, int height, int width, const CropBox& window, Interpolation interpolation,
                    ResizeLoops loops = ResizeLoops::kBest);

// The same of the part of `image` inside `box`, with one of Pillow's filters.
Image resize_pillow_window(const Image& image, const CropBox& box, int height, int width, const CropBox& window,
                           Interpolation interpolation, ResizeLoops loops = ResizeLoops::kBest);
// `box` of `image` with Pillow's bilinear filter. Reads the pixels whose centres lie inside the box, and no others; equals
// resize_bilinear() of a CropBox where the edges are whole numbers.
struct FractionalBox {  // its edges may lie between pixels
  double top = 0, left = 0, height = 0, width = 0;
};
Image resize_fractional(const Image& image, const FractionalBox& box, int height, int width);

// With one of OpenCV's.
Image resize_opencv_window(const Image& image, int height, int width, const CropBox& window,
                           Interpolation interpolation, ResizeLoops loops = ResizeLoops::kBest);

// Throws unless `box` is a non-empty part of a height x width image.
void check_box(const CropBox& box, int height, int width);

// The size that resize_short_edge() gives. Throws where the long edge would not fit an int.
struct ImageSize {
  int height, width;
};
ImageSize short_edge_size(int height, int width, int size, ResizeRounding rounding = ResizeRounding::kTruncate);

}  // namespace riffle
