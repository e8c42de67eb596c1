// Random numbers: Philox against the published vectors, and the distributions drawn from it.
#include "core/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "core/check.h"

namespace riffle {
namespace {

struct KnownAnswer {
  uint32_t counter[4], key[2], words[4];
};

// The known-answer vectors of the Random123 distribution for philox4x32 with 10 rounds.
TEST(Philox, KnownAnswers) {
  const KnownAnswer answers[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const KnownAnswer& answer : answers) {
    const PhiloxKey key{answer.key[0], answer.key[1], answer.counter[2], answer.counter[3]};
    const PhiloxBlock block = philox(key, (static_cast<uint64_t>(answer.counter[1]) << 32) | answer.counter[0]);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(block.v[i], answer.words[i]) << "word " << i;
  }
}

TEST(RandomStream, WordsAreThoseOfItsKey) {
  RandomStream stream(7, RandomPurpose::kTest, 1, 2);
  for (uint64_t block = 0; block < 3; ++block)
    for (int i = 0; i < 4; ++i) EXPECT_EQ(stream.next_u32(), philox(stream.key(), block).v[i]);
}

TEST(RandomStream, IsAFunctionOfItsCoordinates) {
  std::set<std::vector<uint32_t>> seen;
  int streams = 0;
  for (uint64_t seed : {0, 1, 2})
    for (RandomPurpose purpose : {RandomPurpose::kInitialise, RandomPurpose::kAugment, RandomPurpose::kTest})
      for (uint64_t a : {0, 1, 2, 1000})
        for (uint64_t b : {0, 1, 2, 1000}) {
          RandomStream stream(seed, purpose, a, b), again(seed, purpose, a, b);
          std::vector<uint32_t> words;
          for (int i = 0; i < 8; ++i) {
            words.push_back(stream.next_u32());
            EXPECT_EQ(again.next_u32(), words.back());
          }
          seen.insert(words);
          ++streams;
        }
  EXPECT_EQ(static_cast<int>(seen.size()), streams);  // (a, b) and (b, a) included
}

// Pearson's chi-squared statistic of counts that should be equal.
double chi_squared(const std::vector<int64_t>& counts) {
  const double total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  const double expected = total / static_cast<double>(counts.size());
  double sum = 0;
  for (int64_t count : counts) sum += std::pow(static_cast<double>(count) - expected, 2) / expected;
  return sum;
}

// The statistic has mean k-1 and variance 2(k-1); five deviations are passed by chance once in a million. The streams
// are fixed, so a pass stays a pass.
double chi_squared_limit(size_t bins) {
  const double freedom = static_cast<double>(bins - 1);
  return freedom + 5 * std::sqrt(2 * freedom);
}

TEST(RandomStream, UniformIsUniform) {
  RandomStream stream(1, RandomPurpose::kTest);
  std::vector<int64_t> counts(64);
  for (int i = 0; i < 200000; ++i) {
    const double value = stream.uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    ++counts[static_cast<size_t>(value * 64)];
  }
  EXPECT_LT(chi_squared(counts), chi_squared_limit(counts.size()));
}

TEST(RandomStream, UniformKeepsItsBounds) {
  RandomStream stream(2, RandomPurpose::kTest);
  double low = 10, high = -10;
  for (int i = 0; i < 10000; ++i) {
    const double value = stream.uniform(-3, 5);
    low = std::min(low, value);
    high = std::max(high, value);
  }
  EXPECT_GE(low, -3);
  EXPECT_LT(low, -2.98);
  EXPECT_LT(high, 5);
  EXPECT_GT(high, 4.98);
}

// First draws of neighbouring streams must be as independent as draws of one stream.
TEST(RandomStream, NeighbouringStreamsAreIndependent) {
  std::vector<int64_t> first(32), pairs(64);
  for (uint64_t sample = 0; sample < 20000; ++sample) {
    RandomStream stream(1, RandomPurpose::kTest, 3, sample), next(1, RandomPurpose::kTest, 3, sample + 1);
    const double a = stream.uniform(), b = next.uniform();
    ++first[static_cast<size_t>(a * 32)];
    ++pairs[static_cast<size_t>(a * 8) * 8 + static_cast<size_t>(b * 8)];
  }
  EXPECT_LT(chi_squared(first), chi_squared_limit(first.size()));
  EXPECT_LT(chi_squared(pairs), chi_squared_limit(pairs.size()));
}

TEST(RandomStream, BelowIsUnbiased) {
  for (int64_t bound : {1, 2, 3, 7, 10, 48}) {
    RandomStream stream(3, RandomPurpose::kTest, static_cast<uint64_t>(bound));
    std::vector<int64_t> counts(static_cast<size_t>(bound));
    for (int i = 0; i < 100000; ++i) {
      const int64_t value = stream.below(bound);
      ASSERT_GE(value, 0);
      ASSERT_LT(value, bound);
      ++counts[static_cast<size_t>(value)];
    }
    EXPECT_LE(chi_squared(counts), chi_squared_limit(counts.size())) << "bound " << bound;
  }
}

// With 3 * 2^30 values, taking 32 bits modulo or by multiplication alone would favour a third of them by 2 to 1.
TEST(RandomStream, BelowIsUnbiasedForHugeBounds) {
  constexpr int64_t kBound = int64_t{3} << 30;
  RandomStream stream(4, RandomPurpose::kTest);
  std::vector<int64_t> by_range(3), by_remainder(3);
  for (int i = 0; i < 60000; ++i) {
    const int64_t value = stream.below(kBound);
    ++by_range[static_cast<size_t>(value >> 30)];
    ++by_remainder[static_cast<size_t>(value % 3)];
  }
  EXPECT_LT(chi_squared(by_range), chi_squared_limit(3));
  EXPECT_LT(chi_squared(by_remainder), chi_squared_limit(3));
  EXPECT_NO_THROW(stream.below(int64_t{1} << 32));
  EXPECT_THROW(stream.below(0), Error);
  EXPECT_THROW(stream.below((int64_t{1} << 32) + 1), Error);
}

TEST(RandomStream, NormalHasItsMoments) {
  constexpr int kDraws = 200000;
  RandomStream stream(5, RandomPurpose::kTest);
  double sums[5] = {};
  int64_t beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = stream.normal();
    ASSERT_TRUE(std::isfinite(value));
    for (int power = 1; power <= 4; ++power) sums[power] += std::pow(value, power) / kDraws;
    beyond_two += std::abs(value) > 2 ? 1 : 0;
  }
  // Each bound is five standard errors: sqrt(1/n), sqrt(2/n), sqrt(15/n), sqrt(96/n), sqrt(p(1-p)/n).
  const double root = std::sqrt(static_cast<double>(kDraws));
  EXPECT_NEAR(sums[1], 0, 5 / root);
  EXPECT_NEAR(sums[2], 1, 5 * std::sqrt(2.0) / root);
  EXPECT_NEAR(sums[3], 0, 5 * std::sqrt(15.0) / root);
  EXPECT_NEAR(sums[4], 3, 5 * std::sqrt(96.0) / root);
  EXPECT_NEAR(static_cast<double>(beyond_two) / kDraws, 0.0455003, 5 * std::sqrt(0.0455 * 0.9545) / root);
}

TEST(RandomStream, FlipHasItsProbability) {
  RandomStream stream(6, RandomPurpose::kTest);
  constexpr int kDraws = 100000;
  int heads = 0;
  for (int i = 0; i < kDraws; ++i) {
    heads += stream.flip(0.2) ? 1 : 0;
    ASSERT_FALSE(stream.flip(0));
    ASSERT_TRUE(stream.flip(1));
  }
  EXPECT_NEAR(static_cast<double>(heads) / kDraws, 0.2, 5 * std::sqrt(0.16 / kDraws));
}

TEST(RandomPermutation, IsAPermutationAndAFunctionOfItsArguments) {
  for (int64_t size : {0, 1, 2, 7, 1000}) {
    const auto order = random_permutation(size, 1, RandomPurpose::kShuffleEpoch, 0);
    EXPECT_EQ(order, random_permutation(size, 1, RandomPurpose::kShuffleEpoch, 0));
    std::vector<int64_t> sorted = order, identity(static_cast<size_t>(size));
    std::sort(sorted.begin(), sorted.end());
    std::iota(identity.begin(), identity.end(), int64_t{0});
    EXPECT_EQ(sorted, identity);
    if (size < 7) continue;
    EXPECT_NE(order, random_permutation(size, 1, RandomPurpose::kShuffleEpoch, 1));
    EXPECT_NE(order, random_permutation(size, 2, RandomPurpose::kShuffleEpoch, 0));
  }
}

TEST(RandomPermutation, AllOrdersAreEquallyLikely) {
  std::vector<int64_t> counts(24);
  for (uint64_t epoch = 0; epoch < 24000; ++epoch) {
    const auto order = random_permutation(4, 1, RandomPurpose::kTest, epoch);
    // The order's number in the factorial number system.
    size_t number = 0;
    for (size_t i = 0; i < 4; ++i) {
      size_t smaller_after = 0;
      for (size_t j = i + 1; j < 4; ++j) smaller_after += order[j] < order[i] ? 1 : 0;
      number = number * (4 - i) + smaller_after;
    }
    ++counts[number];
  }
  EXPECT_LT(chi_squared(counts), chi_squared_limit(counts.size()));
}

TEST(Dropout, KeepsWithItsProbability) {
  const PhiloxKey key = RandomStream(1, RandomPurpose::kDropout).key();
  constexpr int kDraws = 100000;
  for (float rate : {0.0f, 0.2f, 0.5f}) {
    int kept = 0;
    for (int64_t i = 0; i < kDraws; ++i) kept += dropout_keeps(key, /*step=*/0, i, rate) ? 1 : 0;
    const double keep = 1.0 - rate;
    EXPECT_NEAR(kept / static_cast<double>(kDraws), keep, 5 * std::sqrt(keep * rate / kDraws)) << "rate " << rate;
  }
}

}  // namespace
}  // namespace riffle
