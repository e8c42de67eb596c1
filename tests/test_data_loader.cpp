// Loader: batches are a pure function of (seed, epoch, batch number), bad images are counted and replaced, and it can
// be stopped at any moment.
#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "tests/loader_data.h"

namespace riffle {
namespace {

TEST(LoaderTraining, BatchesAreTheDefinition) {
  const SyntheticDataset data(50);
  const LoaderOptions options = training_options(8);
  const auto batches = whole_epoch(data, options, 3);
  ASSERT_EQ(batches.size(), 6u);  // the last two images are dropped
  const auto order = random_permutation(50, 42, RandomPurpose::kShuffleEpoch, 3);
  for (size_t b = 0; b < 6; ++b)
    for (size_t i = 0; i < 8; ++i) {
      const int64_t index = order[b * 8 + i];
      EXPECT_EQ(batches[b].indices[i], index);
      EXPECT_EQ(batches[b].labels[i], index % 7);
      RandomStream random(42, RandomPurpose::kAugment, 3, static_cast<uint64_t>(index));
      const Image expected = options.train_transform.apply(data.load(index), random);
      EXPECT_TRUE(std::equal(expected.pixels.begin(), expected.pixels.end(), batches[b].images.data() + i * 192));
    }
}

TEST(LoaderTraining, ThreadsAndPrefetchChangeNothing) {
  SyntheticDataset data(203, {3, 77, 78, 150});
  data.delay = std::chrono::microseconds(50);  // different for neighbouring images, so that they finish out of order
  LoaderOptions options = training_options(20, 1);
  options.max_bad_images = 10;
  const auto expected = whole_epoch(data, options, 1);
  ASSERT_EQ(expected.size(), 10u);
  for (const int threads : {1, 2, 4, 7})
    for (const int prefetch : {1, 2, 5}) {
      options.threads = threads;
      options.prefetch = prefetch;
      EXPECT_EQ(whole_epoch(data, options, 1), expected) << threads << " threads, prefetch " << prefetch;
    }
}

TEST(LoaderTraining, EpochsAndSeedsDiffer) {
  const SyntheticDataset data(40);
  LoaderOptions options = training_options(40);
  const auto indices = [&](int64_t epoch) { return whole_epoch(data, options, epoch).at(0).indices; };
  const auto first = indices(0), second = indices(1);
  EXPECT_NE(first, second);
  options.seed = 43;
  EXPECT_NE(indices(0), first);
}

TEST(LoaderEvaluation, EveryImageOnceInOrder) {
  const SyntheticDataset data(50);
  Loader loader(data, evaluation_options(16));
  EXPECT_EQ(loader.batches_per_epoch(), 4);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    loader.start_epoch(epoch);
    int64_t position = 0;
    for (Batch batch; loader.next(batch);) {
      EXPECT_EQ(batch.count, std::min<int64_t>(16, 50 - position));
      EXPECT_EQ(batch.height, 8);
      EXPECT_EQ(batch.width, 8);
      EXPECT_EQ(batch.channels, 3);
      EXPECT_GE(batch.wait_ms, 0);
      for (int64_t i = 0; i < batch.count; ++i, ++position) {
        EXPECT_EQ(batch.indices[i], position);
        EXPECT_EQ(batch.labels[i], position % 7);
        const Image expected = data.load(position);
        EXPECT_TRUE(std::equal(expected.pixels.begin(), expected.pixels.end(), batch.images + i * 192));
      }
    }
    EXPECT_EQ(position, 50);
    Batch batch;
    EXPECT_FALSE(loader.next(batch));  // and again
    EXPECT_EQ(batch.count, 0);
  }
}

TEST(LoaderEvaluation, BatchLargerThanTheData) {
  const SyntheticDataset data(5);
  const auto batches = whole_epoch(data, evaluation_options(16), 0);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].indices, (std::vector<int64_t>{0, 1, 2, 3, 4}));
}

TEST(LoaderResume, StartsInTheMiddleOfAnEpoch) {
  SyntheticDataset data(100, {11, 12, 13, 60});
  LoaderOptions options = training_options(9, 3);
  options.max_bad_images = 100;
  const auto expected = whole_epoch(data, options, 5);
  Loader loader(data, options);
  for (const int64_t first : {0, 4, 10, 11}) {
    loader.start_epoch(5, first);
    EXPECT_EQ(rest_of_epoch(loader), std::vector<CopiedBatch>(expected.begin() + first, expected.end()));
  }
  expect_error([&] { loader.start_epoch(5, 12); }, {"batch 12 of 11"});
}

TEST(LoaderResume, LeavingAnEpochDropsWhatWasPrefetched) {
  SyntheticDataset data(100);
  data.delay = std::chrono::microseconds(100);
  const LoaderOptions options = training_options(10, 3);
  const auto expected = whole_epoch(data, options, 2);
  Loader loader(data, options);
  for (int taken = 0; taken < 5; ++taken) {
    loader.start_epoch(1);
    Batch batch;
    for (int i = 0; i < taken; ++i) ASSERT_TRUE(loader.next(batch));
    loader.start_epoch(2);
    EXPECT_EQ(rest_of_epoch(loader), expected) << "after " << taken << " batches";
  }
}

