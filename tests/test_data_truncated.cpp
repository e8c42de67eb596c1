// Files that end too early: accepted, they have the pixels that Pillow gives them with LOAD_TRUNCATED_IMAGES; else, and
// where the header is cut, they are errors.
#include <gtest/gtest.h>
#include <zlib.h>

#include <map>
#include <sstream>

#include "data/quick_decode.h"
#include "tests/generated_images.h"
#include "tests/image_fixtures.h"

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
  std::string name, pixels;  // a checksum, or "refused"
  size_t size = 0;
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
  int refused = 0, wrong = 0;
  for (const Golden& golden : all) {
    Bytes& file = files[golden.name];
    if (file.empty()) file = read_file(golden_file(golden.name));
    const std::string pixels = pixels_of(cut(file, golden.size));
    refused += pixels == "refused" ? 1 : 0;
    if (pixels != golden.pixels && ++wrong <= 10)
      ADD_FAILURE() << golden.name << " cut after " << golden.size << " bytes: " << pixels << ", Pillow has "
                    << golden.pixels;
  }
  EXPECT_EQ(wrong, 0) << "of " << all.size();
  EXPECT_LT(refused, static_cast<int>(all.size() / 2));
}

}  // namespace
}  // namespace riffle
