// Datasets: order, labels and names of what is found, and an error for everything that can be wrong with the files.
#include <zlib.h>

#include "data/dataset.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

void append_word(std::vector<uint8_t>& bytes, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

// Images 0, 1, 2, ... of `height` x `width`; image i has the pixels 10 i, 10 i + 1, ...
std::vector<uint8_t> idx_images(uint32_t count, uint32_t height, uint32_t width) {
  std::vector<uint8_t> bytes;
  for (const uint32_t word : {0x803u, count, height, width}) append_word(bytes, word);
  for (uint32_t i = 0; i < count; ++i)
    for (uint32_t p = 0; p < height * width; ++p) bytes.push_back(static_cast<uint8_t>(10 * i + p));
  return bytes;
}

std::vector<uint8_t> idx_labels(const std::vector<uint8_t>& labels) {
  std::vector<uint8_t> bytes;
  append_word(bytes, 0x801);
  append_word(bytes, static_cast<uint32_t>(labels.size()));
  bytes.insert(bytes.end(), labels.begin(), labels.end());
  return bytes;
}

void write_gzip(const std::string& path, const std::vector<uint8_t>& bytes) {
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

// A pair of IDX files, 4 images of 2x3, and tests that break one of them.
class IdxTest : public testing::Test {
 protected:
  void SetUp() override {
    write_bytes(images_, idx_images(4, 2, 3));
    write_bytes(labels_, idx_labels({0, 2, 1, 2}));
  }
  std::unique_ptr<Dataset> open(const Strings& classes = {}) { return open_idx(images_, labels_, classes); }

  TemporaryFolder folder_;
  std::string images_ = folder_.path() + "/images", labels_ = folder_.path() + "/labels";
};

TEST_F(IdxTest, ReadsImagesLabelsAndNames) {
  const auto data = open({"boot", "coat", "bag", "dress"});
  EXPECT_EQ(data->size(), 4);
  EXPECT_EQ(data->channels(), 1);
  EXPECT_EQ(data->classes(), (Strings{"boot", "coat", "bag", "dress"}));
  EXPECT_EQ(data->label(3), 2);
  EXPECT_EQ(data->name(3), images_ + "[3]");
  EXPECT_EQ(data->description(), "IDX " + images_ + ": 4 images of 2x3, 4 classes");
  const Image image = data->load(2);
  EXPECT_EQ(image.height, 2);
  EXPECT_EQ(image.width, 3);
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{20, 21, 22, 23, 24, 25}));
}

TEST_F(IdxTest, GzipIsTheSameAsPlain) {
  write_gzip(images_, idx_images(4, 2, 3));
  write_gzip(labels_, idx_labels({0, 2, 1, 2}));
  const auto data = open();
  EXPECT_EQ(data->classes(), (Strings{"0", "1", "2"}));
  EXPECT_EQ(data->label(1), 2);
  EXPECT_EQ(data->load(0).pixels, (std::vector<uint8_t>{0, 1, 2, 3, 4, 5}));
}

TEST_F(IdxTest, ThreeChannelsRepeatTheGrayValue) {
  const auto data = open_idx(images_, labels_, {}, 3);
  EXPECT_EQ(data->channels(), 3);
  const Image image = data->load(1);
  ASSERT_EQ(image.pixels.size(), 18u);
  for (size_t i = 0; i < 18; ++i) EXPECT_EQ(image.pixels[i], 10 + i / 3);
}

TEST_F(IdxTest, MissingFile) {
  fs::remove(labels_);
  expect_error([&] { open(); }, {labels_, "No such file"});
}

TEST_F(IdxTest, WrongMagic) {
  fs::copy_file(labels_, images_, fs::copy_options::overwrite_existing);
  expect_error([&] { open(); }, {images_, "not an IDX file of images", "2049", "2051"});
}

