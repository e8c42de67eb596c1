// One generated set of images in class folders, from which tests of sources make every layout that people have.
#pragma once

#include <algorithm>

#include "data/dataset.h"
#include "data/encode.h"
#include "data/label_files.h"
#include "data/loader.h"
#include "data/sources.h"
#include "tests/tar_files.h"
#include "tests/tiny_data.h"

namespace riffle {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

inline const Strings kWnids{"n01440764", "n01443537", "n01484850", "n01491361"};

inline void write_file(const std::string& path, const Bytes& bytes) {
  fs::create_directories(fs::path(path).parent_path());
  write_bytes(path, bytes);
}

inline void write_text(const std::string& path, const std::string& text) {
  write_file(path, bytes_of(text));
}

inline Bytes image_bytes(int64_t index) {
  return encode_jpeg(quadrant_image(index, 32, 3, /*seed=*/5), 90);
}

// 24 images of 4 classes in train/<wnid>/, 8 in val/<wnid>/, named as ImageNet names them.
class Layouts : public testing::Test {
 protected:
  void SetUp() override {
    for (int64_t i = 0; i < 24; ++i) {
      const std::string& wnid = kWnids[static_cast<size_t>(i % 4)];
      write_file(join(folders_, "/train/", wnid, "/", wnid, "_", i, ".JPEG"), image_bytes(i));
    }
    for (int64_t i = 0; i < 8; ++i)
      write_file(join(folders_, "/val/", val_wnid(i), "/", val_name(i)), image_bytes(100 + i));
  }

  static std::string val_name(int64_t i) { return join("ILSVRC2012_val_0000000", i + 1, ".JPEG"); }
  static const std::string& val_wnid(int64_t i) { return kWnids[static_cast<size_t>(i % 4)]; }

  std::unique_ptr<Dataset> open(const std::string& spec, const std::string& split, const DatasetOptions& options = {}) {
    return open_dataset(spec, split, 3, options);
  }
  // A new folder with val/ILSVRC2012_val_*.JPEG and train/ as above.
  std::string make_flat() {
    const std::string root = join(temporary_.path(), "/flat", ++made_);
    fs::create_directories(root + "/val");
    fs::copy(folders_ + "/train", root + "/train", fs::copy_options::recursive);
    for (int64_t i = 0; i < 8; ++i) write_bytes(join(root, "/val/", val_name(i)), image_bytes(100 + i));
    return root;
  }
  // ILSVRC2012_img_train.tar, a tar file of tar files, and ILSVRC2012_img_val.tar with labels beside it.
  std::string make_official() {
    const std::string root = temporary_.path() + "/official";
    Bytes outer, val;
    for (size_t c = kWnids.size(); c-- > 0;)
      append_tar_member(outer, {kWnids[c] + ".tar"}, tar_of_folder(folders_ + "/train/" + kWnids[c]));
    append_tar_end(outer);
    for (int64_t i = 8; i-- > 0;) append_tar_member(val, {val_name(i)}, image_bytes(100 + i));
    append_tar_end(val);
    write_file(root + "/ILSVRC2012_img_train.tar", outer);
    write_file(root + "/ILSVRC2012_img_val.tar", val);
    write_text(root + "/imagenet_2012_validation_synset_labels.txt", lines([](int64_t i) { return val_wnid(i); }));
    return root;
  }
  template <class Word>
  static std::string lines(Word word) {
    std::string text;
    for (int64_t i = 0; i < 8; ++i) text += word(i) + "\n";
    return text;
  }

  void expect_same(const Dataset& data, const std::string& split, const Strings& classes = kWnids) {
    const auto folder = open_dataset(folders_, split, 3, {});
    ASSERT_EQ(data.size(), folder->size()) << data.description();
    EXPECT_EQ(data.classes(), classes) << data.description();
    for (int64_t i = 0; i < data.size(); ++i) {
      EXPECT_EQ(data.label(i), folder->label(i)) << data.name(i);
      EXPECT_EQ(*data.encoded(i), *folder->encoded(i)) << data.name(i);
      EXPECT_EQ(data.load(i).pixels, folder->load(i).pixels) << data.name(i);
    }
  }

  TemporaryFolder temporary_;
  std::string folders_ = temporary_.path() + "/folders";
  int made_ = 0;
};

}  // namespace riffle
