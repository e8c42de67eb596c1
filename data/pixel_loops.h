// The inner loops of augmentation, over packed 8-bit pixels. One table for each instruction set, all bit-equal: they
// use integers and f32 without fused multiply-add, as Pillow does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace riffle {

// The best that the CPU has; or, for tests, AVX2 at most, and what every CPU has.
enum class PixelIsa { kBest, kAvx2, kBaseline };

struct PixelLoops {
  // p = degenerate + factor * (p - degenerate)
  void (*blend_with_value)(uint8_t* pixels, size_t count, int degenerate, float factor);
  void (*blend_with_image)(const uint8_t* degenerate, uint8_t* pixels, size_t count, float factor);
  // RGB pixels with their luma.
  void (*blend_with_luma)(uint8_t* rgb, size_t pixels, float factor);
  int64_t (*luma_sum)(const uint8_t* rgb, size_t pixels);
  void (*make_gray)(uint8_t* rgb, size_t pixels);
  // p += offsets[channel], cut off.
  void (*add_to_channels)(uint8_t* rgb, size_t pixels, const int* offsets);
  // One row of the 3x3 smoothing filter, without its first and last pixel; `step` bytes a pixel.
  void (*smooth_row)(const uint8_t* above, const uint8_t* row, const uint8_t* below, size_t bytes, size_t step,
                     uint8_t* out);
  // One row of RGB pixels in reverse. Reads one byte past the last pixel of `row`.
  void (*reverse_row)(const uint8_t* row, size_t pixels, uint8_t* out);
  // p & mask; 255 - p where p >= threshold.
  void (*mask)(uint8_t* pixels, size_t count, uint8_t bits);
  void (*solarize)(uint8_t* pixels, size_t count, int threshold);
};

const PixelLoops& pixel_loops(PixelIsa isa = PixelIsa::kBest);

}  // namespace riffle
