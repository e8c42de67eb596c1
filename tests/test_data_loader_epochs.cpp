// Loader: from one epoch to the next without a stall, sizes that change between epochs, the depth of the queue, and
// stopping at those moments.
#include "tests/loader_data.h"

namespace riffle {
namespace {

// Waits until the data has been asked for that many images; the workers of a loader that has room get there.
::testing::AssertionResult reaches(const SyntheticDataset& data, int64_t loads) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (data.loads < loads) {
    if (std::chrono::steady_clock::now() > give_up)
      return ::testing::AssertionFailure() << data.loads << " images were asked for, not " << loads;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // for the last ones to be written, or one too many
  if (data.loads > loads) return ::testing::AssertionFailure() << data.loads << " images, more than " << loads;
  return ::testing::AssertionSuccess();
}

std::vector<CopiedBatch> epochs(Loader& loader, int64_t from, int64_t to) {
  std::vector<CopiedBatch> batches;
  for (int64_t epoch = from; epoch < to; ++epoch) {
    loader.start_epoch(epoch);
    for (CopiedBatch& batch : rest_of_epoch(loader)) batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<CopiedBatch> separate_epochs(const Dataset& data, const LoaderOptions& options, int64_t from, int64_t to) {
  std::vector<CopiedBatch> batches;
  for (int64_t epoch = from; epoch < to; ++epoch)
    for (CopiedBatch& batch : whole_epoch(data, options, epoch)) batches.push_back(std::move(batch));
  return batches;
}

TEST(LoaderBoundary, TheNextEpochIsReadyWhenTheLastBatchWasUsed) {
  const SyntheticDataset data(40);
  LoaderOptions options = training_options(10);
  options.prefetch = 3;
  Loader loader(data, options);
  loader.start_epoch(4);
  Batch batch;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(loader.next(batch));
    // The batch in use and two more: from the third on, those of the next epoch.
    ASSERT_TRUE(reaches(data, 10 * (i + 3)));
  }
  loader.start_epoch(5);
  ASSERT_TRUE(loader.next(batch));
  EXPECT_GE(batch.ready, 2);  // a third, if a worker was quick: start_epoch() gave a slot back
  EXPECT_EQ(copy(batch), whole_epoch(data, options, 5).at(0));
}

TEST(LoaderBoundary, EpochsInARowAreEpochsApart) {
  SyntheticDataset data(53, {3, 20, 41});
  data.delay = std::chrono::microseconds(30);
  LoaderOptions options = training_options(9);
  options.max_bad_images = 3;
  const auto expected = separate_epochs(data, options, 2, 7);
  for (const int threads : {1, 8})
    for (const int prefetch : {1, 2, 7, 20}) {  // more than two epochs
      options.threads = threads;
      options.prefetch = prefetch;
      Loader loader(data, options);
      EXPECT_EQ(epochs(loader, 2, 7), expected) << threads << " threads, prefetch " << prefetch;
    }
}

TEST(LoaderBoundary, AnEpochOfOneBatch) {
  const SyntheticDataset data(10);
  const LoaderOptions options = training_options(10);
  Loader loader(data, options);
  EXPECT_EQ(epochs(loader, 0, 5), separate_epochs(data, options, 0, 5));
}

TEST(LoaderBoundary, BadImagesAreCountedInTheirEpoch) {
  const SyntheticDataset data(40, {7, 31});
  LoaderOptions options = training_options(10);
  options.max_bad_images = 2;
  options.prefetch = 8;
  Loader loader(data, options);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    loader.start_epoch(epoch);
    EXPECT_TRUE(loader.bad_images().empty());
    rest_of_epoch(loader);
    ASSERT_EQ(loader.bad_images().size(), 2u);
    EXPECT_EQ(loader.bad_images()[0].index + loader.bad_images()[1].index, 38);
  }
}

TEST(LoaderBoundary, AnotherPositionThanTheNextIsFound) {
  const SyntheticDataset data(60);
  const LoaderOptions options = training_options(10, 3);
  Loader loader(data, options);
  epochs(loader, 0, 1);
  EXPECT_EQ(epochs(loader, 0, 2), separate_epochs(data, options, 0, 2));  // once more
  EXPECT_EQ(epochs(loader, 5, 6), separate_epochs(data, options, 5, 6));  // one left out
  loader.start_epoch(6, 2);                                               // in the middle
  const auto expected = whole_epoch(data, options, 6);
  EXPECT_EQ(rest_of_epoch(loader), std::vector<CopiedBatch>(expected.begin() + 2, expected.end()));
  EXPECT_EQ(epochs(loader, 7, 9), separate_epochs(data, options, 7, 9));
}

TEST(LoaderLength, NothingElseIsPrepared) {
  const SyntheticDataset data(60);
  LoaderOptions options = training_options(10);
  options.prefetch = 4;
  Loader loader(data, options);
  loader.set_length(/*batches=*/4, /*in_all=*/10);  // of 6; epochs of 4, 4 and 2
  std::vector<size_t> counts;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const auto expected = whole_epoch(data, options, epoch);
    data.loads = 0;
    loader.start_epoch(epoch);
    const auto batches = rest_of_epoch(loader);
    counts.push_back(batches.size());
    EXPECT_EQ(batches, std::vector<CopiedBatch>(expected.begin(), expected.begin() + static_cast<int>(batches.size())));
  }
  EXPECT_EQ(counts, (std::vector<size_t>{4, 4, 2}));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_LE(data.loads, 20);  // of the last epoch
  Batch batch;
  EXPECT_FALSE(loader.next(batch));
  loader.start_epoch(1, 3);  // resuming counts from the beginning of the run
  EXPECT_EQ(rest_of_epoch(loader).size(), 1u);
  loader.start_epoch(3);  // after the run
  EXPECT_EQ(rest_of_epoch(loader).size(), 4u);
  expect_error([&] { loader.set_length(4, 10); }, {"4 of 6 batches"});
  Loader other(data, options);
  expect_error([&] { other.set_length(7, 10); }, {"7 of 6 batches"});
}

TEST(LoaderSizes, ChangeBetweenEpochs) {
  const SyntheticDataset data(30);
  LoaderOptions options = training_options(10, 3);
  options.train_transform = {5, {RandomResizedCrop{}, Flip{0.5}}, {}};
  options.sizes = {{1, 9}, {3, 7}};
  options.prefetch = 5;
  Loader loader(data, options);
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    const int size = epoch == 0 ? 5 : epoch < 3 ? 9 : 7;
    LoaderOptions plain = options;
    plain.sizes.clear();
    plain.train_transform.size = size;
    loader.start_epoch(epoch);
    std::vector<CopiedBatch> batches;
    for (Batch batch; loader.next(batch);) {
      EXPECT_EQ(batch.height, size);
      EXPECT_EQ(batch.width, size);
      batches.push_back(copy(batch));
    }
    EXPECT_EQ(batches, whole_epoch(data, plain, epoch)) << "epoch " << epoch;
  }
}

