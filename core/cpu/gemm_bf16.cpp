// The matrix product of gemm.h with inputs rounded to bf16 and sums in f32, by AVX512-BF16's dot products of pairs:
// twice the products an instruction of f32. Both inputs are packed in blocks that stay in the caches: pairs of
// neighbours along k are one 32-bit word, since the instruction multiplies such pairs. The order of the sums depends on
// the shape only.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "core/cpu/gemm.h"

namespace riffle {
namespace {

constexpr int64_t kLanes = 16;                       // f32 sums, or pairs of bf16, in a vector
constexpr int64_t kTileRows = 12;                    // of c, in registers: 12 x 2 sums, 2 vectors of b
constexpr int64_t kTileColumns = 2 * kLanes;         // likewise
constexpr int64_t kBlockRows = 10 * kTileRows;       // of a, packed: 60 KB
constexpr int64_t kBlockColumns = 4 * kTileColumns;  // of b, packed: 64 KB
constexpr int64_t kBlockPairs = 128;                 // along k

using Pair = uint32_t;  // two bf16, the one of the lower k in the lower half

// A matrix of pairs in packed memory: pair (row, p) is at row*row_stride + p*pair_stride.
struct PackedRows {
  const Pair* data;
  int64_t row_stride, pair_stride;
};

int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

__mmask16 first_lanes(int64_t count) {
  return count >= kLanes ? __mmask16{0xffff} : static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1);
}

__m512i rounded_pairs(__m512 low, __m512 high) {
  // Each lane: bf16(low) in its lower half, bf16(high) in its upper half.
  const auto lows = _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(low)));
  const auto highs = _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(high)));
  return _mm512_or_si512(lows, _mm512_maskz_slli_epi32(0xffff, highs, 16));
}

// target (depth pairs, columns) with a row pitch: neighbours along k are rows of the source (k, columns).
void pack_row_pairs(const float* source, int64_t ld, int64_t depth, int64_t columns, Pair* target, int64_t pitch) {
  for (int64_t k = 0; k < depth; k += 2) {
    const float *low = source + k * ld, *high = low + ld;
    Pair* out = target + k / 2 * pitch;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const __mmask16 mask = first_lanes(columns - c);
      const __m512 upper = k + 1 < depth ? _mm512_maskz_loadu_ps(mask, high + c) : _mm512_setzero_ps();
      _mm512_mask_storeu_epi32(out + c, mask, rounded_pairs(_mm512_maskz_loadu_ps(mask, low + c), upper));
    }
  }
}

// target (rows, depth pairs) with a row pitch: neighbours along k are neighbours in the source (rows, k).
void pack_rows(const float* source, int64_t ld, int64_t rows, int64_t depth, Pair* target, int64_t pitch) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = source + row * ld;
    Pair* out = target + row * pitch;
    for (int64_t k = 0; k < depth; k += kLanes) {
      const __m512 values = _mm512_maskz_loadu_ps(first_lanes(depth - k), in + k);
      // Half a vector of pairs; the pitch leaves room for all of it.
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + k / 2),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
    }
  }
}

