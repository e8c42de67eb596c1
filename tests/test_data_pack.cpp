// Packed data: the same images as the source, whatever happened on the way, and damage that is noticed.
#include "data/pack.h"

#include <algorithm>
#include <map>
#include <set>

#include "data/encode.h"
#include "data/probe.h"
#include "data/tar.h"
#include "tests/tar_files.h"
#include "tests/tiny_data.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

class PackTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int64_t i = 0; i < 30; ++i) {
      const std::string folder = root_ + "/" + quadrant_names()[static_cast<size_t>(i % 4)];
      fs::create_directories(folder);
      const bool large = i >= 20;
      const Image image = quadrant_image(i, large ? 96 : 32, i % 10 == 9 ? 1 : 3, /*seed=*/3);
      write_bytes(join(folder, "/", i, i % 5 == 0 ? ".png" : ".JPEG"),
                  i % 5 == 0 ? encode_png(image) : encode_jpeg(image, 90));
    }
    options_.shards = 4;
    options_.threads = 2;
    options_.shuffle = true;
  }
  std::unique_ptr<Dataset> source() { return open_dataset(root_, "train", 3, {}); }
  std::unique_ptr<Dataset> packed() { return open_dataset(out_, "train", 3, {}); }
  PackResult run() { return pack(*source(), out_, options_); }
  std::string shard(int number) const { return join(out_, "/shard-00000", number, ".tar"); }

  void expect_copied() {
    const auto a = source(), b = packed();
    ASSERT_EQ(a->size(), b->size());
    EXPECT_EQ(a->classes(), b->classes());
    for (int64_t i = 0; i < a->size(); ++i) {
      EXPECT_EQ(a->label(i), b->label(i));
      EXPECT_EQ(*a->encoded(i), *b->encoded(i)) << b->name(i);
    }
  }

  TemporaryFolder temporary_;
  std::string root_ = temporary_.path() + "/source", out_ = temporary_.path() + "/packed";
  PackOptions options_;
};

TEST_F(PackTest, TheSameImagesInTheSameOrder) {
  int64_t reported = 0;
  options_.progress = [&](int64_t images) { reported = images; };
  const PackResult result = run();
  EXPECT_EQ(result.images, 30);
  EXPECT_EQ(result.shards, 4);
  EXPECT_EQ(result.kept_shards, 0);
  EXPECT_EQ(result.resized, 0);
  EXPECT_EQ(reported, 30);
  expect_copied();
  EXPECT_EQ(packed()->description(), "packed " + out_ + ": 30 images, 4 classes");
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(out_)) files.insert(entry.path().filename().string());
  EXPECT_EQ(files, (std::set<std::string>{"riffle-index.txt", "shard-000000.tar", "shard-000001.tar",
                                          "shard-000002.tar", "shard-000003.tar"}));
}

// Other programs read the shards in order: as a WebDataset, with classes mixed in each shard.
TEST_F(PackTest, ShardsAreAWebDataset) {
  run();
  const auto data = open_dataset("webdataset:" + out_ + "/shard-{000000..000003}.tar", "train", 3, {});
  const auto original = source();
  ASSERT_EQ(data->size(), 30);
  std::map<Bytes, int> label_of;
  for (int64_t i = 0; i < 30; ++i) label_of[*original->encoded(i)] = original->label(i);
  std::set<int> first_shard;
  for (int64_t i = 0; i < 30; ++i) {
    EXPECT_EQ(data->label(i), label_of.at(*data->encoded(i)));
    if (i < 7) first_shard.insert(data->label(i));
  }
  EXPECT_GT(first_shard.size(), 1u);
}

TEST_F(PackTest, ThreadsChangeNothing) {
  run();
  const std::string one = out_;
  out_ = temporary_.path() + "/again";
  options_.threads = 1;
  run();
  for (const char* name : {"riffle-index.txt", "shard-000000.tar", "shard-000003.tar"})
    EXPECT_EQ(read_file(one + "/" + name), read_file(out_ + "/" + name)) << name;
}

TEST_F(PackTest, OnlyLargerImagesAreEncodedAgain) {
  options_.short_edge = 48;
  EXPECT_EQ(run().resized, 10);
  const auto a = source(), b = packed();
  for (int64_t i = 0; i < 30; ++i) {
    const Image before = a->load(i), after = b->load(i);
    if (before.height == 32) {
      EXPECT_EQ(*a->encoded(i), *b->encoded(i));
      continue;
    }
    EXPECT_EQ(after.height, 48);
    EXPECT_EQ(after.width, 48);
    const EncodedImage bytes = b->encoded(i);
    const ImageProbe probe = probe_image(bytes->data(), bytes->size());
    const EncodedImage original = a->encoded(i);
    EXPECT_EQ(probe.format, ImageProbe::Format::kJpeg);
    EXPECT_EQ(probe.components, probe_image(original->data(), original->size()).components);
    // A bright quadrant on dark noise stays one.
    const int label = b->label(i);
    const auto& name = quadrant_names()[static_cast<size_t>(label)];
    const int y = name.find("north") == 0 ? 12 : 36, x = name.find("west") != std::string::npos ? 12 : 36;
    const auto at = [&](int row, int column) {
      const int index = (row * 48 + column) * 3;
      return after.pixels[static_cast<size_t>(index)];
    };
    EXPECT_GT(at(y, x), at(48 - y, 48 - x));
  }
}

TEST_F(PackTest, ResumesWithFinishedShards) {
  run();
  const Bytes index = read_file(out_ + "/riffle-index.txt");
  EXPECT_EQ(run().kept_shards, 4);
  fs::remove(shard(2));
  EXPECT_EQ(run().kept_shards, 3);
  Bytes damaged = read_file(shard(1));
  damaged[700] ^= 1;
  write_bytes(shard(1), damaged);
  EXPECT_EQ(run().kept_shards, 3);
  EXPECT_EQ(read_file(out_ + "/riffle-index.txt"), index);
  expect_copied();
}

