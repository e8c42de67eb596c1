// Matrix products for pointwise convolutions. The operand with many rows is read where it lies, never copied: a tile of
// the result stays in registers while the other operand's 64 columns stream by from the first- or second-level cache.
// AVX-512 only (its 32 registers hold such tiles); elsewhere the table is empty and oneDNN's sgemm serves. Compiled once
// for each instruction set: see simd_vector.h and core/CMakeLists.txt.
#include "core/cpu/simd_kernels.h"
#include "core/cpu/simd_vector.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

#ifdef __AVX512BW__

constexpr int64_t kLane = 16, kPanel = kProductPanel;

// The lanes of the last of `lanes` vectors that `columns` columns fill.
inline __mmask16 last_mask(int64_t columns, int64_t lanes) {
  return static_cast<__mmask16>(0xFFFFu >> (lanes * kLane - columns));
}

// The rows of the next tile, which usually come from memory: their way here overlaps with this tile's arithmetic. What
// lies beyond the last row is harmless.
template <int kRows, int kLanes>
inline void prefetch_next(const float* a, int64_t a_row, int64_t steps, const float* c, int64_t ldc) {
  constexpr int64_t kLine = 16;
  for (int i = kRows; i < 2 * kRows; ++i) {
    for (int64_t k = 0; k < steps; k += kLine) __builtin_prefetch(a + i * a_row + k, 0, 2);
    for (int j = 0; j < kLanes; ++j) __builtin_prefetch(c + i * ldc + j * kLine, 1, 2);
  }
}

// A tile of the result, kRows x kLanes vectors, from zero or from c's present values. Step k multiplies the kRows values
// of a, a_row apart, with a row of b; from one step to the next a moves by a_step and b by b_step. `upcoming` moves on by
// what was prefetched.
template <int kRows, int kLanes, bool kMaskB>
inline void tile(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, int64_t steps,
                 __mmask16 mask, bool accumulate, float* c, int64_t ldc, Upcoming& upcoming) {
  const float* next = upcoming.data;
  const int64_t next_step = upcoming.floats > 0 ? kLane : 0;
  upcoming.data += steps * next_step;
  upcoming.floats -= steps * next_step;
  __m512 sum[kRows][kLanes];
#pragma GCC unroll 24
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j)
      sum[i][j] = !accumulate      ? _mm512_setzero_ps()
                  : j + 1 < kLanes ? _mm512_loadu_ps(c + i * ldc + j * kLane)
                                   : _mm512_maskz_loadu_ps(mask, c + i * ldc + j * kLane);
  if constexpr (!kMaskB) prefetch_next<kRows, kLanes>(a, a_row, steps, c, ldc);
  for (int64_t k = 0; k < steps; ++k, a += a_step, b += b_step, next += next_step) {
    __builtin_prefetch(next, 0, 2);
    __m512 right[kLanes];
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j)
      right[j] =
          kMaskB && j + 1 == kLanes ? _mm512_maskz_loadu_ps(mask, b + j * kLane) : _mm512_loadu_ps(b + j * kLane);
#pragma GCC unroll 24
    for (int i = 0; i < kRows; ++i) {
      const __m512 left = _mm512_set1_ps(a[i * a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < kLanes; ++j) sum[i][j] = _mm512_fmadd_ps(left, right[j], sum[i][j]);
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) {
      float* out = c + i * ldc + j * kLane;
      if (j + 1 < kLanes) {
        _mm512_storeu_ps(out, sum[i][j]);
      } else {
        _mm512_mask_storeu_ps(out, mask, sum[i][j]);
      }
    }
}

// `rows` rows in tiles of kRows, then 8, 4, 2, 1 of what is left.
template <int kRows, int kLanes, bool kMaskB>
inline void tiles(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, int64_t steps,
                  int64_t rows, __mmask16 mask, bool accumulate, float* c, int64_t ldc, Upcoming& upcoming) {
  while (rows >= kRows) {
    tile<kRows, kLanes, kMaskB>(a, a_row, a_step, b, b_step, steps, mask, accumulate, c, ldc, upcoming);
    rows -= kRows;
    a += kRows * a_row;
    c += kRows * ldc;
  }
  if constexpr (kRows > 1) {
    constexpr int kFewer = kRows > 8 ? 8 : kRows > 4 ? 4 : kRows > 2 ? 2 : 1;
    if (rows > 0)
      tiles<kFewer, kLanes, kMaskB>(a, a_row, a_step, b, b_step, steps, rows, mask, accumulate, c, ldc, upcoming);
  }
}

// One panel of up to 64 columns. Tiles of 24 accumulators, which leave registers for the operands.
template <bool kMaskB>
void panel(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, int64_t steps, int64_t rows,
           int64_t columns, bool accumulate, float* c, int64_t ldc, Upcoming& upcoming) {
  const int64_t lanes = (columns + kLane - 1) / kLane;
  const __mmask16 mask = last_mask(columns, lanes);
  switch (lanes) {
    case 4:
      return tiles<6, 4, kMaskB>(a, a_row, a_step, b, b_step, steps, rows, mask, accumulate, c, ldc, upcoming);
    case 3:
      return tiles<8, 3, kMaskB>(a, a_row, a_step, b, b_step, steps, rows, mask, accumulate, c, ldc, upcoming);
    case 2:
      return tiles<12, 2, kMaskB>(a, a_row, a_step, b, b_step, steps, rows, mask, accumulate, c, ldc, upcoming);
    default:
      return tiles<16, 1, kMaskB>(a, a_row, a_step, b, b_step, steps, rows, mask, accumulate, c, ldc, upcoming);
  }
}

void product(const float* a, int64_t lda, int64_t rows, int64_t inner, const float* packed_b, int64_t columns,
             bool accumulate, float* c, int64_t ldc, Upcoming upcoming) {
  for (int64_t begin = 0; begin < columns; begin += kPanel, packed_b += inner * kPanel)
    panel<false>(a, lda, 1, packed_b, kPanel, inner, rows, columns - begin < kPanel ? columns - begin : kPanel,
                 accumulate, c + begin, ldc, upcoming);
}

void transposed_product(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t inner, int64_t rows,
                        int64_t columns, bool accumulate, float* c, int64_t ldc, Upcoming upcoming) {
  for (int64_t begin = 0; begin < columns; begin += kPanel)
    panel<true>(a, 1, lda, b + begin, ldb, inner, rows, columns - begin < kPanel ? columns - begin : kPanel, accumulate,
                c + begin, ldc, upcoming);
}

#endif

}  // namespace

extern const ProductKernels kProductKernels;
#ifdef __AVX512BW__
const ProductKernels kProductKernels = {product, transposed_product};
#else
const ProductKernels kProductKernels = {nullptr, nullptr};
#endif

}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
