// ImageNet's tar files as published, and shards: batches, shards and parts of processes are those of the same images in
// folders, however they are loaded.
#include <algorithm>
#include <set>

#include "tests/layouts.h"
#include "tests/loader_data.h"

namespace riffle {
namespace {

class LayoutBatches : public Layouts {
 protected:
  static LoaderOptions options_for(bool training, int threads) {
    LoaderOptions options = training ? training_options(5, threads) : evaluation_options(3, threads);
    options.train_transform = {16, {RandomResizedCrop{}, Flip{0.5}}, {}};
    options.eval_transform = {28, 24};
    return options;
  }
  std::vector<CopiedBatch> two_epochs(const Dataset& data, const LoaderOptions& options) {
    std::vector<CopiedBatch> batches;
    Loader loader(data, options);
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      loader.start_epoch(epoch);
      for (CopiedBatch& batch : rest_of_epoch(loader)) batches.push_back(std::move(batch));
      EXPECT_TRUE(loader.bad_images().empty());
    }
    return batches;
  }
  // In every way of loading, one thread with folders gives what eight threads with `data` give.
  void expect_same_batches(const Dataset& data, const std::string& split) {
    const auto folders = open(folders_, split);
    const bool training = split == "train";
    for (const int repeats : {1, 3}) {
      if (repeats > 1 && !training) continue;
      for (const DecodeMode decode : {DecodeMode::kExact, DecodeMode::kQuick}) {
        SCOPED_TRACE(join(data.description(), ", ", repeats, " repeats, decoding ", static_cast<int>(decode)));
        LoaderOptions options = options_for(training, 1);
        options.repeats = repeats;
        options.train_transform.decode = decode;
        const std::vector<CopiedBatch> expected = two_epochs(*folders, options);
        EXPECT_EQ(expected.size(), training ? 8u : 6u);
        for (const int threads : {1, 8}) {
          options.threads = threads;
          EXPECT_TRUE(two_epochs(data, options) == expected) << threads << " threads";
        }
      }
    }
  }
};

TEST_F(LayoutBatches, OfficialTarFilesAreTheFolders) {
  const std::string root = make_official();
  for (const char* split : {"train", "val"}) expect_same_batches(*open(root, split), split);
}

TEST_F(LayoutBatches, ABudgetForEncodedImagesChangesNothing) {
  const std::string root = make_official();
  const auto image = static_cast<int64_t>(image_bytes(0).size());
  for (const int64_t budget : {int64_t{0}, 7 * image, 100 * image}) {
    DatasetOptions options;
    options.cache = std::make_shared<CacheBudget>(budget);
    const auto data = open(root, "train", options);
    expect_same_batches(*data, "train");
    EXPECT_EQ(options.cache->left() < budget, budget > 0);
  }
}

// Each inner tar file, and each WebDataset shard, is a shard, in the order in which its images lie there.
TEST_F(LayoutBatches, ShardsOfTarFiles) {
  const std::string root = make_official();
  const auto data = open(root, "train");
  const std::vector<std::vector<int64_t>> shards = data->shards();
  ASSERT_EQ(shards.size(), kWnids.size());
  std::set<int64_t> all;
  for (const std::vector<int64_t>& shard : shards) {
    EXPECT_EQ(shard.size(), 6u);
    for (const int64_t index : shard) {
      EXPECT_EQ(data->label(index), data->label(shard.front())) << "an inner tar file is a class";
      all.insert(index);
    }
  }
  EXPECT_EQ(all.size(), 24u);
  EXPECT_FALSE(std::is_sorted(shards[0].begin(), shards[0].end())) << "written in another order than names have";
  EXPECT_EQ(open(root, "val")->shards().size(), 1u);
  EXPECT_TRUE(open(folders_, "train")->shards().empty());

  fs::create_directories(temporary_.path() + "/web");
  for (int64_t shard = 0; shard < 3; ++shard) {
    Bytes tar;
    for (int64_t i = shard; i < 24; i += 3) {
      append_tar_member(tar, {join(i, ".jpg")}, image_bytes(i));
      append_tar_member(tar, {join(i, ".cls")}, bytes_of(std::to_string(i % 4)));
    }
    append_tar_end(tar);
    write_bytes(join(temporary_.path(), "/web/x-train-", shard, ".tar"), tar);
  }
  const auto web = open(temporary_.path() + "/web", "train");
  const std::vector<std::vector<int64_t>> of_web = web->shards();
  ASSERT_EQ(of_web.size(), 3u);
  for (size_t shard = 0; shard < of_web.size(); ++shard) {
    ASSERT_EQ(of_web[shard].size(), 8u);
    for (const int64_t index : of_web[shard])
      EXPECT_NE(web->name(index).find(join("x-train-", shard, ".tar:")), std::string::npos) << web->name(index);
  }
}

// One shard at a time: batches go through the inner tar files one after the other, each image once an epoch.
TEST_F(LayoutBatches, ShufflingByShardsReadsThemOneByOne) {
  const std::string root = make_official();
  DatasetOptions in_order;
  in_order.shards_in_order = true;
  const auto data = open(root, "train", in_order);
  LoaderOptions options = options_for(true, 1);
  options.batch = 6;
  options.shuffle = Shuffle::kShards;
  options.shuffle_window = 1;
  const std::vector<CopiedBatch> batches = two_epochs(*data, options);
  ASSERT_EQ(batches.size(), 8u);
  for (size_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> images;
    for (size_t i = 4 * epoch; i < 4 * epoch + 4; ++i) {
      for (const int32_t label : batches[i].labels) EXPECT_EQ(label, batches[i].labels.front());
      images.insert(batches[i].indices.begin(), batches[i].indices.end());
    }
    EXPECT_EQ(images.size(), 24u);
  }
  options.threads = 8;
  EXPECT_TRUE(two_epochs(*data, options) == batches);
}

TEST_F(LayoutBatches, ProcessesShareTheEvaluation) {
  const std::string root = make_official();
  const auto data = open(root, "val");
  for (const int ranks : {1, 2, 3, 8}) {
    std::multiset<int64_t> images;
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderOptions options = options_for(false, 2);
      options.part = {rank, ranks};
      for (const CopiedBatch& batch : whole_epoch(*data, options, 0))
        for (size_t i = 0; i < batch.indices.size(); ++i) {
          images.insert(batch.indices[i]);
          EXPECT_EQ(batch.labels[i], data->label(batch.indices[i]));
        }
    }
    EXPECT_EQ(images, (std::multiset<int64_t>{0, 1, 2, 3, 4, 5, 6, 7})) << ranks << " processes";
  }
}

}  // namespace
}  // namespace riffle
