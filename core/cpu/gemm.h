// One matrix product on one thread: oneDNN's sgemm, row-major, with row pitches.
#pragma once

#include <cstdint>

namespace riffle {

enum class Transpose { kNo, kYes };

// c (m,n) = op(a) (m,k) * op(b) (k,n), or c += if accumulate. Call it from inside a Parallel body, or for small
// products.
void gemm(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
          const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc);

}  // namespace riffle
