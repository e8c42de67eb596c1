// What the loader's tests share: a data set whose images can be slow or broken, options, and batches to keep.
#pragma once

#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "data/loader.h"
#include "tests/image_fixtures.h"

namespace riffle {

// `size` images of 8x8, image i filled with noise from i. Some cannot be loaded; each load may take a while.
class SyntheticDataset : public Dataset {
 public:
  explicit SyntheticDataset(int64_t size, std::set<int64_t> bad = {}) : size_(size), bad_(std::move(bad)) {}

  int64_t size() const override { return size_; }
  int channels() const override { return 3; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t index) const override { return static_cast<int>(index % 7); }
  std::string name(int64_t index) const override { return join("image[", index, "]"); }
  std::string description() const override { return join("synthetic: ", size_, " images"); }
  Image load(int64_t index) const override {
    ++loads;
    if (delay.count() > 0) std::this_thread::sleep_for(delay * (1 + index % 3));
    if (index == slow) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    if (bad_.count(index) != 0) fail(name(index), ": broken on purpose");
    Image image(8, 8, 3);
    RandomStream random(1, RandomPurpose::kTest, static_cast<uint64_t>(index));
    for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random.next_u32());
    return image;
  }

  // As many shards as asked for, image i in shard i % shard_count, in ascending order.
  std::vector<std::vector<int64_t>> shards() const override {
    std::vector<std::vector<int64_t>> shards(static_cast<size_t>(shard_count));
    for (int64_t i = 0; i < size_ && shard_count > 0; ++i) shards[static_cast<size_t>(i % shard_count)].push_back(i);
    return shards;
  }

  int64_t shard_count = 0;
  std::chrono::microseconds delay{0};
  int64_t slow = -1;  // one image that is finished long after those beside it
  mutable std::atomic<int64_t> loads{0};

 private:
  int64_t size_;
  std::set<int64_t> bad_;
  std::vector<std::string> classes_{"a", "b", "c", "d", "e", "f", "g"};
};

inline LoaderOptions training_options(int64_t batch, int threads = 2) {
  LoaderOptions options;
  options.batch = batch;
  options.threads = threads;
  options.seed = 42;
  options.training = true;
  options.train_transform = {8, {PadAndCrop{2}, Flip{0.5}}, {}};
  return options;
}

inline LoaderOptions evaluation_options(int64_t batch, int threads = 2) {
  LoaderOptions options;
  options.batch = batch;
  options.threads = threads;
  options.eval_transform = {0, 8};
  return options;
}

struct CopiedBatch {
  std::vector<uint8_t> images;
  std::vector<int32_t> labels;
  std::vector<int64_t> indices;
  bool operator==(const CopiedBatch& other) const {
    return images == other.images && labels == other.labels && indices == other.indices;
  }
};

inline CopiedBatch copy(const Batch& batch) {
  return {{batch.images, batch.images + batch.count * batch.height * batch.width * batch.channels},
          {batch.labels, batch.labels + batch.count},
          {batch.indices, batch.indices + batch.count}};
}

inline std::vector<CopiedBatch> rest_of_epoch(Loader& loader) {
  std::vector<CopiedBatch> batches;
  for (Batch batch; loader.next(batch);) batches.push_back(copy(batch));
  return batches;
}

inline std::vector<CopiedBatch> whole_epoch(const Dataset& data, const LoaderOptions& options, int64_t epoch) {
  Loader loader(data, options);
  loader.start_epoch(epoch);
  return rest_of_epoch(loader);
}

}  // namespace riffle
