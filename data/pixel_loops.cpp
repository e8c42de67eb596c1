// Inner loops over pixels: see pixel_loops.h. Each body is compiled for every instruction set by the list at the end.
#include "data/pixel_loops.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define RIFFLE_PIXELS_X86 1
#else
#define RIFFLE_PIXELS_X86 0
#endif
#define RIFFLE_INLINE inline __attribute__((always_inline))

namespace riffle {
namespace {

RIFFLE_INLINE uint8_t clamp_pixel(int value) {
  return static_cast<uint8_t>(std::min(std::max(value, 0), 255));
}

// Truncated first: integers clamp faster, and between -1 and 0 both give 0.
RIFFLE_INLINE uint8_t blend(int degenerate, int pixel, float factor) {
  return clamp_pixel(
      static_cast<int>(static_cast<float>(degenerate) + factor * static_cast<float>(pixel - degenerate)));
}

RIFFLE_INLINE int luma(const uint8_t* rgb) {
  return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16;
}

RIFFLE_INLINE void blend_with_value(uint8_t* pixels, size_t count, int degenerate, float factor) {
  for (size_t i = 0; i < count; ++i) pixels[i] = blend(degenerate, pixels[i], factor);
}

RIFFLE_INLINE void blend_with_image(const uint8_t* __restrict degenerate, uint8_t* __restrict pixels, size_t count,
                                    float factor) {
  for (size_t i = 0; i < count; ++i) pixels[i] = blend(degenerate[i], pixels[i], factor);
}

RIFFLE_INLINE void blend_with_luma(uint8_t* rgb, size_t pixels, float factor) {
  for (size_t i = 0; i < pixels; ++i, rgb += 3) {
    const int gray = luma(rgb);
    for (int c = 0; c < 3; ++c) rgb[c] = blend(gray, rgb[c], factor);
  }
}

RIFFLE_INLINE int64_t luma_sum(const uint8_t* rgb, size_t pixels) {
  constexpr size_t kBlock = 1 << 16;  // whose sum fits 32 bits
  int64_t sum = 0;
  for (size_t begin = 0; begin < pixels; begin += kBlock) {
    const size_t count = std::min(kBlock, pixels - begin);
    int32_t block = 0;
    for (size_t i = 0; i < count; ++i) block += luma(rgb + 3 * i);
    rgb += 3 * count;
    sum += block;
  }
  return sum;
}

RIFFLE_INLINE void make_gray(uint8_t* rgb, size_t pixels) {
  for (size_t i = 0; i < pixels; ++i, rgb += 3) rgb[0] = rgb[1] = rgb[2] = static_cast<uint8_t>(luma(rgb));
}

RIFFLE_INLINE void add_to_channels(uint8_t* rgb, size_t pixels, const int* offsets) {
  constexpr size_t kBlock = 48;  // bytes: a whole number of pixels and of vectors
  int16_t pattern[kBlock];
  for (size_t i = 0; i < kBlock; ++i) pattern[i] = static_cast<int16_t>(std::clamp(offsets[i % 3], -255, 255));
  size_t count = pixels * 3;
  for (; count >= kBlock; count -= kBlock, rgb += kBlock)
    for (size_t i = 0; i < kBlock; ++i) rgb[i] = clamp_pixel(rgb[i] + pattern[i]);
  for (size_t i = 0; i < count; ++i) rgb[i] = clamp_pixel(rgb[i] + pattern[i]);
}

// Pillow adds up p * w / 13 in f32 and truncates that plus 1/2. The exact value is never closer than 1/26 to a whole
// number, so integers give the same.
RIFFLE_INLINE void smooth_row(const uint8_t* __restrict above, const uint8_t* __restrict row,
                              const uint8_t* __restrict below, size_t bytes, size_t step, uint8_t* __restrict out) {
  for (size_t i = step; i + step < bytes; ++i) {
    const int sum = above[i - step] + above[i] + above[i + step] + row[i - step] + 5 * row[i] + row[i + step] +
                    below[i - step] + below[i] + below[i + step];
    out[i] = static_cast<uint8_t>((2 * sum + 13) / 26);
  }
}

using Byte16 = uint8_t __attribute__((vector_size(16)));

// Five pixels at a time; the sixteenth byte is written and then overwritten.
RIFFLE_INLINE void reverse_row(const uint8_t* __restrict row, size_t pixels, uint8_t* __restrict out) {
  size_t done = 0;
  for (; done + 6 <= pixels; done += 5) {
    Byte16 five;
    std::memcpy(&five, row + 3 * (pixels - 5 - done), sizeof five);
    five = __builtin_shufflevector(five, five, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2, 15);
    std::memcpy(out + 3 * done, &five, sizeof five);
  }
  for (; done < pixels; ++done) std::memcpy(out + 3 * done, row + 3 * (pixels - 1 - done), 3);
}

RIFFLE_INLINE void mask(uint8_t* pixels, size_t count, uint8_t bits) {
  for (size_t i = 0; i < count; ++i) pixels[i] = static_cast<uint8_t>(pixels[i] & bits);
}

RIFFLE_INLINE void solarize(uint8_t* pixels, size_t count, int threshold) {
  for (size_t i = 0; i < count; ++i)
    pixels[i] = pixels[i] < threshold ? pixels[i] : static_cast<uint8_t>(255 - pixels[i]);
}

// NOLINTBEGIN(bugprone-macro-parentheses): an attribute cannot stand in parentheses
// The bodies as members of NAME, compiled for what ATTRIBUTE says.
#define RIFFLE_PIXEL_LOOPS(NAME, ATTRIBUTE)                                                                           \
  struct NAME {                                                                                                       \
    ATTRIBUTE static void value(uint8_t* p, size_t n, int d, float f) { blend_with_value(p, n, d, f); }               \
    ATTRIBUTE static void image(const uint8_t* d, uint8_t* p, size_t n, float f) { blend_with_image(d, p, n, f); }    \
    ATTRIBUTE static void with_luma(uint8_t* p, size_t n, float f) { blend_with_luma(p, n, f); }                      \
    ATTRIBUTE static int64_t sum(const uint8_t* p, size_t n) { return luma_sum(p, n); }                               \
    ATTRIBUTE static void gray(uint8_t* p, size_t n) { make_gray(p, n); }                                             \
    ATTRIBUTE static void add(uint8_t* p, size_t n, const int* o) { add_to_channels(p, n, o); }                       \
    ATTRIBUTE static void smooth(const uint8_t* a, const uint8_t* r, const uint8_t* b, size_t n, size_t s,            \
                                 uint8_t* o) {                                                                        \
      smooth_row(a, r, b, n, s, o);                                                                                   \
    }                                                                                                                 \
    ATTRIBUTE static void reversed(const uint8_t* r, size_t n, uint8_t* o) { reverse_row(r, n, o); }                  \
    ATTRIBUTE static void masked(uint8_t* p, size_t n, uint8_t b) { mask(p, n, b); }                                  \
    ATTRIBUTE static void solarized(uint8_t* p, size_t n, int t) { solarize(p, n, t); }                               \
    static constexpr PixelLoops kLoops{value, image, with_luma, sum, gray, add, smooth, reversed, masked, solarized}; \
  }
// NOLINTEND(bugprone-macro-parentheses)

RIFFLE_PIXEL_LOOPS(Baseline, );
#if RIFFLE_PIXELS_X86
RIFFLE_PIXEL_LOOPS(Avx2, __attribute__((target("avx2"))));
RIFFLE_PIXEL_LOOPS(Avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))));
#endif

}  // namespace

const PixelLoops& pixel_loops(PixelIsa isa) {
#if RIFFLE_PIXELS_X86
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == PixelIsa::kBest && avx512) return Avx512::kLoops;
  if (isa != PixelIsa::kBaseline && __builtin_cpu_supports("avx2")) return Avx2::kLoops;
#endif
  static_cast<void>(isa);
  return Baseline::kLoops;
}

}  // namespace riffle
