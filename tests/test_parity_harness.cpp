// The parity harness itself must notice what it claims to: wrong values, stray writes, changed inputs, unwritten
// outputs.
#include <gtest/gtest-spi.h>

#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

// Copies x to y on the reference, and does `mistake` to the backend under test. Whether the harness objects.
bool objects(const std::function<void(Backend& backend, const Tensor& x, const Tensor& y)>& mistake) {
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    const std::unique_ptr<Backend> backend = make_reference_backend();
    Case test(*backend);
    const Argument x = test.input({2, 2, 3, 4}, kSlice), y = test.output({2, 2, 3, 4}, kSlice);
    test.run([&](Backend& b, Side side) {
      b.copy(x[side], Write::kOverwrite, y[side]);
      if (side == Side::kTest) mistake(b, x[side], y[side]);
    });
    test.expect_sum(y, 1);
  }
  return failures.size() > 0;
}

// Element `i` elements away from the first one, inside the buffer or around the argument.
double& at(const Tensor& x, int64_t i) {
  return x.data<double>()[i];
}

TEST(ParityHarness, AcceptsWhatIsRight) {
  EXPECT_FALSE(objects([](Backend&, const Tensor&, const Tensor&) {}));
  EXPECT_FALSE(objects([](Backend&, const Tensor&, const Tensor& y) { at(y, 0) *= 1 + kRounding; }));
}

TEST(ParityHarness, SeesWrongValues) {
  EXPECT_TRUE(objects([](Backend&, const Tensor&, const Tensor& y) { at(y, 0) *= 1 + 4 * kRounding; }));
  EXPECT_TRUE(objects([](Backend&, const Tensor&, const Tensor& y) { at(y, 11 * y.ld() + 3) = 9; }));
  EXPECT_TRUE(objects([](Backend&, const Tensor&, const Tensor& y) { at(y, 5 * y.ld()) = std::nan(""); }));
}

TEST(ParityHarness, SeesStrayWrites) {
  for (int64_t channel : {-1, 4})
    EXPECT_TRUE(objects([&](Backend&, const Tensor&, const Tensor& y) { at(y, channel) = 0; })) << channel;
  for (int64_t row : {-1, 12})
    EXPECT_TRUE(objects([&](Backend&, const Tensor&, const Tensor& y) { at(y, row * y.ld()) = 0; })) << row;
}

TEST(ParityHarness, SeesChangedInputs) {
  EXPECT_TRUE(objects([](Backend&, const Tensor& x, const Tensor&) { at(x, 2) = 0; }));
}

TEST(ParityHarness, SeesReadsFromOutside) {
  EXPECT_TRUE(objects([](Backend&, const Tensor& x, const Tensor& y) { at(y, 3) += 0 * at(x, 4); }));
}

TEST(FloatingFormats, RoundToTheNearestAndThenToTheEven) {
  const auto at = [](int exponent) { return std::ldexp(1.0, exponent); };
  EXPECT_EQ(rounded_to(DType::kBF16, 1 + at(-8)), 1);
  EXPECT_EQ(rounded_to(DType::kBF16, 1 + 3 * at(-8)), 1 + at(-6));
  EXPECT_EQ(rounded_to(DType::kBF16, 1 + at(-8) + at(-30)), 1 + at(-7));
  EXPECT_EQ(rounded_to(DType::kBF16, -257), -256);
  EXPECT_EQ(rounded_to(DType::kBF16, -259), -260);
  EXPECT_EQ(rounded_to(DType::kF16, 2049), 2048);
  EXPECT_EQ(rounded_to(DType::kF16, 65519), 65504);
  EXPECT_EQ(rounded_to(DType::kF16, -65520), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(rounded_to(DType::kF16, at(-25)), 0);
  EXPECT_EQ(rounded_to(DType::kF16, 3 * at(-25)), at(-23));
  EXPECT_TRUE(std::isnan(rounded_to(DType::kF16, std::nan(""))));
  EXPECT_EQ(rounded_to(DType::kF64, 0.1), 0.1);
  RandomStream random(1, RandomPurpose::kTest);
  for (int i = 0; i < 100000; ++i) {
    const double value = std::ldexp(random.normal(), static_cast<int>(random.below(300)) - 160);  // subnormal ones too
    ASSERT_EQ(rounded_to(DType::kF32, value), static_cast<float>(value)) << value;
  }
}

TEST(FloatingFormats, SpacingIsBetweenNeighbours) {
  EXPECT_EQ(spacing(DType::kBF16, 255), 1);
  EXPECT_EQ(spacing(DType::kBF16, -256), 2);
  EXPECT_EQ(spacing(DType::kF16, 1), std::ldexp(1.0, -10));
  EXPECT_EQ(spacing(DType::kF16, 0), std::ldexp(1.0, -24));
  for (float value : {1.0f, 1.999f, 3e-39f, 1e30f})
    EXPECT_EQ(spacing(DType::kF32, value), double{std::nextafter(value, 2e38f)} - double{value}) << value;
}

TEST(ParityHarness, PartsTogetherAreTheWhole) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  for (int64_t channels : {1, 2, 7, 29, 232})
    for (size_t count : {1, 2, 3, 5}) {
      Case test(*backend);
      const Shape shape{2, 3, 2, channels};
      const Parts parts = test.input_parts(shape, count, test.draw(shape));
      EXPECT_EQ(parts[Side::kTest].shape(), shape);
      EXPECT_EQ(parts.arguments.size(), std::min(count, static_cast<size_t>(channels)));
    }
}

TEST(ParityHarness, SeesUseOfOldOutput) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  Case test(*backend);
  const Argument x = test.input({1, 1, 1, 4}), y = test.output({1, 1, 1, 4});
  test.run([&](Backend& b, Side side) { b.copy(x[side], Write::kAccumulate, y[side]); });
  for (double value : test.got(y)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace riffle
