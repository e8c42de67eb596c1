// MatrixProducts on the emulated device with the twin of cuBLASLt: results against plain loops, and what is chosen.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cuda/device_types.h"
#include "cuda/emulation/control.h"
#include "cuda/emulation/library_twins.h"
#include "cuda/matrix_products.h"
#include "cuda/split_tails.h"
#include "cuda/status.h"
#include "tests/cuda/device_tensors.h"

namespace riffle {
namespace {

constexpr DType kDtypes[] = {DType::kF32, DType::kBF16, DType::kF16};

// One ulp of the result's type, and f32 sums of k products of numbers below 1.
double tolerance(DType output, int64_t k) {
  const double ulp = output == DType::kF32 ? 1e-6 : output == DType::kBF16 ? 1.0 / 256 : 1.0 / 2048;
  return ulp * std::sqrt(static_cast<double>(k)) + 1e-6 * static_cast<double>(k);
}

struct ProductCase {
  int64_t m, n, k;
  DType input, output;
  bool transposed_a, transposed_b;
  int64_t extra, offset;  // columns of the matrices that are not the product's, in all and before it
  bool bias = false, relu = false, accumulate = false;
  char only = 0;  // which of a, b, c and the bias (d) has extra and offset; 0: a, b and c
};

// A product on memory of its own, and what it must be.
class ProductRun {
 public:
  explicit ProductRun(const ProductCase& c, unsigned seed = 1) : case_(c), random_(seed) {
    a_ = matrix(c.transposed_a ? c.k : c.m, c.transposed_a ? c.m : c.k, c.input, 'a', &a_values_);
    b_ = matrix(c.transposed_b ? c.n : c.k, c.transposed_b ? c.k : c.n, c.input, 'b', &b_values_);
    c_ = matrix(c.m, c.n, c.output, 'c', &c_values_);
    if (c.bias) bias_ = matrix(1, c.n, c.output, 'd', &bias_values_);
    product_.m = c.m;
    product_.n = c.n;
    product_.k = c.k;
    product_.input = c.input;
    product_.output = c.output;
    product_.a = {a_.raw(), a_.ld(), c.transposed_a};
    product_.b = {b_.raw(), b_.ld(), c.transposed_b};
    product_.c = c_.raw();
    product_.ldc = c_.ld();
    product_.bias = c.bias ? bias_.raw() : nullptr;
    product_.relu = c.relu;
    product_.accumulate = c.accumulate;
  }

  MatrixProduct& product() { return product_; }
  std::vector<double> result() const { return downloaded(c_); }
  double expected(int64_t row, int64_t column) const {
    double sum = case_.accumulate ? c_values_[static_cast<size_t>(row * case_.n + column)] : 0;
    for (int64_t i = 0; i < case_.k; ++i)
      sum += a_values_[static_cast<size_t>(case_.transposed_a ? i * case_.m + row : row * case_.k + i)] *
             b_values_[static_cast<size_t>(case_.transposed_b ? column * case_.k + i : i * case_.n + column)];
    if (case_.bias) sum += bias_values_[static_cast<size_t>(column)];
    return case_.relu ? std::max(0.0, sum) : sum;
  }
  void expect_right(double factor = 1) const {
    const std::vector<double> got = result();
    const double bound = factor * tolerance(case_.output, case_.k);
    for (int64_t row = 0; row < case_.m; ++row)
      for (int64_t column = 0; column < case_.n; ++column)
        ASSERT_NEAR(got[static_cast<size_t>(row * case_.n + column)], expected(row, column), bound)
            << "at " << row << "," << column << " of " << case_.m << "x" << case_.n << "x" << case_.k << " "
            << case_.input << " to " << case_.output << " T" << case_.transposed_a << case_.transposed_b << " +"
            << case_.extra << "@" << case_.offset;
    expect_surroundings_untouched(c_, case_.offset);
  }

 private:
  // (rows,columns) of numbers below 1 that `dtype` holds exactly, within a wider matrix of NaN.
  Tensor matrix(int64_t rows, int64_t columns, DType dtype, char name, std::vector<double>* values) {
    std::uniform_int_distribution<int> sixteenths(-15, 15);
    values->resize(static_cast<size_t>(rows * columns));
    for (double& value : *values) value = sixteenths(random_) / 16.0;
    const bool in_wider = case_.only == name || (case_.only == 0 && name != 'd');
    return device_tensor({rows, 1, 1, columns}, dtype, *values, in_wider ? case_.extra : 0,
                         in_wider ? case_.offset : 0);
  }

