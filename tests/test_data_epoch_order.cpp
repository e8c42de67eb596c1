// Orders of epochs: every image once, shards from front to back, and the parts of several processes.
#include <algorithm>
#include <numeric>
#include <set>

#include "tests/loader_data.h"

namespace riffle {
namespace {

// Shards of odd sizes, whose images are no consecutive numbers.
std::vector<std::vector<int64_t>> some_shards(int64_t count, int64_t images) {
  std::vector<std::vector<int64_t>> shards(static_cast<size_t>(count));
  for (int64_t i = 0; i < images; ++i) shards[static_cast<size_t>(i * i % count)].push_back(i);
  return shards;
}

std::vector<int64_t> numbers(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return numbers;
}

std::vector<int64_t> sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

TEST(ShardOrder, EveryImageExactlyOnce) {
  for (const int64_t count : {1, 2, 7, 40})
    for (const int window : {1, 3, 16, 100})
      EXPECT_EQ(sorted(shard_order(some_shards(count, 501), window, 3, 2)), numbers(501)) << count << ", " << window;
  EXPECT_TRUE(shard_order({{}, {}}, 4, 1, 0).empty());
}

TEST(ShardOrder, IsAFunctionOfSeedAndEpoch) {
  const auto shards = some_shards(9, 300);
  const auto order = shard_order(shards, 4, 3, 2);
  EXPECT_EQ(order, shard_order(shards, 4, 3, 2));
  EXPECT_NE(order, shard_order(shards, 4, 3, 1));
  EXPECT_NE(order, shard_order(shards, 4, 2, 2));
}

// A shard's images come in their order, wrapping around once; at most `window` shards are open at a time.
TEST(ShardOrder, ReadsEachShardFromFrontToBack) {
  constexpr int64_t kShards = 31, kImages = 1200;
  const auto shards = some_shards(kShards, kImages);
  for (const int window : {1, 4, 31}) {
    const auto order = shard_order(shards, window, 5, 0);
    std::vector<int64_t> place(kImages), begin(kShards, -1), end(kShards, -1), last(kShards, -1),
        steps_back(kShards, 0);
    for (const auto& shard : shards)
      for (size_t i = 0; i < shard.size(); ++i) place[static_cast<size_t>(shard[i])] = static_cast<int64_t>(i);
    for (size_t i = 0; i < order.size(); ++i) {
      const auto shard = static_cast<size_t>(order[i] * order[i] % kShards);
      const int64_t at = place[static_cast<size_t>(order[i])];
      if (begin[shard] < 0) {
        begin[shard] = static_cast<int64_t>(i);
      } else if (at != last[shard] + 1) {
        EXPECT_EQ(at, 0) << "a shard goes on at its beginning";
        ++steps_back[shard];
      }
      last[shard] = at;
      end[shard] = static_cast<int64_t>(i);
    }
    EXPECT_LE(*std::max_element(steps_back.begin(), steps_back.end()), 1);
    for (int64_t i = 0; i < kImages; ++i) {
      int open = 0;
      for (size_t s = 0; s < kShards; ++s) open += begin[s] >= 0 && begin[s] <= i && i <= end[s] ? 1 : 0;
      EXPECT_LE(open, window);
    }
  }
}

// Else neighbours at a shard's beginning would come together in every epoch.
TEST(ShardOrder, BeginsAShardAnywhere) {
  const std::vector<std::vector<int64_t>> one{numbers(100)};
  std::set<int64_t> starts;
  for (int64_t epoch = 0; epoch < 200; ++epoch) starts.insert(shard_order(one, 1, 3, epoch).front());
  EXPECT_GT(starts.size(), 60u);  // of 100, 87 are expected
}

// Each eighth of a batch's worth of images should come from each open shard about equally, in every epoch.
TEST(ShardOrder, MixesTheOpenShards) {
  std::vector<std::vector<int64_t>> shards(8);
  for (int64_t i = 0; i < 8 * 512; ++i) shards[static_cast<size_t>(i / 512)].push_back(i);
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    const auto order = shard_order(shards, 8, 1, epoch);
    for (size_t first = 0; first < order.size(); first += 256) {
      std::vector<int> counts(8);
      for (size_t i = first; i < first + 256; ++i) ++counts[static_cast<size_t>(order[i] / 512)];
      // Hypergeometric: mean 32, standard deviation below 5.3; six of them.
      for (const int count : counts) EXPECT_NEAR(count, 32, 32);
      EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 0);
    }
  }
}

TEST(RankPart, EveryImageIsOneRanks) {
  for (const int ranks : {1, 2, 3, 8})
    for (const int64_t size : {1, 7, 8, 9, 100, 101}) {
      std::vector<int64_t> all;
      for (int rank = 0; rank < ranks; ++rank) {
        const RankPart part{rank, ranks};
        for (int64_t i = 0; i < part.count(size); ++i) all.push_back(part.global(i));
      }
      EXPECT_EQ(sorted(all), numbers(size)) << ranks << " ranks, " << size << " images";
    }
}

// The images of one process's batch, interleaved over the processes, are the batch of a single one.
CopiedBatch united(const std::vector<std::vector<CopiedBatch>>& of_ranks, size_t step) {
  CopiedBatch batch;
  const size_t images = of_ranks[0][step].indices.size();
  for (size_t i = 0; i < images; ++i)
    for (const auto& rank : of_ranks) {
      const CopiedBatch& part = rank[step];
      const size_t bytes = part.images.size() / images;
      batch.indices.push_back(part.indices[i]);
      batch.labels.push_back(part.labels[i]);
      batch.images.insert(batch.images.end(), part.images.begin() + static_cast<int64_t>(i * bytes),
                          part.images.begin() + static_cast<int64_t>((i + 1) * bytes));
    }
  return batch;
}

