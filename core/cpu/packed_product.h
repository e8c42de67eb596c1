// One matrix product for many pieces of its left operand's rows: the right operand is packed once for all of them, and
// multiplied by our own kernel where the instruction set has one (simd_product.cpp); otherwise, and where rows are too
// few to repay the packing, by a gemm that packs what it is given.
#pragma once

#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd_kernels.h"

namespace riffle {

// How a backend multiplies: kernels for f32, or none, and the product for everything else.
struct MatrixProducts {
  ProductKernels kernels;
  GemmFunction gemm;
};

class PackedProduct {
 public:
  // op(b) (inner, columns); rows in all. `memory` holds packed_size() floats, or is null where that is 0.
  struct Problem {
    int64_t rows, inner, columns;
    Transpose transpose_b;
    const float* b;
    int64_t ldb;
  };
  static int64_t packed_size(const MatrixProducts& products, const Problem& problem);
  PackedProduct(const MatrixProducts& products, Parallel& parallel, const Problem& problem, float* memory);

  // c (rows, columns.size()) = a (rows, inner) * those columns of op(b), or += if accumulate. a and c point to the
  // piece's first element; columns begin at multiples of kProductPanel.
  void operator()(const float* a, int64_t lda, int64_t rows, Range columns, bool accumulate, float* c, int64_t ldc,
                  Upcoming upcoming = {}) const;

 private:
  const MatrixProducts& products_;
  Problem problem_;
  const float* packed_;
};

// c (rows, columns) = a (inner, rows) transposed * b (inner, columns), or += if accumulate.
void transposed_product(const MatrixProducts& products, const float* a, int64_t lda, const float* b, int64_t ldb,
                        int64_t inner, int64_t rows, int64_t columns, bool accumulate, float* c, int64_t ldc,
                        Upcoming upcoming = {});

}  // namespace riffle
