// Decoding: equal to Pillow on every kind of file, pixel by pixel, and strict on broken ones.
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "tests/image_fixtures.h"

namespace riffle {
namespace {

// Pixels of FIXTURE.rgb.idx.gz, read independently of the library's own IDX reader.
Image read_golden(const std::string& fixture) {
  const std::string path = image_fixture(fixture + ".rgb.idx.gz");
  gzFile file = gzopen(path.c_str(), "rb");
  uint8_t header[16] = {};
  Image image;
  if (file != nullptr && gzread(file, header, 16) == 16) {
    const auto extent = [&header](int d) { return header[4 * d + 6] * 256 + header[4 * d + 7]; };
    image = Image(extent(0), extent(1), extent(2));
    const auto size = static_cast<unsigned>(image.pixels.size());
    EXPECT_EQ(gzread(file, image.pixels.data(), size), static_cast<int>(size)) << path;
  } else {
    ADD_FAILURE() << "cannot read " << path;
  }
  gzclose(file);
  return image;
}

class DecodeGolden : public testing::TestWithParam<const char*> {};

TEST_P(DecodeGolden, EqualsPillow) {
  const Image golden = read_golden(GetParam());
  const Image image = decode_file(image_fixture(GetParam()), 3);
  ASSERT_EQ(image.height, golden.height);
  ASSERT_EQ(image.width, golden.width);
  ASSERT_EQ(image.channels, 3);
  const auto difference = std::mismatch(image.pixels.begin(), image.pixels.end(), golden.pixels.begin());
  EXPECT_EQ(difference.first, image.pixels.end())
      << "byte " << difference.first - image.pixels.begin() << " is " << int{*difference.first} << ", Pillow has "
      << int{*difference.second};
}

TEST_P(DecodeGolden, GrayIsLumaOfRgb) {
  const Image rgb = decode_file(image_fixture(GetParam()), 3);
  const Image gray = decode_file(image_fixture(GetParam()), 1);
  ASSERT_EQ(gray.channels, 1);
  ASSERT_EQ(gray.pixels.size() * 3, rgb.pixels.size());
  for (size_t i = 0; i < gray.pixels.size(); ++i) {
    const uint8_t* p = rgb.pixels.data() + 3 * i;
    ASSERT_EQ(int{gray.pixels[i]}, (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 32768) / 65536) << "pixel " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, DecodeGolden,
                         testing::Values("gray.jpg", "rgb_420.jpg", "rgb_422.jpg", "rgb_444.jpg", "progressive.jpg",
                                         "cmyk.jpg", "ycck.jpg", "cmyk_unlabelled.jpg", "rgb_coded.jpg",
                                         "one_pixel.jpg", "exif_rotated.jpg", "png_named.jpg", "gray_1bit.png",
                                         "gray_2bit.png", "gray_4bit.png", "gray_8bit.png", "gray_16bit.png",
                                         "gray_alpha_8bit.png", "gray_alpha_16bit.png", "palette_8bit.png",
                                         "palette_4bit_transparent.png", "rgb_8bit_key.png", "rgb_8bit_interlaced.png",
                                         "rgb_16bit.png", "rgba_8bit.png", "rgba_16bit.png"));

void expect_decode_error(const std::vector<uint8_t>& bytes, const std::vector<std::string>& parts) {
  for (const int channels : {1, 3})
    expect_error([&] { decode_image(bytes.data(), bytes.size(), "some/picture.jpg", channels); }, parts);
}

// Wherever a file is cut, it must not decode: not even without only its last byte.
TEST(DecodeErrors, EveryTruncationIsAnError) {
  for (const char* name : {"gray.jpg", "progressive.jpg", "cmyk.jpg", "rgb_444.jpg", "rgb_8bit_interlaced.png",
                           "palette_4bit_transparent.png", "gray_16bit.png"}) {
    const std::vector<uint8_t> whole = read_file(image_fixture(name));
    for (size_t size = 0; size < whole.size(); size += size + 8 < whole.size() ? 7 : 1) {
      const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      SCOPED_TRACE(testing::Message() << name << " cut to " << size << " of " << whole.size() << " bytes");
      expect_error([&] { decode_image(cut.data(), cut.size(), "some/picture.jpg", 3); }, {"some/picture.jpg: "});
    }
  }
}

TEST(DecodeErrors, TruncationIsNamed) {
  for (const auto& [name, format] : {std::pair("rgb_420.jpg", "JPEG"), std::pair("rgb_16bit.png", "PNG")}) {
    std::vector<uint8_t> bytes = read_file(image_fixture(name));
    bytes.resize(bytes.size() * 2 / 3);
    expect_decode_error(bytes, {"some/picture.jpg: truncated or corrupt ", format});
  }
}

// Data that ends early although the end marker is there: libjpeg only warns and fills the rest with gray.
TEST(DecodeErrors, JpegDataThatEndsEarly) {
  std::vector<uint8_t> bytes = read_file(image_fixture("rgb_420.jpg"));
  const size_t middle = bytes.size() * 2 / 3;
  bytes[middle] = 0xFF;
  bytes[middle + 1] = 0xD9;
  expect_decode_error(bytes, {"some/picture.jpg: truncated or corrupt JPEG: ", "premature end"});
}

// Warnings without lost content are no errors: some of ImageNet's files have such bytes.
TEST(Decode, ExtraneousBytesBeforeTheEndAreHarmless) {
  const Image expected = decode_file(image_fixture("rgb_420.jpg"), 3);
  std::vector<uint8_t> bytes = read_file(image_fixture("rgb_420.jpg"));
  const std::vector<uint8_t> junk{1, 2, 3, 4, 5};
  bytes.insert(bytes.end() - 2, junk.begin(), junk.end());
  bytes.insert(bytes.end(), junk.begin(), junk.end());
  EXPECT_EQ(decode_image(bytes.data(), bytes.size(), "x", 3).pixels, expected.pixels);
}

TEST(DecodeErrors, CorruptPngData) {
  std::vector<uint8_t> bytes = read_file(image_fixture("rgba_8bit.png"));
  bytes[bytes.size() / 2] ^= 0x40;
  expect_decode_error(bytes, {"some/picture.jpg: truncated or corrupt PNG"});
}

TEST(DecodeErrors, EmptyFile) {
  expect_decode_error({}, {"some/picture.jpg", "empty"});
}

template <size_t N>
std::vector<uint8_t> bytes_of(const char (&text)[N]) {
  return {text, text + N - 1};
}

TEST(DecodeErrors, OtherFormatsAreNamed) {
  // NOLINTBEGIN(bugprone-string-literal-with-embedded-nul): bytes_of() knows the length
  expect_decode_error(bytes_of("GIF89a\1\0\1\0"), {"some/picture.jpg", "GIF", "JPEG and PNG"});
  expect_decode_error(bytes_of("RIFF\x10\0\0\0WEBPVP8 "), {"WebP"});
  expect_decode_error(bytes_of("BM\x10\0\0\0\0\0"), {"BMP"});
  expect_decode_error(bytes_of("II*\0\10\0\0\0"), {"TIFF"});
  expect_decode_error(bytes_of("MM\0*\0\0\0\10"), {"TIFF"});
  expect_decode_error(bytes_of("\0\0\0\34ftypavif"), {"AVIF"});
  // NOLINTEND(bugprone-string-literal-with-embedded-nul)
  expect_decode_error(bytes_of("<html><head>"), {"some/picture.jpg", "not an image"});
  expect_decode_error(bytes_of("\x89PNG"), {"not an image"});
}

// A header that promises a gigantic picture is refused before memory is asked for.
TEST(DecodeErrors, AbsurdSize) {
  std::vector<uint8_t> jpeg = read_file(image_fixture("rgb_444.jpg"));
  const std::vector<uint8_t> frame_header{0xFF, 0xC0, 0x00, 0x11, 0x08};
  const auto at = std::search(jpeg.begin(), jpeg.end(), frame_header.begin(), frame_header.end());
  ASSERT_NE(at, jpeg.end());
  std::fill(at + 5, at + 9, uint8_t{0xFD});
  expect_decode_error(jpeg, {"some/picture.jpg", "65021x65021 pixels"});
}

TEST(ReadFile, ErrorsHaveThePathAndTheReason) {
  const TemporaryFolder folder;
  expect_error([&] { read_file(folder.path() + "/absent.jpg"); }, {folder.path() + "/absent.jpg", "No such file"});
  expect_error([&] { read_file(folder.path()); }, {folder.path(), "not a regular file"});
}

TEST(RealImages, AllDecode) {
  if (real_images().empty()) GTEST_SKIP() << "no real images on this machine";
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(real_images())) {
    if (!entry.is_regular_file() || ++count % 8 != 0) continue;
    const Image image = decode_file(entry.path().string(), 3);
    EXPECT_EQ(image.pixels.size(), static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3);
    EXPECT_GT(*std::max_element(image.pixels.begin(), image.pixels.end()), 100) << entry.path();
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace riffle
