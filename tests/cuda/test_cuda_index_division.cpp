// Quotients by multiplication against the language's own, at every place where they could be off by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "cuda/index_division.h"

namespace riffle {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int>::max();

std::vector<int64_t> divisors() {
  std::vector<int64_t> all;
  for (int64_t d = 1; d <= 300; ++d) all.push_back(d);
  for (int64_t power = 512; power <= kLargest; power *= 2)
    for (const int64_t d : {power - 1, power, power + 1}) all.push_back(d);
  for (const int64_t d : {641, 6700417, 715827883, 1431655765}) all.push_back(d);
  all.push_back(kLargest);
  return all;
}

TEST(IndexDivision, IsExact) {
  for (const int64_t d : divisors()) {
    const IndexDivisor by(d);
    const int64_t last = kLargest / d * d;  // the largest multiple
    std::vector<int64_t> places{0, kLargest, last};
    for (int64_t i = 1; i <= 200; ++i) places.push_back(last / d / 200 * i * d);
    for (const int64_t multiple : places)
      for (int64_t n = std::max<int64_t>(0, multiple - 1); n <= std::min(kLargest, multiple + 1); ++n) {
        ASSERT_EQ(by.quotient(static_cast<int>(n)), n / d) << n << " / " << d;
        ASSERT_EQ(by.remainder(static_cast<int>(n)), n % d) << n << " % " << d;
      }
  }
}

TEST(IndexDivision, RefusesWhatIsNoDivisor) {
  for (const int64_t d : {int64_t{0}, int64_t{-1}, kLargest + 1}) EXPECT_THROW(IndexDivisor{d}, Error) << d;
}

TEST(IndexDivision, FindsPixels) {
  const PixelIndex position(5, 7);
  for (int index = 0; index < 3 * 5 * 7; ++index) {
    const PixelPosition at = position(index);
    EXPECT_EQ(at.image, index / 35);
    EXPECT_EQ(at.row, index / 7 % 5);
    EXPECT_EQ(at.column, index % 7);
  }
}

}  // namespace
}  // namespace riffle
