// Files that end too early: accepted, they have the pixels that Pillow gives them with LOAD_TRUNCATED_IMAGES; else, and
// where the header is cut, they are errors.
#include <gtest/gtest.h>
#include <zlib.h>

#include <map>
#include <set>
#include <sstream>

#include "data/quick_decode.h"
#include "tests/image_fixtures.h"
#include "tests/loader_data.h"

namespace riffle {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr const char* kPath = "folder/picture.JPEG";

Image decode(const Bytes& file, TruncatedImages truncated, int channels = 3) {
  return decode_image(file.data(), file.size(), kPath, channels, truncated);
}

Bytes cut(const Bytes& file, size_t size) {
  return {file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)};
}

uint32_t checksum(const Image& image) {
  return static_cast<uint32_t>(::crc32_z(0, image.pixels.data(), image.pixels.size()));
}

struct Golden {
  std::string name;
  size_t size = 0;
  // Checksums, or "refused": of libjpeg-turbo 3, and of 2, which smooths incomplete progressive pictures in another way.
  std::string pixels, older_pixels;
};

// RIFFLE_TRUNCATED_GOLDENS and RIFFLE_TRUNCATED_FOLDER name others, such as those of a folder of photographs.
std::vector<Golden> goldens() {
  const char* other = std::getenv("RIFFLE_TRUNCATED_GOLDENS");
  std::ifstream file(other != nullptr ? other : image_fixture("truncated.txt"));
  std::vector<Golden> all;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    Golden golden;
    words >> golden.name >> golden.size >> golden.pixels;
    if (!words) ADD_FAILURE() << "a line that is not a file, a size and a checksum: " << line;
    golden.older_pixels = golden.pixels;
    words >> golden.older_pixels;
    all.push_back(golden);
  }
  return all;
}

std::string golden_file(const std::string& name) {
  const char* other = std::getenv("RIFFLE_TRUNCATED_FOLDER");
  return other != nullptr ? join(other, "/", name) : image_fixture(name);
}

std::string pixels_of(const Bytes& file) {
  try {
    const Image image = decode(file, TruncatedImages::kAccept);
    EXPECT_TRUE(image.truncated);
    char text[16];
    std::snprintf(text, sizeof(text), "%08x", checksum(image));
    return text;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(kPath), std::string::npos) << error.what();
    return "refused";
  }
}

TEST(TruncatedImages, HavePillowsPixels) {
  const std::vector<Golden> all = goldens();
  ASSERT_GT(all.size(), 600u);
  std::map<std::string, Bytes> files;
  int refused = 0, wrong = 0, newer = 0, older = 0;
  for (const Golden& golden : all) {
    Bytes& file = files[golden.name];
    if (file.empty()) file = read_file(golden_file(golden.name));
    const std::string pixels = pixels_of(cut(file, golden.size));
    refused += pixels == "refused" ? 1 : 0;
    newer += pixels == golden.pixels ? 1 : 0;
    older += pixels == golden.older_pixels ? 1 : 0;
    if (pixels != golden.pixels && pixels != golden.older_pixels && ++wrong <= 10)
      ADD_FAILURE() << golden.name << " cut after " << golden.size << " bytes: " << pixels << ", Pillow has "
                    << golden.pixels;
  }
  EXPECT_EQ(std::max(newer, older), static_cast<int>(all.size())) << "of one libjpeg-turbo throughout";
  EXPECT_LT(refused, static_cast<int>(all.size() / 2));
}

TEST(TruncatedImages, AreErrorsUnlessAccepted) {
  for (const char* name : {"rgb_420.jpg", "progressive.jpg", "rgba_8bit.png"}) {
    const Bytes file = read_file(image_fixture(name));
    for (const size_t size : {file.size() - 1, file.size() / 2}) {
      expect_error([&] { decode(cut(file, size), TruncatedImages::kError); }, {kPath, "truncated or corrupt"});
      EXPECT_TRUE(decode(cut(file, size), TruncatedImages::kAccept).truncated) << name;
    }
    EXPECT_FALSE(decode(file, TruncatedImages::kAccept).truncated) << name;
    expect_error([&] { decode(cut(file, 24), TruncatedImages::kAccept); }, {kPath, "truncated or corrupt"});
  }
}

// What a file has lost at its end is accepted, but no other damage.
TEST(TruncatedImages, DamageIsStillAnError) {
  Bytes png = read_file(image_fixture("rgba_8bit.png"));
  png[18] ^= 1;  // in IHDR
  for (const size_t size : {png.size(), png.size() - 20})
    expect_error([&] { decode(cut(png, size), TruncatedImages::kAccept); }, {kPath, "corrupt PNG", "CRC"});
  Bytes jpeg = read_file(image_fixture("rgb_420.jpg"));
  jpeg.erase(jpeg.end() - 700, jpeg.end() - 2);  // ends in EOI, too early
  expect_error([&] { decode(jpeg, TruncatedImages::kAccept); }, {kPath, "corrupt JPEG", "premature end"});
}