TEST(LoaderMemory, ABatchStaysUntilTheNextCall) {
  const SyntheticDataset data(64);
  LoaderOptions options = training_options(8, 4);
  for (const int prefetch : {1, 3}) {
    options.prefetch = prefetch;
    Loader loader(data, options);
    loader.start_epoch(0);
    for (Batch batch; loader.next(batch);) {
      const CopiedBatch before = copy(batch);
      std::this_thread::sleep_for(std::chrono::milliseconds(3));  // time for the workers to do harm
      EXPECT_EQ(copy(batch), before);
    }
  }
}

TEST(LoaderMemory, SlotsComeFromTheGivenAllocator) {
  const SyntheticDataset data(64);
  LoaderOptions options = training_options(8);
  std::vector<std::pair<const uint8_t*, size_t>> blocks;
  options.allocate = [&](size_t bytes) {
    std::shared_ptr<void> memory(::operator new(bytes), [](void* block) { ::operator delete(block); });
    blocks.emplace_back(static_cast<const uint8_t*>(memory.get()), bytes);
    return memory;
  };
  Loader loader(data, options);
  ASSERT_EQ(blocks.size(), 3u);
  const auto inside = [&](const void* begin, size_t bytes) {
    const auto* first = static_cast<const uint8_t*>(begin);
    return std::any_of(blocks.begin(), blocks.end(), [&](const auto& block) {
      return first >= block.first && first + bytes <= block.first + block.second;
    });
  };
  loader.start_epoch(0);
  for (Batch batch; loader.next(batch);) {
    EXPECT_TRUE(inside(batch.images, size_t{8} * 192));
    EXPECT_TRUE(inside(batch.labels, 8 * sizeof(int32_t)));
    EXPECT_TRUE(inside(batch.indices, 8 * sizeof(int64_t)));
  }
  EXPECT_EQ(blocks.size(), 3u);
}

// The replacement of the image at position p is the first good one at p + size/2, p + size/2 + 1, ...
TEST(LoaderBadImages, AreReplacedFromHalfAnEpochAway) {
  const auto order = random_permutation(20, 42, RandomPurpose::kShuffleEpoch, 0);
  const SyntheticDataset data(20, {order[2], order[12], order[13]});
  LoaderOptions options = training_options(5);
  options.max_bad_images = 3;
  Loader loader(data, options);
  loader.start_epoch(0);
  const auto batches = rest_of_epoch(loader);
  ASSERT_EQ(batches.size(), 4u);
  EXPECT_EQ(batches[0].indices[2], order[14]);
  EXPECT_EQ(batches[0].labels[2], order[14] % 7);
  EXPECT_EQ(batches[2].indices[2], order[3]);  // position 12: 2 is bad, then 3
  EXPECT_EQ(batches[2].indices[3], order[3]);  // position 13: 3
  for (const size_t p : {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19})
    EXPECT_EQ(batches[p / 5].indices[p % 5], order[p]) << "position " << p;
}

TEST(LoaderBadImages, TheOnlyGoodImageIsAlwaysFound) {
  for (int64_t good = 0; good < 7; ++good) {
    std::set<int64_t> bad{0, 1, 2, 3, 4, 5, 6};
    bad.erase(good);
    const SyntheticDataset data(7, bad);
    LoaderOptions options = training_options(7);
    options.max_bad_images = 6;
    const auto batches = whole_epoch(data, options, 0);
    ASSERT_EQ(batches.size(), 1u);
    EXPECT_EQ(batches[0].indices, std::vector<int64_t>(7, good));
  }
}

TEST(LoaderBadImages, AreNamedOnceAndOnlyWhenTheirBatchWasGivenOut) {
  const auto order = random_permutation(40, 42, RandomPurpose::kShuffleEpoch, 0);
  const SyntheticDataset data(40, {order[7], order[31]});
  LoaderOptions options = training_options(10, 3);
  options.max_bad_images = 2;
  Loader loader(data, options);
  for (int round = 0; round < 2; ++round) {
    loader.start_epoch(0);
    std::vector<size_t> counts;
    for (Batch batch; loader.next(batch);) counts.push_back(loader.bad_images().size());
    EXPECT_EQ(counts, (std::vector<size_t>{1, 1, 1, 2}));
    EXPECT_EQ(loader.bad_images()[0].name, data.name(order[7]));
    EXPECT_EQ(loader.bad_images()[1].reason, data.name(order[31]) + ": broken on purpose");
  }
}

TEST(LoaderBadImages, MoreThanTheLimitIsAnErrorWhateverTheThreads) {
  const auto order = random_permutation(40, 42, RandomPurpose::kShuffleEpoch, 0);
  SyntheticDataset data(40, {order[3], order[14], order[16]});
  data.slow = order[14];  // reported after order[16], yet counted before it
  for (const int threads : {1, 4}) {
    LoaderOptions options = training_options(10, threads);
    options.max_bad_images = 2;
    Loader loader(data, options);
    loader.start_epoch(0);
    Batch batch;
    ASSERT_TRUE(loader.next(batch));
    for (int i = 0; i < 2; ++i)  // the error stays
      expect_error([&] { loader.next(batch); }, {"epoch 1: 3 unreadable images", "2 that data.max_bad_images allows",
                                                 data.name(order[16]), "on purpose"});
    EXPECT_EQ(batch.count, 0);
    loader.start_epoch(0);
    EXPECT_TRUE(loader.next(batch));
  }
}

