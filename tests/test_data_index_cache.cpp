// What is kept between runs and in memory: it must never show anything but what is on the disk.
#include <atomic>
#include <chrono>
#include <thread>

#include "data/dataset.h"
#include "data/encoded_cache.h"
#include "data/listing.h"
#include "tests/tar_files.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
constexpr int kImages = 600;  // of each of two classes: more than kSmallestCached in all

// Everything was written an hour ago.
void age(const std::string& root) {
  const auto then = fs::file_time_type::clock::now() - std::chrono::hours(1);
  fs::last_write_time(root, then);
  for (const auto& entry : fs::recursive_directory_iterator(root)) fs::last_write_time(entry.path(), then);
}

class IndexCache : public testing::Test {
 protected:
  void SetUp() override {
    options_.index_cache = cache_;
    for (int i = 0; i < kImages; ++i) {
      add(join("cat/", i, ".jpg"));
      add(join("dog/", i, ".jpg"));
    }
    age(root_);
  }
  void add(const std::string& name, const std::string& text = "x") {
    const fs::path path = fs::path(root_) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::unique_ptr<Dataset> open() { return open_dataset(source_, "train", 3, options_); }
  std::vector<fs::path> stored() const {
    std::vector<fs::path> files;
    if (!fs::exists(cache_)) return files;
    for (const auto& entry : fs::directory_iterator(cache_)) files.push_back(entry.path());
    return files;
  }
  // Whether the next open() is served from the cache: an entry in a folder whose time is put back goes unseen.
  bool served_from_cache() {
    const auto time = fs::last_write_time(root_ + "/cat");
    add("cat/unseen.jpg");
    fs::last_write_time(root_ + "/cat", time);
    const bool served = open()->size() == 2 * kImages;
    fs::remove(root_ + "/cat/unseen.jpg");
    fs::last_write_time(root_ + "/cat", time);
    return served;
  }

  TemporaryFolder temporary_;
  std::string root_ = temporary_.path() + "/data", source_ = root_, cache_ = temporary_.path() + "/cache/riffle";
  DatasetOptions options_;
};

TEST_F(IndexCache, TheSecondTimeIsTheSameAsTheFirst) {
  const auto first = open();
  ASSERT_EQ(stored().size(), 1u);
  EXPECT_TRUE(served_from_cache());
  const auto second = open();
  ASSERT_EQ(second->size(), first->size());
  EXPECT_EQ(second->classes(), first->classes());
  EXPECT_EQ(second->description(), first->description());
  for (int64_t i = 0; i < first->size(); ++i) {
    EXPECT_EQ(second->name(i), first->name(i));
    EXPECT_EQ(second->label(i), first->label(i));
  }
}

TEST_F(IndexCache, ChangesAreSeen) {
  open();
  add("cat/new.jpg");
  EXPECT_EQ(open()->size(), 2 * kImages + 1);
  fs::remove(root_ + "/dog/7.jpg");
  EXPECT_EQ(open()->size(), 2 * kImages);
  add("eel/1.jpg");
  EXPECT_EQ(open()->classes().size(), 3u);
  fs::remove_all(root_ + "/cat");
  EXPECT_EQ(open()->size(), kImages);
}

// Its time would not tell what else is written within the same tick of the clock.
TEST_F(IndexCache, FoldersThatChangedJustNowAreNotStored) {
  add("cat/new.jpg");
  open();
  EXPECT_TRUE(stored().empty());
}

TEST_F(IndexCache, OffWithoutAFolder) {
  options_.index_cache = "";
  open();
  EXPECT_FALSE(served_from_cache());
  EXPECT_TRUE(stored().empty());
}

TEST_F(IndexCache, DamagedFilesAreNotBelieved) {
  open();
  const fs::path file = stored().at(0);
  const Bytes good = read_file(file.string());
  EXPECT_TRUE(served_from_cache());
  for (size_t at = 0; at < good.size(); at += 4999) {
    Bytes bad = good;
    bad[at] ^= 0x10;
    write_bytes(file.string(), bad);
    EXPECT_FALSE(served_from_cache()) << at;
  }
  write_bytes(file.string(), {good.begin(), good.begin() + 100});
  EXPECT_FALSE(served_from_cache());
}

TEST_F(IndexCache, AFolderThatCannotBeWrittenIsAWarning) {
  options_.index_cache = temporary_.path() + "/file/below";
  std::ofstream(temporary_.path() + "/file") << "x";
  const auto data = open();
  EXPECT_EQ(data->size(), 2 * kImages);
  ASSERT_EQ(data->warnings().size(), 1u);
  expect_contains_all(data->warnings()[0], {root_, "not kept", options_.index_cache, "data.index_cache"});
}

TEST_F(IndexCache, TarFilesByTimeAndSize) {
  source_ = temporary_.path() + "/a.tar";
  write_bytes(source_, tar_of_folder(root_));
  const auto then = fs::file_time_type::clock::now() - std::chrono::hours(1);
  fs::last_write_time(source_, then);
  EXPECT_EQ(open()->size(), 2 * kImages);
  ASSERT_EQ(stored().size(), 1u);
  // Of the same size and time, which nobody does by accident: the cache answers.
  Bytes damaged = read_file(source_);
  damaged[0] ^= 1;
  write_bytes(source_, damaged);
  fs::last_write_time(source_, then);
  EXPECT_EQ(open()->size(), 2 * kImages);
  fs::last_write_time(source_, then + std::chrono::milliseconds(1));
  expect_error([&] { open(); }, {source_, "checksum"});
}

// Labels are a part of what is kept: their file, and the training classes that numbers stand for.
TEST_F(IndexCache, LabelsOfFlatImagesByTheirFiles) {
  const std::string flat = temporary_.path() + "/flat";
  std::string labels;
  for (int i = 0; i < 2 * kImages; ++i) {
    add(join("../flat/val/", 1000 + i, ".jpg"));
    labels += join(1000 + i, ".jpg ", i % 2, "\n");
  }
  add("../flat/train/cat/1.jpg");
  add("../flat/train/dog/1.jpg");
  add("../flat/val.txt", labels);
  age(flat);
  const auto open_val = [&] { return open_dataset(flat, "val", 3, options_); };
  const std::vector<std::string> two{"cat", "dog"}, three{"ape", "cat", "dog"};
  EXPECT_EQ(open_val()->classes(), two);
  ASSERT_EQ(stored().size(), 1u);
  EXPECT_EQ(open_val()->label(0), 0);
  add("../flat/train/ape/1.jpg");
  EXPECT_EQ(open_val()->classes(), three);
  for (int i = 0; i < 2 * kImages; ++i)
    fs::rename(join(flat, "/val/", 1000 + i, ".jpg"), join(flat, "/val/x", i, ".jpg"));
  labels.clear();
  for (int i = 0; i < 2 * kImages; ++i) labels += join("x", i, ".jpg 2\n");
  add("../flat/val.txt", labels);
  EXPECT_EQ(open_val()->label(0), 2);
}

TEST_F(IndexCache, TrainingClassesThatAppearLater) {
  const std::string flat = temporary_.path() + "/flat";
  std::string labels;
  for (int i = 0; i < 2 * kImages; ++i) {
    add(join("../flat/val/", i, ".jpg"));
    labels += join(i, ".jpg ", i % 2, "\n");
  }
  add("../flat/val.txt", labels);
  age(flat);
  const auto classes = [&] { return open_dataset(flat, "val", 3, options_)->classes(); };
  const std::vector<std::string> numbers{"0", "1"}, names{"cat", "dog"};
  EXPECT_EQ(classes(), numbers);
  ASSERT_EQ(stored().size(), 1u);
  EXPECT_EQ(classes(), numbers);
  add("../flat/train/cat/1.jpg");
  add("../flat/train/dog/1.jpg");
  EXPECT_EQ(classes(), names);
}

TEST_F(IndexCache, DefaultFolder) {
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(default_index_cache(), "/somewhere/riffle");
  unsetenv("XDG_CACHE_HOME");
  setenv("HOME", "/home/a", 1);
  EXPECT_EQ(default_index_cache(), "/home/a/.cache/riffle");
}

TEST_F(IndexCache, EncodedImagesStayInMemoryUpToTheBudget) {
  const int64_t each = 1 + EncodedCache::kOverhead;
  options_.cache = std::make_shared<CacheBudget>(10 * each);
  const auto data = open();
  const EncodedImage kept = data->encoded(0);
  EXPECT_EQ(data->encoded(0), kept);  // the same memory
  for (int64_t i = 0; i < 20; ++i) data->encoded(i);
  EXPECT_EQ(options_.cache->left(), 0);
  EXPECT_EQ(data->encoded(9), data->encoded(9));
  EXPECT_NE(data->encoded(10), data->encoded(10));
  // Another data set shares what is left: nothing.
  const auto other = open_dataset(root_, "val", 3, options_);
  EXPECT_NE(other->encoded(0), other->encoded(0));
  fs::remove(root_ + "/cat/0.jpg");
  EXPECT_EQ(*data->encoded(0), *kept);
}

TEST_F(IndexCache, ThreadsShareTheMemory) {
  options_.cache = std::make_shared<CacheBudget>(int64_t{1} << 20);
  const auto data = open();
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int64_t i = 0; i < data->size(); ++i)
        if (*data->encoded(i) != bytes_of("x")) ++wrong;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(options_.cache->left(), (int64_t{1} << 20) - data->size() * (1 + EncodedCache::kOverhead));
}

}  // namespace
}  // namespace riffle
