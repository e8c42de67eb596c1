// Finding NVIDIA's libraries; and MatrixProducts on the emulated device with the twin of cuBLASLt: results against
// plain loops, what is chosen, and that the twin refuses what cuBLASLt refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <vector>

#include "cuda/device_types.h"
#include "cuda/emulation/control.h"
#include "cuda/emulation/library_twins.h"
#include "cuda/matrix_products.h"
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

TEST(LibraryFolders, PythonsPackagesAreFoundWithoutPython) {
  const std::filesystem::path prefix = std::filesystem::path(testing::TempDir()) / "riffle_python";
  const std::filesystem::path expected = prefix / "lib/python3.12/site-packages/nvidia/cudnn/lib";
  std::filesystem::create_directories(expected);
  setenv("VIRTUAL_ENV", prefix.c_str(), 1);
  setenv("RIFFLE_CUDA_LIBRARIES", "/one:/other", 1);
  const LibraryFolders folders = library_folders();
  unsetenv("RIFFLE_CUDA_LIBRARIES");
  unsetenv("VIRTUAL_ENV");
  EXPECT_EQ(folders.preferred, (std::vector<std::string>{"/one", "/other"}));
  ASSERT_FALSE(folders.others.empty());
  EXPECT_EQ(folders.others.front(), expected.string());
  std::filesystem::remove_all(prefix);
}

// The python3 in PATH may be a link into a virtual environment, by way of another.
TEST(LibraryFolders, LinksToPythonAreFollowed) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / "riffle_links";
  fs::remove_all(root);
  const fs::path expected = root / "venv/lib/python3.12/site-packages/nvidia/cu13/lib";
  for (const fs::path& folder : {root / "bin", root / "opt", root / "venv/bin", root / "system/bin", expected})
    fs::create_directories(folder);
  std::ofstream(root / "system/bin/python3") << "";
  fs::create_symlink("../../system/bin/python3", root / "venv/bin/python3");
  fs::create_symlink(root / "venv/bin/python3", root / "opt/python");
  fs::create_symlink("../opt/python", root / "bin/python3");
  const std::string path = std::getenv("PATH");
  setenv("PATH", (root / "bin").c_str(), 1);
  const std::vector<std::string> folders = library_folders().others;
  setenv("PATH", path.c_str(), 1);
  EXPECT_NE(std::find(folders.begin(), folders.end(), expected.string()), folders.end());
  fs::remove_all(root);
}

