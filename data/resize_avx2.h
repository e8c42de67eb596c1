// AVX2 loops of Pillow's resize. Weights of 22 bits are split into 15 low bits and the rest, so that a product of 16-bit
// numbers adds up two taps at once; sums are those of 32-bit products, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/resize_simd.h"

#if RIFFLE_RESIZE_AVX2
namespace riffle {

// Two taps' weights in 16 bits each, low parts and high parts.
struct TapPair {
  uint32_t low, high;
};
// Of `outputs` times `taps` weights; an odd last one is paired with 0.
std::vector<TapPair> pair_taps(const int32_t* weights, size_t outputs, size_t taps);

// Rows that are filtered together.
constexpr int kRowsAtOnce = 8;
// How far behind a pixel row's end bytes are read, which count for nothing.
constexpr size_t kReadBehind = 8;

// kRowsAtOnce rows of RGB pixels: out[i] of every row. `counts` are taps.
void filter_rows_rgb_avx2(const std::vector<int>& firsts, const std::vector<int>& counts, const TapPair* weights,
                          size_t pairs, const uint8_t* const* in, uint8_t* const* out);
// One output row from `count` input rows `pitch` bytes apart.
void filter_column_avx2(const TapPair* weights, int count, const uint8_t* in, size_t pitch, size_t width, uint8_t* out);

}  // namespace riffle
#endif
