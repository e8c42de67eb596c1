// One matrix product on one thread, row-major, with row pitches: in f32 by oneDNN, or on inputs rounded to bf16.
#pragma once

#include <cstdint>

namespace riffle {

enum class Transpose { kNo, kYes };

// c (m,n) = op(a) (m,k) * op(b) (k,n), or c += if accumulate. Call it from inside a Parallel body, or for small
// products.
void gemm(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
          const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc);

// The same with a and b rounded to bf16 (to nearest even; subnormal numbers count as zero), sums in f32. Needs
// AVX512-BF16: see cpu_has_bf16().
void gemm_bf16(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
               int64_t lda, const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc);

using GemmFunction = decltype(&gemm);

}  // namespace riffle
