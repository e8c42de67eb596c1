// AVX2 loops of Pillow's resize: see resize_avx2.h.
#include "data/resize_avx2.h"

#if RIFFLE_RESIZE_AVX2
#include <immintrin.h>

#include <cstring>

#define RIFFLE_AVX2 __attribute__((target("avx2")))

namespace riffle {
namespace {

constexpr int kPrecisionBits = 22, kLowBits = 15;

uint32_t two_words(int32_t first, int32_t second) {
  return (static_cast<uint32_t>(first) & 0xFFFFu) | static_cast<uint32_t>(second) << 16;
}

// Sums of products with the low and the high parts of the weights.
struct Sums {
  __m256i low, high;
};

RIFFLE_AVX2 inline void add(Sums& sums, __m256i words, __m256i low, __m256i high) {
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(words, low));
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(words, high));
}

RIFFLE_AVX2 inline __m256i rounded(const Sums& sums) {
  const __m256i half = _mm256_set1_epi32(1 << (kPrecisionBits - 1));
  const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(sums.high, kLowBits), sums.low);
  return _mm256_srai_epi32(_mm256_add_epi32(sum, half), kPrecisionBits);
}

RIFFLE_AVX2 inline __m128i eight_bytes(const uint8_t* bytes) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
}

// Pixels of one output, of 8 rows: four bytes each, of which three count. In the order of rows 0 2 4 6 1 3 5 7.
RIFFLE_AVX2 inline __m256i filter_pixel(int count, const TapPair* weights, const uint8_t* const* in, size_t offset) {
  // Bytes r0 g0 b0 r1 g1 b1 of each row to words r0 r1 g0 g1 b0 b1 0 0.
  const __m256i to_words =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  Sums sums[kRowsAtOnce / 2];
  for (Sums& sum : sums) sum.low = sum.high = _mm256_setzero_si256();
  for (int t = 0; t < count; t += 2, ++weights, offset += 6) {
    const __m256i low = _mm256_set1_epi32(static_cast<int>(weights->low));
    const __m256i high = _mm256_set1_epi32(static_cast<int>(weights->high));
    for (int k = 0; k < kRowsAtOnce / 2; ++k) {
      const __m256i two_rows = _mm256_set_m128i(eight_bytes(in[2 * k + 1] + offset), eight_bytes(in[2 * k] + offset));
      add(sums[k], _mm256_shuffle_epi8(two_rows, to_words), low, high);
    }
  }
  return _mm256_packus_epi16(_mm256_packs_epi32(rounded(sums[0]), rounded(sums[1])),
                             _mm256_packs_epi32(rounded(sums[2]), rounded(sums[3])));
}

// Columns x .. x + 31 of a pair of rows.
RIFFLE_AVX2 inline void add_columns(Sums (&sums)[4], const uint8_t* upper, const uint8_t* lower, __m256i low,
                                    __m256i high) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(upper));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lower));
  const __m256i near = _mm256_unpacklo_epi8(a, b), far = _mm256_unpackhi_epi8(a, b);  // a0 b0 a1 b1 ..., by lanes
  const __m256i zero = _mm256_setzero_si256();
  add(sums[0], _mm256_unpacklo_epi8(near, zero), low, high);
  add(sums[1], _mm256_unpackhi_epi8(near, zero), low, high);
  add(sums[2], _mm256_unpacklo_epi8(far, zero), low, high);
  add(sums[3], _mm256_unpackhi_epi8(far, zero), low, high);
}

// 32 columns from x on.
RIFFLE_AVX2 inline void filter_columns(const TapPair* weights, int count, const uint8_t* in, size_t pitch,
                                       uint8_t* out) {
  Sums sums[4];
  for (Sums& sum : sums) sum.low = sum.high = _mm256_setzero_si256();
  for (int t = 0; t < count; t += 2, ++weights, in += 2 * pitch) {
    const uint8_t* lower = t + 1 < count ? in + pitch : in;  // the last one's weight may be 0
    add_columns(sums, in, lower, _mm256_set1_epi32(static_cast<int>(weights->low)),
                _mm256_set1_epi32(static_cast<int>(weights->high)));
  }
  // Packing works by lanes, as unpacking did.
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(rounded(sums[0]), rounded(sums[1])),
                                            _mm256_packs_epi32(rounded(sums[2]), rounded(sums[3])));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
}

}  // namespace

std::vector<TapPair> pair_taps(const int32_t* weights, size_t outputs, size_t taps) {
  constexpr int32_t kLowMask = (1 << kLowBits) - 1;
  const size_t pairs = (taps + 1) / 2;
  std::vector<TapPair> result(outputs * pairs);
  for (size_t i = 0; i < outputs; ++i, weights += taps) {
    for (size_t t = 0; t < taps; t += 2) {
      const int32_t first = weights[t], second = t + 1 < taps ? weights[t + 1] : 0;
      result[i * pairs + t / 2] = {two_words(first & kLowMask, second & kLowMask),
                                   two_words(first >> kLowBits, second >> kLowBits)};
    }
  }
  return result;
}

RIFFLE_AVX2 void filter_rows_rgb_avx2(const std::vector<int>& firsts, const std::vector<int>& counts,
                                      const TapPair* weights, size_t pairs, const uint8_t* const* in,
                                      uint8_t* const* out) {
  const size_t last = firsts.size() - 1;
  alignas(32) uint8_t pixels[32];
  const auto filter = [&](size_t i) RIFFLE_AVX2 {
    _mm256_store_si256(reinterpret_cast<__m256i*>(pixels),
                       filter_pixel(counts[i], weights + i * pairs, in, static_cast<size_t>(firsts[i]) * 3));
  };
  const auto of_row = [&](size_t row) { return pixels + 16 * (row % 2) + 4 * (row / 2); };
  for (size_t i = 0; i < last; ++i) {
    filter(i);
    // The fourth byte is overwritten by the next pixel.
    for (size_t row = 0; row < kRowsAtOnce; ++row) std::memcpy(out[row] + 3 * i, of_row(row), 4);
  }
  filter(last);
  for (size_t row = 0; row < kRowsAtOnce; ++row) std::memcpy(out[row] + 3 * last, of_row(row), 3);
}

RIFFLE_AVX2 void filter_column_avx2(const TapPair* weights, int count, const uint8_t* in, size_t pitch, size_t width,
                                    uint8_t* out) {
  constexpr size_t kBlock = 32;
  if (width < kBlock) {
    std::vector<uint8_t> rows(static_cast<size_t>(count) * kBlock);
    uint8_t block[kBlock];
    for (int t = 0; t < count; ++t)
      std::memcpy(rows.data() + static_cast<size_t>(t) * kBlock, in + static_cast<size_t>(t) * pitch, width);
    filter_columns(weights, count, rows.data(), kBlock, block);
    std::memcpy(out, block, width);
    return;
  }
  for (size_t x = 0; x < width; x += kBlock) {
    const size_t begin = x + kBlock <= width ? x : width - kBlock;  // the last block overlaps the one before
    filter_columns(weights, count, in + begin, pitch, out + begin);
  }
}

}  // namespace riffle
#endif