TEST(LoaderRanks, TheUnionOfBatchesIsTheSingleProcesssBatch) {
  for (const int64_t size : {101, 128}) {
    SyntheticDataset data(size, {7, 31});
    data.shard_count = 6;
    for (const Shuffle shuffle : {Shuffle::kFull, Shuffle::kShards})
      for (const int repeats : {1, 4}) {
        LoaderOptions options = training_options(24);
        options.shuffle = shuffle;
        options.shuffle_window = 3;
        options.repeats = repeats;
        options.max_bad_images = 5;
        const auto single = whole_epoch(data, options, 3);
        for (const int ranks : {1, 2, 3, 8}) {
          std::vector<std::vector<CopiedBatch>> of_ranks;
          for (int rank = 0; rank < ranks; ++rank) {
            options.batch = 24 / ranks;
            options.part = {rank, ranks};
            of_ranks.push_back(whole_epoch(data, options, 3));
            ASSERT_EQ(of_ranks.back().size(), single.size()) << "equal numbers of steps";
          }
          for (size_t step = 0; step < single.size(); ++step) EXPECT_EQ(united(of_ranks, step), single[step]);
        }
      }
  }
}

TEST(LoaderRanks, EvaluationUsesEveryImageOnce) {
  for (const int64_t size : {1, 7, 64, 101})
    for (const int ranks : {1, 2, 3, 8}) {
      const SyntheticDataset data(size);
      std::vector<int64_t> all;
      for (int rank = 0; rank < ranks; ++rank) {
        LoaderOptions options = evaluation_options(10);
        options.part = {rank, ranks};
        Loader loader(data, options);
        loader.start_epoch(0);
        int64_t images = 0;
        for (const CopiedBatch& batch : rest_of_epoch(loader)) {
          all.insert(all.end(), batch.indices.begin(), batch.indices.end());
          images += static_cast<int64_t>(batch.indices.size());
        }
        EXPECT_EQ(images, loader.images_per_epoch());
      }
      EXPECT_EQ(sorted(all), numbers(size)) << ranks << " ranks, " << size << " images";
    }
}

TEST(LoaderRanks, MoreThanTheDataIsAnError) {
  const SyntheticDataset data(20);
  LoaderOptions options = training_options(7);
  options.part = {0, 3};
  expect_error([&] { Loader(data, options); }, {"batch of 7 in each of 3 processes", "at most 6"});
  options.part = {3, 3};
  expect_error([&] { Loader(data, options); }, {"rank 3 of 3"});
}

TEST(LoaderShuffle, ThreadsChangeNothingInShards) {
  SyntheticDataset data(203, {3, 77, 150});
  data.shard_count = 11;
  data.delay = std::chrono::microseconds(50);
  LoaderOptions options = training_options(20, 1);
  options.shuffle = Shuffle::kShards;
  options.shuffle_window = 4;
  options.max_bad_images = 10;
  const auto expected = whole_epoch(data, options, 1);
  const auto order = shard_order(data.shards(), 4, 42, 1);
  for (size_t i = 0; i < 200; ++i) {
    const bool bad = order[i] == 3 || order[i] == 77 || order[i] == 150;
    if (bad) continue;
    EXPECT_EQ(expected[i / 20].indices[i % 20], order[i]);
  }
  options.threads = 8;
  EXPECT_EQ(whole_epoch(data, options, 1), expected);
}

TEST(LoaderShuffle, FilesInFoldersHaveNoShards) {
  const SyntheticDataset data(20);
  LoaderOptions options = training_options(5);
  options.shuffle = Shuffle::kShards;
  expect_error([&] { Loader(data, options); }, {"synthetic: 20 images", "data.shuffle is shards", "use full"});
}

TEST(LoaderBadImages, AreLeftOutOfAnEvaluationThatAllowsThem) {
  const SyntheticDataset data(25, {0, 9, 10, 11, 12, 13, 14, 24});
  for (const int threads : {1, 4}) {
    LoaderOptions options = evaluation_options(5, threads);
    options.max_bad_images = 8;
    Loader loader(data, options);
    for (int round = 0; round < 2; ++round) {
      loader.start_epoch(0);
      const auto batches = rest_of_epoch(loader);
      std::vector<int64_t> seen;
      ASSERT_EQ(batches.size(), 5u);
      for (const CopiedBatch& batch : batches)
        for (size_t i = 0; i < batch.indices.size(); ++i) {
          seen.push_back(batch.indices[i]);
          EXPECT_EQ(batch.labels[i], batch.indices[i] % 7);
          const Image image = data.load(batch.indices[i]);
          EXPECT_TRUE(std::equal(image.pixels.begin(), image.pixels.end(), batch.images.data() + i * 192));
        }
      EXPECT_EQ(seen, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 18, 19, 20, 21, 22, 23}));
      EXPECT_TRUE(batches[2].indices.empty());
      ASSERT_EQ(loader.bad_images().size(), 8u);
      EXPECT_EQ(loader.bad_images()[1].index, 9);
      EXPECT_EQ(loader.bad_images()[1].reason, "image[9]: broken on purpose");
    }
    options.max_bad_images = 7;
    Loader strict(data, options);
    strict.start_epoch(0);
    expect_error([&] { rest_of_epoch(strict); }, {"8 unreadable images, more than the 7", "--allow-bad", "image[24]"});
  }
}

}  // namespace
}  // namespace riffle
