// EXIF orientation: reported by the decoders, whatever the file; applied by the transforms only where asked, as Pillow's
// ImageOps.exif_transpose does (scripts/goldens/make_opencv_goldens.py).
#include <zlib.h>

#include <algorithm>
#include <sstream>

#include "data/augment.h"
#include "data/orientation.h"
#include "data/transform.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

using Bytes = std::vector<uint8_t>;

void append(Bytes& bytes, uint32_t value, int count, bool little_endian) {
  for (int i = 0; i < count; ++i) {
    bytes.push_back(static_cast<uint8_t>(value >> (8 * (little_endian ? i : count - 1 - i))));
  }
}

// EXIF data with one entry.
Bytes tiff(uint32_t orientation, bool little_endian, uint32_t type = 3) {
  Bytes bytes(2, little_endian ? 'I' : 'M');
  append(bytes, 42, 2, little_endian);
  append(bytes, 8, 4, little_endian);
  append(bytes, 1, 2, little_endian);
  append(bytes, 0x0112, 2, little_endian);
  append(bytes, type, 2, little_endian);
  append(bytes, 1, 4, little_endian);
  append(bytes, orientation, 2, little_endian);
  append(bytes, 0, 2, little_endian);  // fills the value
  append(bytes, 0, 4, little_endian);  // no next directory
  return bytes;
}

Bytes with_exif(const std::string& jpeg_fixture, const Bytes& exif) {
  Bytes bytes = read_file(image_fixture(jpeg_fixture));
  Bytes segment{0xFF, 0xE1};
  append(segment, static_cast<uint32_t>(exif.size()) + 8, 2, false);
  for (const char c : {'E', 'x', 'i', 'f', '\0', '\0'}) segment.push_back(static_cast<uint8_t>(c));
  segment.insert(segment.end(), exif.begin(), exif.end());
  bytes.insert(bytes.begin() + 2, segment.begin(), segment.end());
  return bytes;
}

Image decode(const Bytes& bytes) {
  return decode_image(bytes.data(), bytes.size(), "test image", 3);
}

// Lines of orientations.txt: FILE CHANNELS orientation VALUE LITTLE_ENDIAN | HEIGHT WIDTH CHANNELS CRC32.
TEST(Orientation, EqualsPillows) {
  std::ifstream file(std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/resize/orientations.txt");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    std::istringstream words(line);
    std::string name, operation, bar;
    int channels = 0, height = 0, width = 0;
    uint32_t orientation = 0, little_endian = 0, crc = 0;
    words >> name >> channels >> operation >> orientation >> little_endian >> bar >> height >> width >> channels;
    ASSERT_TRUE(words >> std::hex >> crc) << line;
    const Image stored = decode(with_exif(name, tiff(orientation, little_endian != 0)));
    const Image image = upright(stored);
    EXPECT_EQ(image.height, height) << line;
    EXPECT_EQ(image.width, width) << line;
    EXPECT_EQ(image.orientation, kUpright);
    EXPECT_EQ(crc32(0, image.pixels.data(), static_cast<unsigned>(image.pixels.size())), crc) << line;
    EXPECT_EQ(stored.pixels, decode_file(image_fixture(name), 3).pixels);
  }
  EXPECT_EQ(lines, 20);
}

TEST(Orientation, OfBrokenDataIsUpright) {
  for (const bool little_endian : {false, true}) {
    const Bytes whole = tiff(6, little_endian);
    EXPECT_EQ(exif_orientation(whole.data(), whole.size()), 6);
    for (size_t size = 0; size < 22; ++size) {  // without the last byte of the entry
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_EQ(exif_orientation(cut.data(), cut.size()), kUpright) << size;
    }
    Bytes far = whole;  // the directory lies behind the end
    std::fill(far.begin() + 4, far.begin() + 8, uint8_t{0xFF});
    EXPECT_EQ(exif_orientation(far.data(), far.size()), kUpright);
    Bytes many = whole;  // 65,535 entries, of which one is there, of another tag
    std::fill(many.begin() + 8, many.begin() + 12, uint8_t{0xFF});
    EXPECT_EQ(exif_orientation(many.data(), many.size()), kUpright);
    const Bytes text = tiff(6, little_endian, /*type=*/2);
    EXPECT_EQ(exif_orientation(text.data(), text.size()), kUpright);
    EXPECT_EQ(decode(with_exif("gray.jpg", Bytes(far))).orientation, kUpright);
  }
  Bytes unordered = tiff(6, true);
  unordered[0] = 'X';
  EXPECT_EQ(exif_orientation(unordered.data(), unordered.size()), kUpright);
  EXPECT_EQ(decode_file(image_fixture("gray.jpg"), 1).orientation, kUpright);
}

TEST(Orientation, OfPng) {
  const Bytes exif = tiff(8, true);
  Bytes chunk;
  append(chunk, static_cast<uint32_t>(exif.size()), 4, false);
  for (const char c : {'e', 'X', 'I', 'f'}) chunk.push_back(static_cast<uint8_t>(c));
  chunk.insert(chunk.end(), exif.begin(), exif.end());
  append(chunk, static_cast<uint32_t>(crc32(0, chunk.data() + 4, static_cast<unsigned>(chunk.size() - 4))), 4, false);
  Bytes bytes = read_file(image_fixture("rgba_8bit.png"));
  EXPECT_EQ(decode(bytes).orientation, kUpright);
  constexpr int kSignatureAndHeader = 8 + 25;
  bytes.insert(bytes.begin() + kSignatureAndHeader, chunk.begin(), chunk.end());
  EXPECT_EQ(decode(bytes).orientation, 8);
  EXPECT_EQ(decode(bytes).pixels, decode_file(image_fixture("rgba_8bit.png"), 3).pixels);
}

TEST(Orientation, IsAppliedWhereAskedOnly) {
  const Image stored = decode_file(image_fixture("exif_rotated.jpg"), 3);
  ASSERT_EQ(stored.orientation, 6);
  Image unmarked = stored;
  unmarked.orientation = kUpright;
  EvalTransform evaluation{20, 16};
  EXPECT_EQ(evaluation.apply(stored).pixels, evaluation.apply(unmarked).pixels);
  evaluation.exif_orientation = true;
  EXPECT_EQ(evaluation.apply(stored).pixels, evaluation.apply(upright(stored)).pixels);
  EXPECT_NE(evaluation.apply(stored).pixels, evaluation.apply(unmarked).pixels);

  const auto train = [](bool oriented, const Image& image) {
    TrainTransform transform;
    transform.size = 16;
    transform.exif_orientation = oriented;
    RandomStream random(1, RandomPurpose::kAugment);
    return transform.apply(image, random).pixels;
  };
  EXPECT_EQ(train(false, stored), train(false, unmarked));
  EXPECT_EQ(train(true, stored), train(false, upright(stored)));
  EXPECT_NE(train(true, stored), train(false, stored));
}

}  // namespace
}  // namespace riffle