// cuDNN's files for CUDA 12 and 13 have one name.
TEST(Libraries, CudnnOfAnotherCudaIsRefused) {
  Cudnn library = cudnn();
  EXPECT_NO_THROW(check_cuda_of(library));
  library.cudart_version = [] { return size_t{11080}; };
  try {
    check_cuda_of(library);
    FAIL() << "a cuDNN for CUDA 11";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* part : {"the one for CUDA 11.8", "built for CUDA ", "RIFFLE_CUDA_LIBRARIES", "nvidia-cudnn-cu"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  }
}

// --- what the twin refuses, as cuBLASLt does ---

// A product by hand, with one rule broken by the caller.
struct HandMade {
  explicit HandMade(cudaDataType_t type = CUDA_R_16BF) : lt(cublas_lt()) {
    lt.create(&handle);
    lt.matmul_create(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    lt.layout_create(&layout, type, 16, 16, 16);
    lt.preference_create(&preference);
    const uint64_t workspace_bytes = 1 << 20;
    lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes);
  }
  ~HandMade() {
    lt.preference_destroy(preference);
    lt.layout_destroy(layout);
    lt.matmul_destroy(operation);
    lt.destroy(handle);
  }
  cublasStatus_t search() {
    return lt.heuristic(handle, operation, layout, layout, layout, layout, preference, 1, &result, &found);
  }
  cublasStatus_t run(const void* a, void* d) {
    const float one = 1, zero = 0;
    return lt.matmul(handle, operation, &one, a, layout, a, layout, &zero, d, layout, d, layout, &result.algo, nullptr,
                     0, nullptr);
  }

  const CublasLt& lt;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t layout = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
};

// The twin computes the same, split or not, but holds a split to its workspace.
TEST_F(CudaLibraries, TheTwinChecksSplits) {
  HandMade made;
  ASSERT_EQ(made.search(), CUBLAS_STATUS_SUCCESS);  // which finds the algorithm for aligned data
  const auto split_with = [&](int32_t parts, uint32_t scheme) {
    EXPECT_EQ(made.lt.algorithm_set(&made.result.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(made.lt.algorithm_set(&made.result.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme),
              CUBLAS_STATUS_SUCCESS);
    return made.lt.algorithm_check(made.handle, made.operation, made.layout, made.layout, made.layout, made.layout,
                                   &made.result.algo, &made.result);
  };
  EXPECT_EQ(split_with(4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), CUBLAS_STATUS_NOT_SUPPORTED) << "cannot split";
  const uint32_t alignment = 2;
  made.lt.preference_set(made.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment);
  ASSERT_EQ(made.search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(split_with(4, CUBLASLT_REDUCTION_SCHEME_NONE), CUBLAS_STATUS_NOT_SUPPORTED) << "no scheme";
  ASSERT_EQ(split_with(4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(made.result.workspaceSize, 4u * 16 * 16 * sizeof(float));
  const Tensor memory = device_tensor({16, 1, 1, 32}, DType::kBF16, std::vector<double>(512, 0.0));
  char* const base = static_cast<char*>(memory.raw());
  EXPECT_EQ(made.run(base, base + 512), CUBLAS_STATUS_INVALID_VALUE) << "without its workspace";
  EXPECT_EQ(emulation::misuse_count(), 1);
  emulation::clear_complaints();
}

TEST_F(CudaLibraries, TheTwinRefusesWhatCublasLtRefuses) {
  const Tensor memory = device_tensor({16, 1, 1, 32}, DType::kBF16, std::vector<double>(512, 0.0));
  char* const base = static_cast<char*>(memory.raw());
  HandMade made;
  ASSERT_EQ(made.search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(made.run(base, base + 512), CUBLAS_STATUS_SUCCESS);
  RIFFLE_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(made.run(base + 2, base + 512), CUBLAS_STATUS_INVALID_VALUE) << "the algorithm was asked for aligned data";
  EXPECT_NE(emulation::last_complaint().find("A is not aligned"), std::string::npos) << emulation::last_complaint();
  std::vector<char> host(512);
  EXPECT_EQ(made.run(base, host.data()), CUBLAS_STATUS_INVALID_VALUE) << "host memory";
  EXPECT_EQ(made.run(base, base + 1024 - 256), CUBLAS_STATUS_INVALID_VALUE) << "beyond the allocation";
  const uint32_t alignment = 2;
  made.lt.preference_set(made.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment);
  ASSERT_EQ(made.search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(made.run(base + 2, base + 512), CUBLAS_STATUS_SUCCESS) << emulation::last_complaint();
  RIFFLE_CUDA(cudaDeviceSynchronize());
  const int32_t transposed = CUBLAS_OP_T;
  made.lt.matmul_set(made.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
  EXPECT_EQ(made.run(base, base + 512), CUBLAS_STATUS_INVALID_VALUE) << "the algorithm of another problem";
  EXPECT_EQ(made.lt.matmul_set(made.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, 8),
            CUBLAS_STATUS_INVALID_VALUE);
  HandMade doubles(CUDA_R_64F);
  EXPECT_EQ(doubles.search(), CUBLAS_STATUS_NOT_SUPPORTED) << "f64 factors with f32 sums";
  EXPECT_EQ(emulation::misuse_count(), 5);
  emulation::clear_complaints();
}

}  // namespace
}  // namespace riffle
