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

TEST(ParityHarness, SeesUseOfOldOutput) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  Case test(*backend);
  const Argument x = test.input({1, 1, 1, 4}), y = test.output({1, 1, 1, 4});
  test.run([&](Backend& b, Side side) { b.copy(x[side], Write::kAccumulate, y[side]); });
  for (double value : test.got(y)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace riffle