  ProductCase case_;
  std::mt19937 random_;
  Tensor a_, b_, c_, bias_;
  std::vector<double> a_values_, b_values_, c_values_, bias_values_;
  MatrixProduct product_;
};

class CudaLibraries : public testing::Test {
 protected:
  CudaLibraries() { emulation::clear_complaints(); }
  ~CudaLibraries() override {
    emulation::twin_options() = {};
    EXPECT_EQ(emulation::misuse_count(), 0) << emulation::last_complaint();
  }

  void multiply(ProductRun* run, const LibrarySettings& settings = {}) {
    MatrixProducts products(cublas_lt(), stream_, device_scratch(), settings);
    products.multiply(run->product());
    stream_.synchronize();
  }

  Stream stream_;
};

TEST_F(CudaLibraries, ProductsOfEveryKind) {
  MatrixProducts products(cublas_lt(), stream_, device_scratch(), {});
  for (DType input : kDtypes)
    for (DType output : {input, DType::kF32})
      for (bool ta : {false, true})
        for (bool tb : {false, true})
          for (int64_t channels : {1, 3, 24, 29, 58})
            for (int64_t extra : {0, 7}) {
              ProductRun run({33, channels, 70, input, output, ta, tb, extra, extra / 2});
              products.multiply(run.product());
              stream_.synchronize();
              run.expect_right();
            }
}

TEST_F(CudaLibraries, ProductsAccumulateAndTakeEpilogues) {
  MatrixProducts products(cublas_lt(), stream_, device_scratch(), {});
  for (DType dtype : kDtypes)
    for (int64_t extra : {0, 6})
      for (int kind = 0; kind < 3; ++kind) {
        ProductCase c{17, 58, 29, dtype, dtype, false, true, extra, extra / 2};
        c.accumulate = kind == 0;
        c.bias = kind > 0;
        c.relu = kind > 1;
        for (int repetition = 0; repetition < 2; ++repetition) {  // the second has a plan already
          ProductRun run(c);
          ASSERT_TRUE(!c.relu || products.fuses_relu(run.product()));
          products.multiply(run.product());
          stream_.synchronize();
          run.expect_right();
        }
      }
}

// An algorithm for aligned data must not be asked for where one of the four is not.
TEST_F(CudaLibraries, OneUnalignedMatrixIsEnough) {
  MatrixProducts products(cublas_lt(), stream_, device_scratch(), {});
  for (char only : {'a', 'b', 'c', 'd'})
    for (bool pitch : {false, true}) {
      ProductCase c{16, 32, 48, DType::kBF16, DType::kBF16, false, true, pitch ? 1 : 8, pitch ? 0 : 1};
      c.bias = true;
      c.only = only;
      ProductRun run(c);
      products.multiply(run.product());
      stream_.synchronize();
      run.expect_right();
    }
}

TEST_F(CudaLibraries, EmptyProductsDoNothing) {
  MatrixProducts products(cublas_lt(), stream_, device_scratch(), {});
  MatrixProduct nothing;
  nothing.n = nothing.k = 4;
  products.multiply(nothing);
  EXPECT_TRUE(products.choices().empty());
}

TEST_F(CudaLibraries, ImpossibleProductsSayWhy) {
  ProductRun run({4, 4, 4, DType::kBF16, DType::kF32, false, false, 0, 0});
  run.product().input = DType::kF32;
  run.product().output = DType::kF16;
  EXPECT_THROW(multiply(&run), Error);
  run.product().output = DType::kF32;
  run.product().ldc = 3;
  EXPECT_THROW(multiply(&run), Error);
}

TEST_F(CudaLibraries, ReluThatDropsNanIsNotFused) {
  for (bool keeps : {true, false}) {
    emulation::twin_options().relu_keeps_nan = keeps;
    for (DType dtype : kDtypes) {
      ProductCase c{5, 8, 16, dtype, dtype, false, true, 0, 0};
      c.bias = c.relu = true;
      ProductRun run(c);
      MatrixProducts products(cublas_lt(), stream_, device_scratch(), {});
      EXPECT_EQ(products.fuses_relu(run.product()), keeps) << dtype;
      products.multiply(run.product());  // the trial left nothing behind
      stream_.synchronize();
      run.expect_right();
    }
  }
}

TEST_F(CudaLibraries, Tf32RoundsFactorsOnlyWhereAllowed) {
  for (bool tf32 : {false, true}) {
    ProductRun run({4, 4, 4, DType::kF32, DType::kF32, false, false, 0, 0});
    const float value = 1 + 1.0f / 4096;  // tf32 has 10 bits behind the point
    const Tensor factor = device_tensor({4, 1, 1, 4}, DType::kF32, std::vector<double>(16, value));
    run.product().a.data = run.product().b.data = factor.raw();
    multiply(&run, {tf32, false});
    EXPECT_FLOAT_EQ(static_cast<float>(run.result()[0]), tf32 ? 4.0f : 4 * value * value);
  }
}

TEST_F(CudaLibraries, ProductChoicesAreMadeOnceAndLogged) {
  const ProductCase c{64, 16, 128, DType::kBF16, DType::kBF16, false, true, 0, 0};
  for (bool deterministic : {false, true}) {
    MatrixProducts products(cublas_lt(), stream_, device_scratch(), {false, deterministic});
    for (int repetition = 0; repetition < 2; ++repetition) {
      ProductRun run(c);
      products.multiply(run.product());
      stream_.synchronize();
    }
    ASSERT_EQ(products.choices().size(), 1u);
    EXPECT_NE(products.choices()[0].find("product 64x16x128 bf16"), std::string::npos) << products.choices()[0];
    EXPECT_EQ(products.choices()[0].find("first") != std::string::npos, deterministic) << products.choices()[0];
    EXPECT_EQ(products.choices()[0].find("algorithm 3"), std::string::npos) << "a reduction in bf16";
  }
}

TEST_F(CudaLibraries, AnotherAlgorithmIsTakenWhereTheFirstDoesNotRun) {
  emulation::twin_options().first_choice_runs = false;
  for (bool deterministic : {false, true}) {
    ProductRun run({16, 16, 128, DType::kBF16, DType::kF32, true, false, 0, 0});
    multiply(&run, {false, deterministic});
    run.expect_right();
    ProductRun added({16, 16, 128, DType::kBF16, DType::kF32, true, false, 0, 0, false, false, true});
    multiply(&added, {false, deterministic});  // which cannot be tried beforehand
    added.expect_right();
  }
}

// A gradient of few weights over many pixels: one block of an algorithm would sum all of them. Of the twin's algorithms
// for it two split k by themselves; the third is also tried with 16 and with 8 parts, which must not be fewer than 256.
TEST_F(CudaLibraries, LongSumsAreTriedInMoreParts) {
  const ProductCase c{7, 5, 4096, DType::kBF16, DType::kF32, true, false, 1, 0};
  for (bool deterministic : {false, true}) {
    MatrixProducts products(cublas_lt(), stream_, device_scratch(), {false, deterministic});
    ProductRun run(c);
    products.multiply(run.product());
    stream_.synchronize();
    run.expect_right();
    ASSERT_EQ(products.choices().size(), 1u);
    const std::string expected = deterministic ? "the library's first choice" : "of 5";
    EXPECT_NE(products.choices()[0].find(expected), std::string::npos) << products.choices()[0];
  }
}

TEST(SplitTails, AreLostWhereTheyAreTooShortForAllParts) {
  const struct {
    int64_t k, parts;
    bool lost;
  } cases[] = {
      {8196, 32, true},   // 128 blocks of 64, 4 each, and 4 for 32
      {8196, 16, true},   // the same
      {8196, 4, false},   // one for each
      {8196, 7, false},   // parts of different lengths
      {8196, 1, false},   // whole
      {8192, 32, false},  // no tail
      {8648, 9, true},    // 135 blocks of 64, 15 each, and 8 for 9
      {8648, 8, false},   // parts of different lengths
      {1057, 3, true},    // 33 blocks of 32, 11 each; of 64 and of 128 the parts would differ
      {200, 40, false},   // 6 blocks of 32
      {5156, 40, true},   // 40 blocks of 128, and 36 for 40
  };
  for (const auto& c : cases) EXPECT_EQ(may_lose_tail(c.k, c.parts), c.lost) << c.k << " in " << c.parts;
}

// Into how many parts k was split by the products that ran.
std::set<int32_t> parts_run;

cublasStatus_t matmul_noting_parts(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
                                   const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                                   cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                                   cublasLtMatrixLayout_t layout_c, void* d, cublasLtMatrixLayout_t layout_d,
                                   const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                                   cudaStream_t stream) {
  int32_t parts = 0;
  cublas_lt().algorithm_get(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, nullptr);
  parts_run.insert(parts);
  return cublas_lt().matmul(handle, operation, alpha, a, layout_a, b, layout_b, beta, c, layout_c, d, layout_d,
                            algorithm, workspace, workspace_bytes, stream);
}

// The twin loses the end of k where cuBLASLt was reported to. Its own splits are into 4 parts, ours into 32 and 16.
TEST_F(CudaLibraries, SplitsThatMayLoseTheEndOfKAreNotRun) {
  CublasLt library = cublas_lt();
  library.matmul = matmul_noting_parts;
  const std::map<int64_t, std::set<int32_t>> expected{
      {8192, {1, 4, 16, 32}}, {8194, {1}}, {8196, {1, 4}}, {8648, {1, 4, 16, 32}}};
  for (const auto& [k, parts] : expected)
    for (DType input : {DType::kBF16, DType::kF16})
      for (bool deterministic : {false, true}) {
        parts_run.clear();
        MatrixProducts products(library, stream_, device_scratch(), {false, deterministic});
        ProductRun run({7, 5, k, input, DType::kF32, true, false, 1, 0});
        products.multiply(run.product());
        stream_.synchronize();
        run.expect_right();
        const std::set<int32_t> first_choice{parts.count(4) > 0 ? 4 : 1};
        EXPECT_EQ(parts_run, deterministic ? first_choice : parts) << "k " << k;
      }
}

cublasStatus_t only_splits(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                           cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                           cublasLtMatmulPreference_t preference, int requested,
                           cublasLtMatmulHeuristicResult_t* results, int* found) {
  const cublasStatus_t status =
      cublas_lt().heuristic(handle, operation, a, b, c, d, preference, requested, results, found);
  const auto is_whole = [](const cublasLtMatmulHeuristicResult_t& result) {
    int32_t parts = 0;
    cublas_lt().algorithm_get(&result.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, nullptr);
    return parts < 2;
  };
  *found = static_cast<int>(std::remove_if(results, results + *found, is_whole) - results);
  return status;
}

TEST_F(CudaLibraries, WhereAllSplitsMayLoseTheEndOfKItIsSummedWhole) {
  CublasLt library = cublas_lt();
  library.heuristic = only_splits;
  library.matmul = matmul_noting_parts;
  for (bool deterministic : {false, true}) {
    parts_run.clear();
    MatrixProducts products(library, stream_, device_scratch(), {false, deterministic});
    ProductRun run({7, 5, 8194, DType::kBF16, DType::kF32, true, false, 1, 0});
    products.multiply(run.product());
    stream_.synchronize();
    run.expect_right();
    EXPECT_EQ(parts_run, std::set<int32_t>{1});
  }
}

// What algorithms can and are is asked for splits of ours, and for the log.
TEST_F(CudaLibraries, ProductsDoWithoutWhatTheLibraryDoesNotTell) {
  const auto without = [&](auto change) {
    CublasLt library = cublas_lt();
    change(&library);
    MatrixProducts products(library, stream_, device_scratch(), {});
    ProductRun run({7, 5, 4096, DType::kBF16, DType::kF32, true, false, 1, 0});
    products.multiply(run.product());
    stream_.synchronize();
    run.expect_right();
    return products.choices().at(0);
  };
  const std::string no_capability = without([](CublasLt* library) {
    library->algorithm_can = [](const cublasLtMatmulAlgo_t*, cublasLtMatmulAlgoCapAttributes_t, void*, size_t,
                                size_t*) { return CUBLAS_STATUS_NOT_SUPPORTED; };
  });
  EXPECT_NE(no_capability.find("of 3"), std::string::npos) << no_capability;  // the library's own
  const std::string no_splits = without([](CublasLt* library) {
    library->algorithm_set = [](cublasLtMatmulAlgo_t*, cublasLtMatmulAlgoConfigAttributes_t, const void*, size_t) {
      return CUBLAS_STATUS_INVALID_VALUE;
    };
  });
  EXPECT_NE(no_splits.find("of 3"), std::string::npos) << no_splits;
  const std::string no_numbers = without([](CublasLt* library) {
    library->algorithm_get = [](const cublasLtMatmulAlgo_t*, cublasLtMatmulAlgoConfigAttributes_t, void*, size_t,
                                size_t*) { return CUBLAS_STATUS_NOT_SUPPORTED; };
  });
  EXPECT_NE(no_numbers.find("algorithm unknown, "), std::string::npos) << no_numbers;
  EXPECT_NE(no_numbers.find("of 3"), std::string::npos) << no_numbers;
}

TEST_F(CudaLibraries, CapturedProductsReplay) {
  const ProductCase c{16, 24, 80, DType::kF32, DType::kF32, true, false, 0, 0};
  MatrixProducts products(cublas_lt(), stream_, device_scratch(), {});
  ProductRun run(c);
  products.multiply(run.product());
  stream_.synchronize();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  RIFFLE_CUDA(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
  products.multiply(run.product());
  RIFFLE_CUDA(cudaStreamEndCapture(stream_.get(), &graph));
  RIFFLE_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int repetition = 0; repetition < 2; ++repetition) {
    RIFFLE_CUDA(cudaMemsetAsync(run.product().c, 0xff, 16 * 24 * 4, stream_.get()));
    RIFFLE_CUDA(cudaGraphLaunch(executable, stream_.get()));
    stream_.synchronize();
    run.expect_right();
  }
  RIFFLE_CUDA(cudaGraphExecDestroy(executable));
  RIFFLE_CUDA(cudaGraphDestroy(graph));
}

}  // namespace
}  // namespace riffle