TEST(LoaderBadImages, TheEpochIsCountedAsTheTrainerCountsIt) {
  const SyntheticDataset data(4, {1});
  expect_error([&] { whole_epoch(data, training_options(2), 4); }, {"epoch 5: 1 unreadable image, more than the 0"});
}

TEST(LoaderBadImages, AllBad) {
  const SyntheticDataset data(4, {0, 1, 2, 3});
  LoaderOptions options = training_options(2);
  for (const int64_t limit : {0, 2, 100}) {
    options.max_bad_images = limit;
    expect_error([&] { whole_epoch(data, options, 0); },
                 {limit < 4 ? "more than the " : "no readable image", "image["});
  }
}

TEST(LoaderBadImages, AreAnErrorInEvaluation) {
  SyntheticDataset data(40, {13, 17, 35});
  data.slow = 13;
  for (const int threads : {1, 4}) {
    Loader loader(data, evaluation_options(10, threads));
    loader.start_epoch(0);
    Batch batch;
    ASSERT_TRUE(loader.next(batch));
    expect_error([&] { loader.next(batch); }, {"image[13]: broken on purpose"});
  }
}

TEST(LoaderErrors, ImagesThatDoNotFitTheTransformAreNamed) {
  const SyntheticDataset data(10);
  LoaderOptions options = evaluation_options(5);
  options.eval_transform = {0, 9};
  expect_error([&] { whole_epoch(data, options, 0); }, {"image[0]: ", "8x8", "9x9"});
  options = training_options(10, 1);
  options.train_transform.size = 13;
  options.max_bad_images = 100;  // such an image is not a bad image
  expect_error([&] { whole_epoch(data, options, 0); }, {"image[", "8x8", "13x13"});
}

TEST(LoaderErrors, OptionsThatCannotWork) {
  const SyntheticDataset data(10), empty(0);
  expect_error([&] { Loader(data, training_options(11)); }, {"synthetic: 10 images", "batch of 11", "at most 10"});
  expect_error([&] { Loader(empty, evaluation_options(1)); }, {"synthetic: 0 images", "nothing"});
  expect_error([&] { Loader(data, training_options(0)); }, {"batch 0"});
  expect_error([&] { Loader(data, training_options(1, 0)); }, {"threads 0"});
  Loader loader(data, training_options(2));
  Batch batch;
  expect_error([&] { loader.next(batch); }, {"start_epoch"});
}

TEST(LoaderShutdown, AtAnyMoment) {
  SyntheticDataset data(60, {5});
  data.delay = std::chrono::microseconds(200);
  LoaderOptions options = training_options(6, 4);
  options.max_bad_images = 1;
  { const Loader idle(data, options); }
  for (int taken = 0; taken <= 10; ++taken) {
    Loader loader(data, options);
    loader.start_epoch(0);
    Batch batch;
    for (int i = 0; i < taken; ++i) ASSERT_TRUE(loader.next(batch));
    std::this_thread::sleep_for(std::chrono::microseconds(150 * taken));
  }
  options.max_bad_images = 0;  // and after an error
  Loader loader(data, options);
  loader.start_epoch(0);
  expect_error([&] { rest_of_epoch(loader); }, {"image[5]"});
}

TEST(LoaderShutdown, DoesNotFinishTheEpoch) {
  SyntheticDataset data(100000);
  data.delay = std::chrono::microseconds(500);
  {
    Loader loader(data, training_options(50000, 2));
    loader.start_epoch(0);
    while (data.loads == 0) std::this_thread::yield();
  }
  EXPECT_LT(data.loads, 50000);
}

TEST(LoaderFiles, AFolderWithABrokenJpegTrains) {
  const TemporaryFolder folder;
  for (int i = 0; i < 6; ++i) {
    folder.add_fixture("rgb_420.jpg", join("a/", i, ".jpg"));
    folder.add_fixture("palette_8bit.png", join("b/", i, ".png"));
  }
  std::vector<uint8_t> cut = read_file(image_fixture("rgb_420.jpg"));
  cut.resize(cut.size() / 2);
  write_bytes(folder.path() + "/a/3.jpg", cut);
  const auto data = open_image_folder(folder.path(), 3);
  LoaderOptions options;
  options.batch = 4;
  options.training = true;
  options.train_transform.size = 32;
  options.max_bad_images = 1;
  Loader loader(*data, options);
  loader.start_epoch(0);
  EXPECT_EQ(rest_of_epoch(loader).size(), 3u);
  ASSERT_EQ(loader.bad_images().size(), 1u);
  EXPECT_EQ(loader.bad_images()[0].name, folder.path() + "/a/3.jpg");
  EXPECT_NE(loader.bad_images()[0].reason.find("truncated"), std::string::npos);
}

}  // namespace
}  // namespace riffle
