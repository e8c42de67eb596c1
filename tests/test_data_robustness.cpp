// Every kind of odd and broken image file, made here: right pixels, or an error that names the file. Equality with Pillow
// is test_data_image's subject; here the pixels are known from what was written.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "data/transform.h"
#include "tests/generated_images.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr const char* kPath = "folder/picture.JPEG";

Image decode(const Bytes& file, int channels = 3) {
  return decode_image(file.data(), file.size(), kPath, channels);
}

// A smooth picture, which JPEG keeps almost unchanged, or noise.
Bytes gradient(int height, int width, int channels) {
  Bytes pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        pixels.push_back(static_cast<uint8_t>(40 + 60 * c / channels + 90 * x / width + 60 * y / height));
  return pixels;
}

Bytes noise(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

void expect_near(const Bytes& got, const Bytes& expected, int tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_LE(std::abs(int{got[i]} - int{expected[i]}), tolerance) << "byte " << i;
}

// --- JPEG ---

TEST(GeneratedJpeg, ColourInEveryCoding) {
  const Bytes pixels = gradient(40, 56, 3);
  for (const bool progressive : {false, true}) {
    for (const unsigned restart_rows : {0u, 1u}) {
      for (const J_COLOR_SPACE space : {JCS_YCbCr, JCS_RGB}) {
        SCOPED_TRACE(testing::Message() << progressive << restart_rows << space);
        JpegKind kind;
        kind.file_space = space;
        kind.progressive = progressive;
        kind.restart_rows = restart_rows;
        expect_near(decode(make_jpeg(pixels, 40, 56, kind)).pixels, pixels, 3);
        kind.sampling = space == JCS_YCbCr ? 2 : 1;
        expect_near(decode(make_jpeg(pixels, 40, 56, kind)).pixels, pixels, 6);
      }
    }
  }
}

TEST(GeneratedJpeg, GrayIsRepeated) {
  const Bytes gray = gradient(33, 17, 1);
  JpegKind kind;
  kind.in_space = kind.file_space = JCS_GRAYSCALE;
  const Bytes file = make_jpeg(gray, 33, 17, kind);
  expect_near(decode(file, 1).pixels, gray, 2);
  const Image rgb = decode(file, 3);
  for (size_t i = 0; i < rgb.pixels.size(); i += 3) {
    ASSERT_EQ(rgb.pixels[i], rgb.pixels[i + 1]);
    ASSERT_EQ(rgb.pixels[i], rgb.pixels[i + 2]);
  }
}

// Adobe stores 255 - ink; so light = stored, and a channel is (its light) * (black's light) / 255.
TEST(GeneratedJpeg, CmykAndYcckAreInverted) {
  const Bytes stored = gradient(24, 32, 4);
  Bytes expected;
  for (size_t i = 0; i < stored.size(); i += 4)
    for (size_t c = 0; c < 3; ++c)
      expected.push_back(static_cast<uint8_t>(std::lround(stored[i + c] * stored[i + 3] / 255.0)));
  for (const J_COLOR_SPACE space : {JCS_CMYK, JCS_YCCK}) {
    JpegKind kind;
    kind.in_space = JCS_CMYK;
    kind.file_space = space;
    expect_near(decode(make_jpeg(stored, 24, 32, kind)).pixels, expected, 4);
  }
}

// --- PNG: exact ---

TEST(GeneratedPng, EveryColourTypeAndInterlacing) {
  constexpr int kHeight = 21, kWidth = 13;
  constexpr size_t kPixels = size_t{kHeight} * kWidth;
  const auto take = [](const Bytes& in, size_t step, const std::vector<size_t>& channels) {
    Bytes out;
    for (size_t i = 0; i < in.size(); i += step)
      for (const size_t channel : channels) out.push_back(in[i + channel]);
    return out;
  };
  for (const bool interlaced : {false, true}) {
    PngKind kind;
    kind.interlaced = interlaced;
    const auto check = [&](int type, int depth, const Bytes& rows, const Bytes& expected) {
      SCOPED_TRACE(testing::Message() << "type " << type << ", " << depth << " bits, interlaced " << interlaced);
      kind.color_type = type;
      kind.bit_depth = depth;
      EXPECT_EQ(decode(make_png(rows, kHeight, kWidth, kind)).pixels, expected);
    };
    const Bytes gray = noise(kPixels, 1), rgb = noise(kPixels * 3, 2), wide = noise(kPixels * 6, 3);
    const Bytes rgba = noise(kPixels * 4, 4), gray_alpha = noise(kPixels * 2, 5), wide_alpha = noise(kPixels * 8, 6);
    check(PNG_COLOR_TYPE_GRAY, 8, gray, take(gray, 1, {0, 0, 0}));
    check(PNG_COLOR_TYPE_GRAY_ALPHA, 8, gray_alpha, take(gray_alpha, 2, {0, 0, 0}));
    check(PNG_COLOR_TYPE_RGB, 8, rgb, rgb);
    check(PNG_COLOR_TYPE_RGB_ALPHA, 8, rgba, take(rgba, 4, {0, 1, 2}));
    check(PNG_COLOR_TYPE_RGB, 16, wide, take(wide, 6, {0, 2, 4}));
    check(PNG_COLOR_TYPE_RGB_ALPHA, 16, wide_alpha, take(wide_alpha, 8, {0, 2, 4}));
    Bytes saturated;  // 16-bit gray: as Pillow
    const Bytes wide_gray = noise(kPixels * 2, 7);
    for (size_t i = 0; i < wide_gray.size(); i += 2)
      saturated.insert(saturated.end(), 3, wide_gray[i] != 0 ? uint8_t{255} : wide_gray[i + 1]);
    check(PNG_COLOR_TYPE_GRAY, 16, wide_gray, saturated);
    Bytes indices = noise(kPixels, 8), colours;
    kind.palette = {{9, 8, 7}, {255, 0, 1}, {77, 78, 79}};
    for (uint8_t& index : indices) {
      index %= 3;
      const png_color& colour = kind.palette[index];
      colours.insert(colours.end(), {colour.red, colour.green, colour.blue});
    }
    check(PNG_COLOR_TYPE_PALETTE, 8, indices, colours);
  }
}

TEST(GeneratedPng, AnIndexBeyondThePaletteDoesNotReadBeyondIt) {
  PngKind kind;
  kind.color_type = PNG_COLOR_TYPE_PALETTE;
  kind.palette = {{1, 2, 3}, {4, 5, 6}};
  Bytes file = make_png({0, 1, 1, 0}, 2, 2, kind);
  // Cut the palette to one entry; CRCs of the chunk are made right again by rewriting it as libpng would have.
  kind.palette.resize(1);
  const Bytes shorter = make_png({0, 0, 0, 0}, 2, 2, kind);
  const auto find = [](const Bytes& bytes, const std::string& tag) {
    return std::search(bytes.begin(), bytes.end(), tag.begin(), tag.end()) - bytes.begin();
  };
  Bytes mixed(shorter.begin(), shorter.begin() + find(shorter, "IDAT") - 4);
  mixed.insert(mixed.end(), file.begin() + find(file, "IDAT") - 4, file.end());
  try {
    EXPECT_EQ(decode(mixed).pixels.size(), 12u);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(kPath), std::string::npos) << error.what();
  }
}

