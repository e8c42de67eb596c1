// Matrix products of bf16 on the CPU: against float64 on inputs rounded beforehand, every transposition and awkward
// size, and in a training step. Skipped where the processor lacks AVX512-BF16, which the backend must then say.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/cpu/cpu_backend.h"
#include "core/rng.h"
#include "tests/floating_formats.h"
#include "train/train_step.h"

namespace riffle {
namespace {

class CpuBF16 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cpu_has_bf16()) GTEST_SKIP() << cpu_model() << " has no AVX512-BF16";
  }
};

struct Product {
  Transpose a, b;
  int64_t m, n, k;
  bool accumulate;
};

constexpr int64_t kGap = 3;         // of each row, never read or written
constexpr float kSentinel = 12345;  // in the gaps of c

// The matrices of one product, with gaps in their rows: NaN in those of a and b.
struct Operands {
  explicit Operands(const Product& p, uint64_t seed, bool integers) : random(seed, RandomPurpose::kTest) {
    a = matrix(p.a == Transpose::kYes ? p.k : p.m, p.a == Transpose::kYes ? p.m : p.k, integers, std::nanf(""));
    b = matrix(p.b == Transpose::kYes ? p.n : p.k, p.b == Transpose::kYes ? p.k : p.n, integers, std::nanf(""));
    c = matrix(p.m, p.n, integers, kSentinel);
  }

  struct Matrix {
    std::vector<float> values;
    int64_t ld = 0;
    double at(int64_t row, int64_t column) const { return values[static_cast<size_t>(row * ld + column)]; }
  };

  Matrix matrix(int64_t rows, int64_t columns, bool integers, float gap) {
    Matrix result{{}, columns + kGap};
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < result.ld; ++column) {
        const double value = integers ? static_cast<double>(random.below(17)) - 8 : random.normal();
        result.values.push_back(column < columns ? static_cast<float>(value) : gap);
      }
    }
    return result;
  }

  RandomStream random;
  Matrix a, b, c;
};

void multiply(const Product& p, Operands& o) {
  gemm_bf16(p.a, p.b, p.m, p.n, p.k, o.a.values.data(), o.a.ld, o.b.values.data(), o.b.ld, p.accumulate,
            o.c.values.data(), o.c.ld);
}

// Every sum, from inputs rounded to bf16, with its bound: k roundings to f32 of the sum of magnitudes.
void expect_product(const Product& p, const Operands& before, const Operands& after, bool exact) {
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = p.accumulate ? before.c.at(i, j) : 0, magnitude = std::abs(sum);
      for (int64_t k = 0; k < p.k; ++k) {
        const double x = p.a == Transpose::kYes ? before.a.at(k, i) : before.a.at(i, k);
        const double y = p.b == Transpose::kYes ? before.b.at(j, k) : before.b.at(k, j);
        const double term = rounded_to(DType::kBF16, x) * rounded_to(DType::kBF16, y);
        sum += term;
        magnitude += std::abs(term);
      }
      const double bound = exact ? 0 : static_cast<double>(p.k + 1) * unit_roundoff(DType::kF32) * magnitude;
      ASSERT_NEAR(after.c.at(i, j), sum, bound) << i << ',' << j;
    }
    for (int64_t j = p.n; j < after.c.ld; ++j) ASSERT_EQ(after.c.at(i, j), kSentinel) << "row " << i << " overflows";
  }
}

TEST_F(CpuBF16, ProductsAreThoseOfRoundedInputs) {
  const int64_t sizes[][3] = {{1, 1, 1},     {12, 32, 2},   {13, 33, 3},   {7, 15, 31},     {5, 16, 33},
                              {121, 58, 58}, {64, 129, 24}, {58, 58, 255}, {130, 116, 257}, {3, 200, 515}};
  for (const Transpose a : {Transpose::kNo, Transpose::kYes}) {
    for (const Transpose b : {Transpose::kNo, Transpose::kYes}) {
      for (const auto& [m, n, k] : sizes) {
        for (const bool accumulate : {false, true}) {
          const Product product{a, b, m, n, k, accumulate};
          SCOPED_TRACE(join(m, "x", n, "x", k, a == Transpose::kYes ? " a^T" : "", b == Transpose::kYes ? " b^T" : "",
                            accumulate ? " accumulated" : ""));
          for (const bool integers : {true, false}) {
            Operands operands(product, /*seed=*/static_cast<uint64_t>(m * n + k), integers);
            const Operands before = operands;
            multiply(product, operands);
            expect_product(product, before, operands, /*exact=*/integers);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_F(CpuBF16, NonFiniteInputsShowInTheirRowOnly) {
  const Product product{Transpose::kNo, Transpose::kYes, 20, 40, 50, false};
  Operands operands(product, 1, /*integers=*/true);
  operands.a.values[static_cast<size_t>(3 * operands.a.ld + 7)] = std::nanf("");
  multiply(product, operands);
  for (int64_t i = 0; i < product.m; ++i) {
    for (int64_t j = 0; j < product.n; ++j) EXPECT_EQ(std::isnan(operands.c.at(i, j)), i == 3) << i << ',' << j;
  }
}

// Losses of a few steps on one batch.
std::vector<double> losses(Products products, int threads) {
  const auto backend = make_cpu_backend(threads, /*poison=*/true, products);
  ShuffleNetV2Config config = ShuffleNetV2Config::published("0.5x", Dialect::kTorchvision);
  config.classes = 10;
  ShuffleNetV2 network(*backend, config, /*seed=*/1);
  TrainStepOptions options;
  options.batch = 8;
  TrainStep step(*backend, network, options);
  RandomStream random(1, RandomPurpose::kTest);
  const Tensor x = backend->empty({options.batch, 64, 64, 3}, DType::kF32);
  std::vector<float> pixels(static_cast<size_t>(x.elements()));
  for (float& pixel : pixels) pixel = static_cast<float>(random.normal());
  backend->upload(pixels.data(), DType::kF32, x);
  const Tensor labels = backend->empty({options.batch, 1, 1, 1}, DType::kI32);
  const std::vector<int32_t> classes{0, 1, 2, 3, 4, 5, 6, 7};
  backend->upload(classes.data(), DType::kI32, labels);
  std::vector<double> result;
  for (int i = 0; i < 12; ++i) {
    step.begin(/*lr=*/0.05);
    step.forward_backward(Variable(x), labels);
    step.finish();
    result.push_back(step.read_metrics().loss());
  }
  return result;
}

TEST_F(CpuBF16, LearnsABatchAsF32Does) {
  const std::vector<double> f32 = losses(Products::kF32, 2), bf16 = losses(Products::kBF16, 2);
  EXPECT_NEAR(bf16.front(), f32.front(), 0.01 * f32.front());
  EXPECT_NE(bf16.front(), f32.front()) << "nothing was rounded";
  EXPECT_LT(bf16.back(), 0.5 * bf16.front());
  EXPECT_LT(f32.back(), 0.5 * f32.front());
}

TEST_F(CpuBF16, DoesNotDependOnThreads) {
  EXPECT_EQ(losses(Products::kBF16, 1), losses(Products::kBF16, 2));
}

TEST(CpuWithoutBF16, SaysSo) {
  if (cpu_has_bf16()) GTEST_SKIP() << "this processor has it";
  try {
    make_cpu_backend(1, /*poison=*/false, Products::kBF16);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("AVX512-BF16"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace riffle
