// Sizes and boxes of resizing, and which implementation an interpolation means.
#include "data/resize.h"

#include <cmath>
#include <limits>

#include "core/check.h"

namespace riffle {

void check_box(const CropBox& box, int height, int width) {
  RIFFLE_CHECK(box.height > 0 && box.width > 0 && box.top >= 0 && box.left >= 0 && box.height <= height - box.top &&
                   box.width <= width - box.left,
               "box of ", box.height, "x", box.width, " at row ", box.top, ", column ", box.left, " of a ", height, "x",
               width, " image");
}

Image resize_window(const Image& image, int height, int width, const CropBox& window, Interpolation interpolation,
                    ResizeLoops loops) {
  if (interpolation == Interpolation::kOpenCvBilinear || interpolation == Interpolation::kOpenCvBicubic)
    return resize_opencv_window(image, height, width, window, interpolation, loops);
  return resize_pillow_window(image, {0, 0, image.height, image.width}, height, width, window, interpolation, loops);
}

Image resize(const Image& image, int height, int width, Interpolation interpolation) {
  return resize_window(image, height, width, {0, 0, height, width}, interpolation);
}

Image resize_bilinear(const Image& image, const CropBox& box, int height, int width) {
  return resize_pillow_window(image, box, height, width, {0, 0, height, width}, Interpolation::kPillowBilinear);
}

ImageSize short_edge_size(int height, int width, int size, ResizeRounding rounding) {
  const auto long_edge = [&](int longer, int shorter) {
    const int64_t truncated = int64_t{size} * longer / shorter;
    // The order of the double operations is the original programs'; it decides where the exact result is a half.
    const double half_up = std::floor(static_cast<double>(size) / shorter * longer + 0.5);
    const double edge = rounding == ResizeRounding::kHalfUp ? half_up : static_cast<double>(truncated);
    if (edge > std::numeric_limits<int>::max())
      fail("the image is ", height, "x", width, ", too narrow: with a short edge of ", size, " its long edge would be ",
           static_cast<int64_t>(edge), " pixels");
    return static_cast<int>(edge);
  };
  return width <= height ? ImageSize{long_edge(height, width), size} : ImageSize{size, long_edge(width, height)};
}

Image resize_short_edge(const Image& image, int size, Interpolation interpolation, ResizeRounding rounding) {
  RIFFLE_CHECK(size > 0 && image.height > 0 && image.width > 0, "short edge ", size, " from ", image.height, "x",
               image.width);
  const ImageSize target = short_edge_size(image.height, image.width, size, rounding);
  if (target.height > kMaxImagePixels / target.width)
    fail("the image is ", image.height, "x", image.width, ", too narrow: with a short edge of ", size, " it would be ",
         target.height, "x", target.width, ", and images of up to ", kMaxImagePixels, " pixels are made");
  return resize(image, target.height, target.width, interpolation);
}

}  // namespace riffle