// Rows, columns and whole files; the bottom is gray, as in exact mode.
TEST(TruncatedImages, PartsAreThoseOfTheWholePicture) {
  const Bytes file = read_file(image_fixture("landscape.jpg")), half = cut(file, file.size() / 2);
  const Image whole = decode(half, TruncatedImages::kAccept);
  for (const CropBox crop : {CropBox{0, 0, whole.height, whole.width}, CropBox{whole.height - 40, 30, 40, 50},
                             CropBox{whole.height / 2 - 30, 64, 60, 80}, CropBox{0, 10, 20, 30}}) {
    PartialJpeg partial(half.data(), half.size(), 3, TruncatedImages::kAccept);
    ASSERT_TRUE(partial.readable());
    const DecodedCrop part = partial.decode(crop, crop.height, crop.width, kPath);
    EXPECT_EQ(part.image.truncated, crop.top + crop.height > whole.height / 2) << crop.top;
    const auto top = static_cast<int>(part.box.top), left = static_cast<int>(part.box.left);
    for (int y = 0; y < crop.height; ++y)
      for (int x = 0; x < 3 * crop.width; ++x)
        ASSERT_EQ(part.image.pixels[static_cast<size_t>(((top + y) * part.image.width + left) * 3 + x)],
                  whole.pixels[static_cast<size_t>(((crop.top + y) * whole.width + crop.left) * 3 + x)])
            << "row " << crop.top + y << ", byte " << x;
  }
  PartialJpeg refusing(half.data(), half.size(), 3);
  expect_error([&] { refusing.decode({whole.height - 40, 30, 40, 50}, 40, 50, kPath); }, {kPath, "truncated"});
}

// --- through the loader ---

class TruncatedFolder : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 8; ++i) folder_.add_fixture("landscape.jpg", join(i % 2 == 0 ? "a/" : "b/", i, ".jpg"));
    Bytes half = read_file(image_fixture("landscape.jpg"));
    half.resize(half.size() / 2);
    for (const char* name : {"/a/4.jpg", "/b/3.jpg"}) write_bytes(folder_.path() + name, half);
  }
  std::unique_ptr<Dataset> open(TruncatedImages truncated) const {
    DatasetOptions options;
    options.truncated = truncated;
    return open_dataset(folder_.path(), "train", 3, options);
  }
  static LoaderOptions loading(bool training, int threads, DecodeMode decode = DecodeMode::kExact) {
    LoaderOptions options = training ? training_options(4, threads) : evaluation_options(3, threads);
    options.train_transform = {32, {RandomResizedCrop{}}, {}};
    options.train_transform.decode = decode;
    options.eval_transform = {40, 32};
    options.repeats = training ? 2 : 1;
    return options;
  }
  TemporaryFolder folder_;
};

TEST_F(TruncatedFolder, AcceptedImagesAreCountedAndNoneIsBad) {
  const auto data = open(TruncatedImages::kAccept);
  for (const bool training : {false, true}) {
    std::vector<CopiedBatch> batches;
    for (const int threads : {1, 8}) {
      Loader loader(*data, loading(training, threads));
      loader.start_epoch(0);
      const std::vector<CopiedBatch> epoch = rest_of_epoch(loader);
      EXPECT_TRUE(loader.bad_images().empty());
      if (!training) {
        EXPECT_EQ(loader.truncated_images(), (std::vector<int64_t>{2, 5}));
      }
      std::set<int64_t> shown;  // an epoch with repeats shows half of the images
      for (const CopiedBatch& batch : epoch)
        for (const int64_t index : batch.indices)
          if (index == 2 || index == 5) shown.insert(index);
      EXPECT_EQ(std::set<int64_t>(loader.truncated_images().begin(), loader.truncated_images().end()), shown);
      EXPECT_EQ(loader.truncated_images().size(), shown.size());
      if (threads == 1) batches = epoch;
      EXPECT_TRUE(epoch == batches);
      loader.start_epoch(0);
      EXPECT_TRUE(loader.truncated_images().empty());
    }
  }
}

TEST_F(TruncatedFolder, QuickDecodingReadsThemToo) {
  const auto data = open(TruncatedImages::kAccept);
  Loader loader(*data, loading(true, 2, DecodeMode::kQuick));
  std::set<int64_t> seen;
  for (int epoch = 0; epoch < 8; ++epoch) {
    loader.start_epoch(epoch);
    EXPECT_EQ(rest_of_epoch(loader).size(), 2u);
    EXPECT_TRUE(loader.bad_images().empty());
    seen.insert(loader.truncated_images().begin(), loader.truncated_images().end());
  }
  EXPECT_EQ(seen, (std::set<int64_t>{2, 5}));
}

TEST_F(TruncatedFolder, ByDefaultTheyAreBad) {
  const auto data = open(TruncatedImages::kError);
  LoaderOptions options = loading(false, 2);
  options.max_bad_images = 2;
  Loader loader(*data, options);
  loader.start_epoch(0);
  rest_of_epoch(loader);
  EXPECT_EQ(loader.bad_images().size(), 2u);
  EXPECT_TRUE(loader.truncated_images().empty());
}

}  // namespace
}  // namespace riffle