// --- sizes ---

TEST(OddSizes, OnePixelThinAndVeryWideImagesBecomeCrops) {
  for (const auto& [height, width] :
       std::vector<std::pair<int, int>>{{1, 1}, {1, 97}, {97, 1}, {3, 20000}, {20000, 2}}) {
    SCOPED_TRACE(testing::Message() << width << "x" << height);
    const Bytes pixels = gradient(height, width, 3);
    for (const bool png : {false, true}) {
      const Image image = decode(png ? make_png(pixels, height, width, {}) : make_jpeg(pixels, height, width, {}));
      ASSERT_EQ(image.height, height);
      ASSERT_EQ(image.width, width);
      if (png) {
        EXPECT_EQ(image.pixels, pixels);
      } else {
        expect_near(image.pixels, pixels, 3);
      }
      EvalTransform transform;
      transform.resize = 40;
      transform.crop = 32;
      EXPECT_EQ(transform.apply(image).pixels.size(), 32u * 32 * 3);
    }
  }
}

// Two bytes of a header must not make us ask for gigabytes.
TEST(OddSizes, HeadersThatPromiseTooMuchAreRefused) {
  Bytes jpeg = make_jpeg(gradient(16, 16, 3), 16, 16, {});
  const Bytes frame{0xFF, 0xC0, 0x00, 0x11, 0x08};
  const auto at = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
  ASSERT_NE(at, jpeg.end());
  for (int i = 0; i < 4; i += 2) {
    at[5 + i] = 65500 >> 8;
    at[6 + i] = 65500 & 0xFF;
  }
  expect_error([&] { decode(jpeg); }, {kPath, "65500x65500", "178956970"});
  // A PNG of that size with a right checksum: one bit a pixel, nothing in it.
  PngKind kind;
  kind.color_type = PNG_COLOR_TYPE_GRAY;
  kind.bit_depth = 1;
  const Bytes png = make_png(Bytes(8188, 0), 1, 65500, kind);
  ASSERT_EQ(decode(png).width, 65500);
  Bytes small_but_tall = make_png(Bytes(size_t{8188} * 3000, 0), 3000, 65500, kind);
  expect_error([&] { decode(small_but_tall); }, {kPath, "65500x3000"});
}

