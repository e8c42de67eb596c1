// Packing of a right operand into panels of columns.
#include "core/cpu/packed_product.h"

#include <algorithm>

#include "core/check.h"

namespace riffle {
namespace {

constexpr int64_t kFewestRows = 256;  // packing moves each element of b once: about the time of eight rows' products

constexpr int64_t kLargestCopy = int64_t{1} << 17;

// panel (inner, kProductPanel) = columns of op(b), and zeros beyond them.
void pack_panel(const PackedProduct::Problem& p, Range columns, float* panel) {
  for (int64_t k = 0; k < p.inner; ++k, panel += kProductPanel) {
    if (p.transpose_b == Transpose::kNo) {
      std::copy_n(p.b + k * p.ldb + columns.begin, columns.size(), panel);
    } else {
      for (int64_t j = 0; j < columns.size(); ++j) panel[j] = p.b[(columns.begin + j) * p.ldb + k];
    }
    std::fill(panel + columns.size(), panel + kProductPanel, 0.0f);
  }
}

}  // namespace

int64_t PackedProduct::packed_size(const MatrixProducts& products, const Problem& problem) {
  if (!products.kernels.product || problem.rows < kFewestRows) return 0;
  // A step needs most memory while the gradients of its largest filter are computed: none is spent on a copy then.
  if (problem.transpose_b == Transpose::kNo && problem.inner * problem.columns > kLargestCopy) return 0;
  return divide_up(problem.columns, kProductPanel) * kProductPanel * problem.inner;
}

PackedProduct::PackedProduct(const MatrixProducts& products, Parallel& parallel, const Problem& problem, float* memory)
    : products_(products), problem_(problem), packed_(memory) {
  if (!memory) return;
  const Chunks panels{problem.columns, kProductPanel};
  parallel(panels.count(),
           [&](int64_t i) { pack_panel(problem, panels[i], memory + i * kProductPanel * problem.inner); });
}

void PackedProduct::operator()(const float* a, int64_t lda, int64_t rows, Range columns, bool accumulate, float* c,
                               int64_t ldc, Upcoming upcoming) const {
  const Problem& p = problem_;
  if (packed_) {
    RIFFLE_CHECK(columns.begin % kProductPanel == 0, "a piece begins with column ", columns.begin);
    products_.kernels.product(a, lda, rows, p.inner, packed_ + columns.begin * p.inner, columns.size(), accumulate, c,
                              ldc, upcoming);
  } else {
    const float* b = p.b + columns.begin * (p.transpose_b == Transpose::kNo ? 1 : p.ldb);
    products_.gemm(Transpose::kNo, p.transpose_b, rows, columns.size(), p.inner, a, lda, b, p.ldb, accumulate, c, ldc);
  }
}

void transposed_product(const MatrixProducts& products, const float* a, int64_t lda, const float* b, int64_t ldb,
                        int64_t inner, int64_t rows, int64_t columns, bool accumulate, float* c, int64_t ldc,
                        Upcoming upcoming) {
  if (products.kernels.transposed_product) {
    products.kernels.transposed_product(a, lda, b, ldb, inner, rows, columns, accumulate, c, ldc, upcoming);
  } else {
    products.gemm(Transpose::kYes, Transpose::kNo, rows, columns, inner, a, lda, b, ldb, accumulate, c, ldc);
  }
}

}  // namespace riffle