TEST_F(IdxTest, EveryTruncationIsAnError) {
  const auto whole = idx_images(4, 2, 3);
  for (size_t size = 0; size < whole.size(); ++size) {
    write_bytes(images_, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    expect_error([&] { open(); }, {images_, "truncated"});
  }
}

TEST_F(IdxTest, TruncatedGzip) {
  write_gzip(images_, idx_images(4, 2, 3));
  fs::resize_file(images_, fs::file_size(images_) - 10);
  expect_error([&] { open(); }, {images_, "truncated"});
}

TEST_F(IdxTest, CorruptGzip) {
  write_gzip(images_, idx_images(4, 20, 30));
  std::vector<uint8_t> bytes = read_file(images_);
  bytes[bytes.size() - 6] ^= 0xFF;  // the checksum
  write_bytes(images_, bytes);
  expect_error([&] { open(); }, {images_, "corrupt gzip"});
}

TEST_F(IdxTest, BytesTooMany) {
  auto bytes = idx_images(4, 2, 3);
  bytes.push_back(0);
  write_bytes(images_, bytes);
  expect_error([&] { open(); }, {images_, "too long", "promises 24", "has 25"});
}

TEST_F(IdxTest, HeaderWhoseSizeOverflows) {
  std::vector<uint8_t> bytes;
  for (const uint32_t word : {0x803u, 0xFFFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFFFu}) append_word(bytes, word);
  write_bytes(images_, bytes);
  expect_error([&] { open(); }, {images_, "truncated"});
}

TEST_F(IdxTest, CountsThatDiffer) {
  write_bytes(labels_, idx_labels({0, 1, 2}));
  expect_error([&] { open(); }, {images_, "4 images", labels_, "3 labels"});
}

TEST_F(IdxTest, LabelOutOfRange) {
  expect_error([&] { open({"boot", "coat"}); }, {labels_, "label 2 of image 1", "2 classes", "0 to 1"});
}

TEST_F(IdxTest, NoImages) {
  write_bytes(images_, idx_images(0, 2, 3));
  write_bytes(labels_, idx_labels({}));
  expect_error([&] { open(); }, {images_, "no images"});
}

// root/{ape,bee,cat}: 2, 1 and 3 images, with distractions.
class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_.add_fixture("rgb_444.jpg", "cat/b.JPG");
    folder_.add_fixture("rgb_8bit_key.png", "cat/a.png");
    folder_.add_fixture("png_named.jpg", "cat/c.jpeg");
    folder_.add_fixture("gray.jpg", "bee/x.Jpeg");
    folder_.add_fixture("cmyk.jpg", "ape/2.jpg");
    folder_.add_fixture("progressive.jpg", "ape/10.jpg");
    folder_.add_fixture("goldens.txt", "ape/notes.txt");
    folder_.add_fixture("gray.jpg", "ape/.hidden.jpg");
    folder_.add_fixture("gray.jpg", ".thumbnails/t.jpg");
    folder_.add_fixture("goldens.txt", "README");
  }
  const std::string& root() const { return folder_.path(); }
  TemporaryFolder folder_;
};

TEST_F(FolderTest, ClassesAndFilesInByteOrder) {
  const auto data = open_image_folder(root(), 3);
  EXPECT_EQ(data->classes(), (Strings{"ape", "bee", "cat"}));
  const Strings names{"/ape/10.jpg", "/ape/2.jpg", "/bee/x.Jpeg", "/cat/a.png", "/cat/b.JPG", "/cat/c.jpeg"};
  const std::vector<int> labels{0, 0, 1, 2, 2, 2};
  ASSERT_EQ(data->size(), 6);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(data->name(static_cast<int64_t>(i)), root() + names[i]);
    EXPECT_EQ(data->label(static_cast<int64_t>(i)), labels[i]);
    EXPECT_EQ(data->load(static_cast<int64_t>(i)).pixels, decode_file(root() + names[i], 3).pixels);
  }
  EXPECT_EQ(data->description(), "ImageFolder " + root() + ": 6 images, 3 classes");
  EXPECT_EQ(open_image_folder(root(), 1)->load(0).channels, 1);
  expect_error([&] { data->label(6); }, {"image 6 of 6"});
}

