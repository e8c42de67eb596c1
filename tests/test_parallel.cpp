// Parallel: every piece once, by any number of threads, whatever happens in a body; and many short loops in a row, which
// is what a training step is.
#include "core/cpu/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "core/check.h"

namespace riffle {
namespace {

class ParallelThreads : public testing::TestWithParam<int> {};

TEST_P(ParallelThreads, VisitsEveryPieceOnce) {
  Parallel parallel(GetParam());
  EXPECT_EQ(parallel.threads(), GetParam());
  for (int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count) + 1);
    parallel(count, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
    for (int64_t i = 0; i < count; ++i) EXPECT_EQ(visits[static_cast<size_t>(i)], 1) << i << " of " << count;
    EXPECT_EQ(visits.back(), 0);
  }
}

TEST_P(ParallelThreads, ThreadNumbersAreExclusive) {
  Parallel parallel(GetParam());
  std::vector<std::atomic<bool>> busy(static_cast<size_t>(GetParam()));
  std::atomic<int> collisions{0};
  for (int loop = 0; loop < 200; ++loop) {
    parallel(50, [&](int64_t, int thread) {
      if (busy.at(static_cast<size_t>(thread)).exchange(true)) ++collisions;
      busy[static_cast<size_t>(thread)] = false;
    });
  }
  EXPECT_EQ(collisions, 0);
}

TEST_P(ParallelThreads, LoopsOfChangingSizeDoNotMix) {
  // A thread that comes late must not run a piece of the next loop with this loop's body, or the reverse.
  Parallel parallel(GetParam());
  for (int64_t loop = 0; loop < 20000; ++loop) {
    const int64_t count = loop % 5 * 3 + 2;
    std::atomic<int64_t> sum{0};
    parallel(count, [&, loop](int64_t i) { sum += loop * 1000 + i; });
    ASSERT_EQ(sum, loop * 1000 * count + count * (count - 1) / 2) << "loop " << loop;
  }
}

TEST_P(ParallelThreads, RethrowsAndGoesOn) {
  Parallel parallel(GetParam());
  std::atomic<int> finished{0};
  const auto body = [&](int64_t i) {
    if (i == 3) fail("piece 3");
    ++finished;
  };
  EXPECT_THROW(parallel(40, body), Error);
  if (GetParam() > 1) {
    EXPECT_EQ(finished, 39);  // the others are not abandoned half-way
  }
  finished = 0;
  parallel(3, body);
  EXPECT_EQ(finished, 3);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelThreads, testing::Values(1, 2, 3, 8));

TEST(Parallel, RefusesNoThreads) {
  EXPECT_THROW(Parallel(0), Error);
}

TEST(Chunks, CoverTheItems) {
  for (int64_t items : {1, 15, 16, 17, 100}) {
    const Chunks chunks{items, 16};
    int64_t next = 0;
    for (int64_t i = 0; i < chunks.count(); ++i) {
      EXPECT_EQ(chunks[i].begin, next);
      EXPECT_GT(chunks[i].size(), 0);
      next = chunks[i].end;
    }
    EXPECT_EQ(next, items);
  }
}

}  // namespace
}  // namespace riffle