// As after a power failure: some shards done, one half written, no index.
TEST_F(PackTest, ResumesAfterAnInterruption) {
  int64_t seen = 0;
  options_.threads = 1;
  options_.progress = [&](int64_t images) {
    seen = images;
    if (images == 20) fail("interrupted");
  };
  expect_error([&] { run(); }, {"interrupted"});
  EXPECT_EQ(seen, 20);
  EXPECT_FALSE(fs::exists(out_ + "/riffle-index.txt"));
  options_.progress = nullptr;
  EXPECT_EQ(run().kept_shards, 2);
  expect_copied();
}

TEST_F(PackTest, ChangedImagesArePackedAgain) {
  run();
  const std::string image = root_ + "/north-east/0.png";
  write_bytes(image, encode_png(quadrant_image(77, 40, 3, /*seed=*/3)));
  EXPECT_EQ(run().kept_shards, 3);
  expect_copied();
}

TEST_F(PackTest, ShardsOfAnInterruptedCallAreRemoved) {
  options_.shards = 6;
  options_.threads = 1;
  options_.progress = [](int64_t images) {
    if (images == 28) fail("interrupted");
  };
  expect_error([&] { run(); }, {"interrupted"});
  EXPECT_TRUE(fs::exists(shard(4)) && fs::exists(shard(4) + ".index") && fs::exists(shard(5) + ".part"));
  write_bytes(out_ + "/shard-7.tar", {});  // not of pack's making
  options_.progress = nullptr;
  options_.shards = 4;
  run();
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(out_)) files.insert(entry.path().filename().string());
  EXPECT_EQ(files, (std::set<std::string>{"riffle-index.txt", "shard-000000.tar", "shard-000001.tar",
                                          "shard-000002.tar", "shard-000003.tar", "shard-7.tar"}));
}

TEST_F(PackTest, OtherOptionsNeedAnotherFolder) {
  run();
  options_.short_edge = 48;
  expect_error([&] { run(); }, {out_, "another origin", "short edge 48", "copied"});
}

TEST_F(PackTest, ImagesThatCannotBeReadAreNamed) {
  write_bytes(root_ + "/north-east/0.png", {});
  expect_error([&] { run(); }, {root_ + "/north-east/0.png", "empty"});
  write_bytes(root_ + "/north-east/0.png", bytes_of("<html>"));
  options_.short_edge = 48;
  expect_error([&] { run(); }, {root_ + "/north-east/0.png", "not an image"});
}

TEST_F(PackTest, DamageIsNoticed) {
  run();
  const Bytes good = read_file(shard(0));
  Bytes bad = good;
  bad[700] ^= 1;
  write_bytes(shard(0), bad);
  const auto data = packed();
  int64_t damaged = 0;
  for (int64_t i = 0; i < data->size(); ++i) {
    try {
      data->encoded(i);
    } catch (const Error& error) {
      ++damaged;
      expect_contains_all(error.what(), {shard(0), "checksum", "packed from"});
      expect_contains_all(error.what(), {fs::path(source()->name(i)).filename().string()});
    }
  }
  EXPECT_EQ(damaged, 1);
  bad.pop_back();
  write_bytes(shard(0), bad);
  expect_error([&] { packed(); }, {shard(0), "bytes", "in the index"});
  fs::remove(shard(0));
  expect_error([&] { packed(); }, {shard(0), "which the index names"});
}

TEST_F(PackTest, EveryDamageOfTheIndexIsNoticed) {
  run();
  const std::string path = out_ + "/riffle-index.txt";
  const Bytes good = read_file(path);
  for (size_t at = 0; at < good.size(); at += 11) {
    Bytes bad = good;
    bad[at] ^= 4;
    write_bytes(path, bad);
    expect_error([&] { packed(); }, {path, "damaged index"});
  }
  for (size_t size = 0; size < good.size(); size += 50) {
    write_bytes(path, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
    expect_error([&] { packed(); }, {path, "damaged index"});
  }
}

TEST_F(PackTest, PixelsBecomePng) {
  write_idx_data(temporary_.path() + "/idx");
  const auto idx = open_dataset(temporary_.path() + "/idx", "val", 1, {});
  options_.shards = 0;
  EXPECT_EQ(pack(*idx, out_, options_).shards, 1);
  const auto data = open_dataset("pack:" + out_, "val", 1, {});
  ASSERT_EQ(data->size(), idx->size());
  for (int64_t i = 0; i < idx->size(); ++i) {
    EXPECT_EQ(data->load(i).pixels, idx->load(i).pixels);
    EXPECT_EQ(data->label(i), idx->label(i));
  }
}

// Numbers take the names of any list that is long enough, packed or not.
TEST_F(PackTest, NumberedClassesStayNumbered) {
  write_idx_data(temporary_.path() + "/idx");
  const std::string source = temporary_.path() + "/idx";
  pack(*open_dataset(source, "val", 1, {}), out_, options_);
  DatasetOptions named;
  for (const std::string& spec : {source, out_}) {
    const auto plain = open_dataset(spec, "val", 1, {});
    EXPECT_TRUE(plain->numbered());
    named.classes.clear();
    for (size_t i = 0; i < plain->classes().size() + 2; ++i) named.classes.push_back(join("class ", i));
    const auto data = open_dataset(spec, "val", 1, named);
    EXPECT_EQ(data->classes(), named.classes);
    EXPECT_EQ(data->label(1), plain->label(1));
  }
  out_ = temporary_.path() + "/named";
  run();
  EXPECT_FALSE(packed()->numbered());
}

}  // namespace
}  // namespace riffle