// Evaluating on some of a model's classes: labels are the model's.
TEST_F(FolderTest, GivenClassesThatContainTheFoldersKeepTheirNumbers) {
  const Strings classes{"zebra", "cat", "ant", "bee", "ape"};
  const auto data = open_image_folder(root(), 3, classes);
  EXPECT_EQ(data->classes(), classes);
  EXPECT_EQ(data->label(0), 4);
  EXPECT_EQ(data->label(2), 3);
  EXPECT_EQ(data->label(5), 1);
}

TEST_F(FolderTest, GivenClassesRenameTheFolders) {
  const auto data = open_image_folder(root(), 3, {"an ape", "a bee", "a cat"});
  EXPECT_EQ(data->classes()[2], "a cat");
  EXPECT_EQ(data->label(5), 2);
}

TEST_F(FolderTest, GivenClassesThatDoNotFit) {
  expect_error([&] { open_image_folder(root(), 3, {"ape", "bee"}); }, {root(), "\"cat\"", "2 given class names"});
  expect_error([&] { open_image_folder(root(), 3, {"ape", "bee", "dog"}); }, {root(), "\"cat\""});
}

TEST_F(FolderTest, BrokenFilesAreNamedWhenLoaded) {
  write_bytes(root() + "/ape/2.jpg", {});
  std::vector<uint8_t> bytes = read_file(image_fixture("rgb_420.jpg"));
  bytes.resize(bytes.size() / 2);
  write_bytes(root() + "/bee/x.Jpeg", bytes);
  fs::remove(root() + "/cat/a.png");
  fs::create_symlink("nowhere", root() + "/cat/a.png");
  const auto data = open_image_folder(root(), 3);
  expect_error([&] { data->load(1); }, {root() + "/ape/2.jpg", "empty"});
  expect_error([&] { data->load(2); }, {root() + "/bee/x.Jpeg", "truncated"});
  expect_error([&] { data->load(3); }, {root() + "/cat/a.png", "No such file"});
}

TEST_F(FolderTest, ClassFolderWithoutImages) {
  fs::create_directories(root() + "/dog");
  expect_error([&] { open_image_folder(root(), 3); }, {root() + "/dog", "no images", "it is empty"});
  folder_.add_fixture("goldens.txt", "dog/rex.webp");
  expect_error([&] { open_image_folder(root(), 3); }, {root() + "/dog", "no images", "rex.webp"});
}

TEST(ImageFolder, MissingEmptyOrNoFolder) {
  const TemporaryFolder folder;
  expect_error([&] { open_image_folder(folder.path() + "/absent", 3); }, {folder.path() + "/absent", "no such folder"});
  expect_error([&] { open_image_folder(folder.path(), 3); }, {folder.path(), "no class folders"});
  folder.add_fixture("gray.jpg", "a.jpg");
  expect_error([&] { open_image_folder(folder.path(), 3); }, {folder.path(), "no class folders"});
  expect_error([&] { open_image_folder(folder.path() + "/a.jpg", 3); }, {"a.jpg", "not a folder"});
}

TEST(FashionMnist, AsDebianShipsIt) {
  const std::string folder = "/usr/share/datasets/fashion-mnist";  // of the package dataset-fashion-mnist
  if (!fs::is_directory(folder)) GTEST_SKIP() << folder << " is not installed";
  const auto data = open_dataset(folder, "val", 1, {});
  ASSERT_EQ(data->size(), 10000);
  std::vector<int> counts(10);
  for (int64_t i = 0; i < data->size(); ++i) ++counts.at(static_cast<size_t>(data->label(i)));
  EXPECT_EQ(counts, std::vector<int>(10, 1000));
  EXPECT_EQ(data->load(9999).pixels.size(), 784u);
  EXPECT_EQ(open_dataset(folder, "train", 1, {})->size(), 60000);
}