// Rows become columns: 16 x 16 words, in four rounds that exchange ever larger squares.
void transpose_words(__m512i (&rows)[kLanes]) {
  __m512i other[kLanes];
  for (int i = 0; i < kLanes; i += 2) {  // squares of 1 word, within 128 bits
    other[i] = _mm512_maskz_unpacklo_epi32(0xffff, rows[i], rows[i + 1]);
    other[i + 1] = _mm512_maskz_unpackhi_epi32(0xffff, rows[i], rows[i + 1]);
  }
  for (int i = 0; i < kLanes; i += 4) {  // of 2 words
    for (int j = 0; j < 2; ++j) {
      rows[i + 2 * j] = _mm512_maskz_unpacklo_epi64(0xff, other[i + j], other[i + j + 2]);
      rows[i + 2 * j + 1] = _mm512_maskz_unpackhi_epi64(0xff, other[i + j], other[i + j + 2]);
    }
  }
  for (int i = 0; i < kLanes; i += 8) {  // of 4 words: rows[i+j] holds columns j, j+4, j+8, j+12 of four rows
    for (int j = 0; j < 4; ++j) {
      other[i + j] = _mm512_maskz_shuffle_i32x4(0xffff, rows[i + j], rows[i + j + 4], 0x88);
      other[i + j + 4] = _mm512_maskz_shuffle_i32x4(0xffff, rows[i + j], rows[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; ++j) {  // of 8
    rows[(j & 3) + (j & 4)] = _mm512_maskz_shuffle_i32x4(0xffff, other[j], other[j + 8], 0x88);
    rows[(j & 3) + (j & 4) + 8] = _mm512_maskz_shuffle_i32x4(0xffff, other[j], other[j + 8], 0xdd);
  }
}

// target (depth pairs, rows) with a row pitch: neighbours along k are neighbours in the source (rows, k).
void pack_transposed(const float* source, int64_t ld, int64_t rows, int64_t depth, Pair* target, int64_t pitch) {
  const int64_t pairs = (depth + 1) / 2;
  for (int64_t row = 0; row < rows; row += kLanes) {
    const __mmask16 row_mask = first_lanes(rows - row);
    for (int64_t p = 0; p < pairs; p += kLanes) {
      __m512i words[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        words[i] = _mm512_setzero_si512();
        if (row + i >= rows) continue;
        const float* in = source + (row + i) * ld + 2 * p;
        const int64_t rest = depth - 2 * p;
        const __m512 low = _mm512_maskz_loadu_ps(first_lanes(rest), in);
        const __m512 high =
            rest > kLanes ? _mm512_maskz_loadu_ps(first_lanes(rest - kLanes), in + kLanes) : _mm512_setzero_ps();
        words[i] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
      }
      transpose_words(words);
      for (int64_t i = 0; i < smaller(kLanes, pairs - p); ++i)
        _mm512_mask_storeu_epi32(target + (p + i) * pitch + row, row_mask, words[i]);
    }
  }
}

// c (kRows, up to 32 columns) = or += a * b over `pairs` pairs; b is (pairs, kTileColumns) with its pitch.
template <int kRows>
void multiply_tile(const PackedRows& a, const Pair* b, int64_t b_pitch, int64_t pairs, bool accumulate, float* c,
                   int64_t ldc, int64_t columns) {
  __m512 sums[kRows][2];
  const __mmask16 masks[2] = {first_lanes(columns), first_lanes(columns - kLanes)};
  for (int row = 0; row < kRows; ++row) {
    for (int half = 0; half < 2; ++half)
      sums[row][half] =
          accumulate ? _mm512_maskz_loadu_ps(masks[half], c + row * ldc + half * kLanes) : _mm512_setzero_ps();
  }
  for (int64_t p = 0; p < pairs; ++p) {
    const auto b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + p * b_pitch));
    const auto b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + p * b_pitch + kLanes));
    const Pair* pa = a.data + p * a.pair_stride;
    for (int row = 0; row < kRows; ++row) {
      const auto pair = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(pa[row * a.row_stride])));
      sums[row][0] = _mm512_dpbf16_ps(sums[row][0], pair, b0);
      sums[row][1] = _mm512_dpbf16_ps(sums[row][1], pair, b1);
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int half = 0; half < 2; ++half)
      _mm512_mask_storeu_ps(c + row * ldc + half * kLanes, masks[half], sums[row][half]);
  }
}

using MultiplyTile = void (*)(const PackedRows&, const Pair*, int64_t, int64_t, bool, float*, int64_t, int64_t);

constexpr MultiplyTile kMultiplyTile[kTileRows] = {
    multiply_tile<1>, multiply_tile<2>, multiply_tile<3>, multiply_tile<4>,  multiply_tile<5>,  multiply_tile<6>,
    multiply_tile<7>, multiply_tile<8>, multiply_tile<9>, multiply_tile<10>, multiply_tile<11>, multiply_tile<12>};

}  // namespace

void gemm_bf16(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
               int64_t lda, const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  constexpr int64_t kRowPitch = kBlockPairs + kLanes;  // not a power of two: rows of a start in different cache sets
  alignas(64) Pair packed_a[kBlockRows * kRowPitch];
  alignas(64) Pair packed_b[kBlockPairs * kBlockColumns];
  for (int64_t column = 0; column < n; column += kBlockColumns) {
    const int64_t columns = smaller(kBlockColumns, n - column);
    for (int64_t depth = 0; depth < k; depth += 2 * kBlockPairs) {
      const int64_t depths = smaller(2 * kBlockPairs, k - depth), pairs = (depths + 1) / 2;
      if (transpose_b == Transpose::kNo) {
        pack_row_pairs(b + depth * ldb + column, ldb, depths, columns, packed_b, kBlockColumns);
      } else {
        pack_transposed(b + column * ldb + depth, ldb, columns, depths, packed_b, kBlockColumns);
      }
      for (int64_t row = 0; row < m; row += kBlockRows) {
        const int64_t rows = smaller(kBlockRows, m - row);
        PackedRows block{packed_a, kRowPitch, 1};
        if (transpose_a == Transpose::kNo) {
          pack_rows(a + row * lda + depth, lda, rows, depths, packed_a, kRowPitch);
        } else {
          block = {packed_a, 1, kBlockRows};
          pack_row_pairs(a + depth * lda + row, lda, depths, rows, packed_a, kBlockRows);
        }
        for (int64_t j = 0; j < columns; j += kTileColumns) {
          for (int64_t i = 0; i < rows; i += kTileRows) {
            const PackedRows tile{block.data + i * block.row_stride, block.row_stride, block.pair_stride};
            kMultiplyTile[smaller(kTileRows, rows - i) - 1](tile, packed_b + j, kBlockColumns, pairs,
                                                            accumulate || depth > 0, c + (row + i) * ldc + column + j,
                                                            ldc, columns - j);
          }
        }
      }
    }
  }
}

}  // namespace riffle