// --- broken files ---

struct Sample {
  const char* name;
  Bytes file;
};

std::vector<Sample> samples() {
  JpegKind progressive, cmyk, restarts;
  progressive.progressive = true;
  cmyk.in_space = JCS_CMYK;
  cmyk.file_space = JCS_YCCK;
  restarts.restart_rows = 1;
  restarts.sampling = 2;
  PngKind interlaced, palette;
  interlaced.interlaced = true;
  palette.color_type = PNG_COLOR_TYPE_PALETTE;
  palette.palette.resize(256);
  return {{"baseline JPEG", make_jpeg(noise(64 * 48 * 3, 1), 64, 48, {})},
          {"progressive JPEG", make_jpeg(noise(64 * 48 * 3, 2), 64, 48, progressive)},
          {"YCCK JPEG", make_jpeg(noise(40 * 48 * 4, 3), 40, 48, cmyk)},
          {"JPEG with restarts", make_jpeg(noise(64 * 48 * 3, 4), 64, 48, restarts)},
          {"PNG", make_png(noise(64 * 48 * 3, 5), 64, 48, {})},
          {"interlaced PNG", make_png(noise(64 * 48 * 3, 6), 64, 48, interlaced)},
          {"palette PNG", make_png(noise(64 * 48, 7), 64, 48, palette)}};
}

TEST(BrokenFiles, TruncatedEvery512BytesIsAlwaysAnError) {
  for (const auto& [name, file] : samples()) {
    ASSERT_GT(file.size(), 2048u) << name;
    for (size_t size = 0; size < file.size(); size += 512) {
      SCOPED_TRACE(testing::Message() << name << " cut to " << size << " of " << file.size());
      const Bytes part(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      expect_error([&] { decode(part); }, {kPath, size == 0 ? "the file is empty" : "truncated or corrupt"});
    }
  }
}

TEST(BrokenFiles, FlippedBitsGiveAnImageOfTheHeadersSizeOrANamedError) {
  std::mt19937 random(20261124);
  for (const auto& [name, file] : samples()) {
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
      Bytes flipped = file;
      for (unsigned flips = 1 + random() % 3; flips > 0; --flips)
        flipped[random() % (i % 4 == 0 ? 700 : flipped.size())] ^= static_cast<uint8_t>(1u << random() % 8);
      try {
        const Image image = decode(flipped);
        ASSERT_EQ(image.pixels.size(), static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3);
      } catch (const Error& error) {
        ASSERT_EQ(std::string(error.what()).rfind(kPath, 0), 0u) << error.what();
        ++refused;
      }
    }
    EXPECT_GT(refused, 0) << name;
  }
}

TEST(BrokenFiles, OtherFormatsUnderAnImagesNameAreNamed) {
  const auto bytes = [](const std::string& text) { return Bytes(text.begin(), text.end()); };
  expect_error([&] { decode(bytes(std::string("GIF89a\1\0\1\0\0\0\0;", 14))); }, {kPath, "GIF", "JPEG and PNG"});
  expect_error([&] { decode(bytes(std::string("BM\x3a\0\0\0\0\0\0\0", 10))); }, {kPath, "BMP", "JPEG and PNG"});
  expect_error([&] { decode(bytes(std::string("RIFF\x1a\0\0\0WEBPVP8L", 16))); }, {kPath, "WebP", "JPEG and PNG"});
  expect_error([&] { decode(bytes("<!DOCTYPE html><html><body>404 Not Found</body></html>")); },
               {kPath, "not an image"});
  expect_error([&] { decode(Bytes(4096, 0)); }, {kPath, "not an image"});
  expect_error([&] { decode({}); }, {kPath, "empty"});
}

TEST(BrokenFiles, PngUnderAJpegsNameIsRead) {
  const Bytes pixels = noise(20 * 30 * 3, 9);
  EXPECT_EQ(decode(make_png(pixels, 20, 30, {})).pixels, pixels);  // kPath ends in .JPEG
}

}  // namespace
}  // namespace riffle