TEST(LoaderQueue, ReadyBatchesAreCounted) {
  const SyntheticDataset data(200);
  LoaderOptions options = training_options(10);
  options.prefetch = 4;
  Loader loader(data, options);
  loader.start_epoch(0);
  ASSERT_TRUE(reaches(data, 40));
  Batch batch;
  ASSERT_TRUE(loader.next(batch));
  EXPECT_EQ(batch.ready, 4);
  ASSERT_TRUE(loader.next(batch));  // one slot was in use
  EXPECT_GE(batch.ready, 3);
}

TEST(LoaderQueue, ASlowSourceLeavesItEmpty) {
  SyntheticDataset data(40);
  data.delay = std::chrono::milliseconds(3);
  Loader loader(data, training_options(20, 1));
  loader.start_epoch(0);
  Batch batch;
  ASSERT_TRUE(loader.next(batch));
  EXPECT_EQ(batch.ready, 0);
  EXPECT_GT(batch.wait_ms, 0);
}

TEST(LoaderShutdown, AroundTheBoundary) {
  SyntheticDataset data(40);
  data.delay = std::chrono::microseconds(100);
  for (int taken = 2; taken <= 6; ++taken) {
    Loader loader(data, training_options(10, 4));
    loader.start_epoch(0);
    Batch batch;
    for (int i = 0; i < taken; ++i) {
      if (i == 4) loader.start_epoch(1);
      ASSERT_TRUE(loader.next(batch));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200 * taken));
  }
}

TEST(LoaderShutdown, WhileWorkersWaitForRoom) {
  const SyntheticDataset data(40);
  LoaderOptions options = training_options(10, 4);
  Loader loader(data, options);
  loader.start_epoch(0);
  EXPECT_TRUE(reaches(data, 30));
}

TEST(LoaderShutdown, AfterAnErrorWhileOthersWork) {
  SyntheticDataset data(400, {full_order(400, 42, 0).at(0)});
  data.delay = std::chrono::microseconds(300);
  Loader loader(data, training_options(40, 4));
  loader.start_epoch(0);
  Batch batch;
  expect_error([&] { loader.next(batch); }, {"1 unreadable image, more than the 0"});
}

}  // namespace
}  // namespace riffle