class OpenDataset : public testing::Test {
 protected:
  std::unique_ptr<Dataset> open(const std::string& prefix, const std::string& split) {
    return open_dataset(prefix + folder_.path(), split, 3, {});
  }
  TemporaryFolder folder_;
};

TEST_F(OpenDataset, IdxPlainAndGzip) {
  const std::string& path = folder_.path();
  write_bytes(path + "/train-images-idx3-ubyte", idx_images(4, 2, 3));
  write_bytes(path + "/train-labels-idx1-ubyte", idx_labels({0, 1, 1, 1}));
  write_gzip(path + "/t10k-images-idx3-ubyte.gz", idx_images(2, 2, 3));
  write_gzip(path + "/t10k-labels-idx1-ubyte.gz", idx_labels({0, 1}));
  for (const char* prefix : {"", "idx:"}) {
    EXPECT_EQ(open(prefix, "train")->size(), 4);
    EXPECT_EQ(open(prefix, "val")->size(), 2);
    EXPECT_EQ(open(prefix, "test")->size(), 2);
    EXPECT_EQ(open(prefix, "val")->channels(), 3);
  }
  fs::remove(path + "/train-labels-idx1-ubyte");
  expect_error([&] { open("", "train"); }, {path, "train-labels-idx1-ubyte"});
}

TEST_F(OpenDataset, FolderSplits) {
  folder_.add_fixture("gray.jpg", "train/a/1.jpg");
  folder_.add_fixture("gray.jpg", "train/b/1.jpg");
  folder_.add_fixture("goldens.txt", "train/README");
  for (const char* prefix : {"", "folder:"}) {
    EXPECT_EQ(open(prefix, "train")->size(), 2);
    expect_error([&] { open(prefix, "val"); }, {folder_.path(), "folder train", "no val"});
  }
  folder_.add_fixture("gray.jpg", "test/a/1.jpg");
  EXPECT_EQ(open("", "val")->name(0), folder_.path() + "/test/a/1.jpg");
  folder_.add_fixture("gray.jpg", "val/a/1.jpg");
  EXPECT_EQ(open("", "val")->name(0), folder_.path() + "/val/a/1.jpg");
  EXPECT_EQ(open("", "test")->name(0), folder_.path() + "/test/a/1.jpg");
}

TEST_F(OpenDataset, EmptySplitFolder) {
  fs::create_directories(folder_.path() + "/train");
  expect_error([&] { open("", "train"); }, {folder_.path() + "/train", "no class folders"});
}

TEST_F(OpenDataset, ClassFoldersWithoutSplits) {
  folder_.add_fixture("gray.jpg", "bus/1.jpg");
  folder_.add_fixture("gray.jpg", "train/1.jpg");  // a class: it holds images
  EXPECT_EQ(open("", "train")->classes(), (Strings{"bus", "train"}));
  EXPECT_EQ(open("folder:", "val")->size(), 2);
}

TEST_F(OpenDataset, NothingThatFits) {
  expect_error([&] { open("", "train"); }, {folder_.path(), "train-images-idx3-ubyte", "<class>"});
  expect_error([&] { open("idx:", "val"); }, {folder_.path(), "t10k-images-idx3-ubyte"});
  expect_error([&] { open_dataset("/no/such/place", "val", 3, {}); }, {"/no/such/place", "no such folder", "idx:DIR"});
  expect_error([&] { open_dataset("folder:/no/such/place", "val", 3, {}); }, {"/no/such/place", "no such folder"});
  expect_error([&] { open_dataset("idx:/no/such/place", "val", 3, {}); }, {"/no/such/place", "no such folder", "IDX"});
  expect_error([&] { open_dataset("", "val", 3, {}); }, {"no data"});
  expect_error([&] { open("", "evaluation"); }, {"\"evaluation\"", "train, val or test"});
}

}  // namespace
}  // namespace riffle
