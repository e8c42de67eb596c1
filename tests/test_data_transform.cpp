// Geometry: resize, crops and the evaluation pipeline bit for bit as Pillow and torchvision; augmentation by its
// properties, since its random numbers are our own.
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "data/augment.h"
#include "data/resize.h"
#include "data/transform.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

uint32_t crc_of(const Image& image) {
  return static_cast<uint32_t>(crc32(0, image.pixels.data(), static_cast<unsigned>(image.pixels.size())));
}

Image apply_operation(const Image& image, const std::string& operation, const std::vector<int>& a) {
  if (operation == "decode") return image;
  if (operation == "resize") return resize_bilinear(image, {a[0], a[1], a[2], a[3]}, a[4], a[5]);
  if (operation == "short_edge") return resize_short_edge(image, a[0]);
  if (operation == "center_crop") return center_crop(image, a[0], a[1]);
  if (operation == "eval") return EvalTransform{a[0], a[1]}.apply(image);
  fail("unknown operation ", operation, " in goldens.txt");
}

// Lines of goldens.txt: FILE CHANNELS OPERATION ARGUMENTS | HEIGHT WIDTH CHANNELS CRC32.
TEST(Goldens, EveryLineEqualsPillowAndTorchvision) {
  std::ifstream file(image_fixture("goldens.txt"));
  std::map<std::pair<std::string, int>, Image> decoded;
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const size_t bar = line.find('|');
    ASSERT_NE(bar, std::string::npos) << line;
    std::istringstream request(line.substr(0, bar)), result(line.substr(bar + 1));
    std::string name, operation;
    int channels = 0, height = 0, width = 0, out_channels = 0;
    uint32_t crc = 0;
    request >> name >> channels >> operation;
    std::vector<int> arguments;
    for (int value = 0; request >> value;) arguments.push_back(value);
    ASSERT_TRUE(result >> height >> width >> out_channels >> std::hex >> crc) << line;

    Image& image = decoded[{name, channels}];
    if (image.pixels.empty()) image = decode_file(image_fixture(name), channels);
    const Image got = apply_operation(image, operation, arguments);
    EXPECT_EQ(got.height, height) << line;
    EXPECT_EQ(got.width, width) << line;
    EXPECT_EQ(got.channels, out_channels) << line;
    EXPECT_EQ(crc_of(got), crc) << line;
  }
  EXPECT_GT(lines, 300);
}

Image random_image(int height, int width, int channels, uint64_t seed) {
  Image image(height, width, channels);
  RandomStream random(seed, RandomPurpose::kTest);
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random.below(256));
  return image;
}

TEST(Flip, ReversesEveryRowAndIsItsOwnInverse) {
  for (const int channels : {1, 3})
    for (const int width : {1, 6, 7}) {
      const Image image = random_image(3, width, channels, 6);
      Image flipped = image;
      flip_horizontal(flipped);
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < width; ++x)
          for (int c = 0; c < channels; ++c)
            ASSERT_EQ(flipped.pixels[static_cast<size_t>((y * width + x) * channels + c)],
                      image.pixels[static_cast<size_t>((y * width + width - 1 - x) * channels + c)]);
      flip_horizontal(flipped);
      EXPECT_EQ(flipped.pixels, image.pixels);
    }
}

TEST(Pad, SurroundsWithZeros) {
  const Image image = random_image(4, 5, 3, 7);
  const Image padded = pad_zero(image, 2);
  EXPECT_EQ(padded.height, 8);
  EXPECT_EQ(padded.width, 9);
  EXPECT_EQ(crop(padded, {2, 2, 4, 5}).pixels, image.pixels);
  const auto sum = [](const Image& i) { return std::accumulate(i.pixels.begin(), i.pixels.end(), int64_t{0}); };
  EXPECT_EQ(sum(padded), sum(image));
}

// Every box lies in the image; area and aspect are where asked, up to rounding; both ranges are used in full.
TEST(DrawCrop, BoxesFollowTheParameters) {
  const RandomResizedCrop parameters;
  double least = 1, most = 0, narrowest = 9, widest = 0;
  for (uint64_t i = 0; i < 4000; ++i) {
    RandomStream random(8, RandomPurpose::kTest, i);
    const CropBox box = draw_crop(parameters, 300, 400, random);
    check_box(box, 300, 400);
    const double area = box.height * box.width / (300.0 * 400.0);
    const double ratio = static_cast<double>(box.width) / box.height;
    least = std::min(least, area), most = std::max(most, area);
    narrowest = std::min(narrowest, ratio), widest = std::max(widest, ratio);
  }
  // The shortest edge is about 75 pixels, so rounding both edges moves area and aspect by under 2 %.
  EXPECT_GT(least, 0.08 * 0.98);
  EXPECT_LT(least, 0.10);
  EXPECT_LE(most, 1.0);
  EXPECT_GT(most, 0.97);
  EXPECT_GT(narrowest, 0.75 * 0.98);
  EXPECT_LT(narrowest, 0.77);
  EXPECT_LT(widest, 4.0 / 3 * 1.02);
  EXPECT_GT(widest, 1.30);
}

TEST(DrawCrop, FallsBackToTheLargestCentredBox) {
  RandomResizedCrop parameters;
  parameters.scale.min = 0.9;  // cannot be had at an allowed aspect from so long an image
  RandomStream random(9, RandomPurpose::kTest);
  const CropBox wide = draw_crop(parameters, 30, 1000, random);
  EXPECT_EQ(wide.height, 30);
  EXPECT_EQ(wide.width, 40);
  EXPECT_EQ(wide.left, 480);
  const CropBox tall = draw_crop(parameters, 1000, 30, random);
  EXPECT_EQ(tall.height, 40);
  EXPECT_EQ(tall.width, 30);
  EXPECT_EQ(tall.top, 480);
}

// The edges of such boxes do not fit an int.
TEST(DrawCrop, ExtremeAspectsFallBackToo) {
  RandomResizedCrop parameters;
  parameters.ratio.min = 1e200;
  parameters.ratio.max = 1e300;
  RandomStream random(10, RandomPurpose::kTest);
  const CropBox box = draw_crop(parameters, 30, 40, random);
  EXPECT_EQ(box.height, 1);
  EXPECT_EQ(box.width, 40);
}

TEST(TrainTransform, PadAndCropEqualsItsDefinition) {
  const Image image = random_image(28, 28, 1, 10);
  const TrainTransform transform{28, {PadAndCrop{2}, Flip{0.5}}, {}};
  const Image padded = pad_zero(image, 2);
  std::vector<std::vector<uint8_t>> possible;  // 25 windows, plain and flipped
  for (int top = 0; top <= 4; ++top)
    for (int left = 0; left <= 4; ++left) {
      Image window = crop(padded, {top, left, 28, 28});
      possible.push_back(window.pixels);
      flip_horizontal(window);
      possible.push_back(window.pixels);
    }
  std::set<std::ptrdiff_t> seen;
  for (uint64_t i = 0; i < 1000; ++i) {
    RandomStream random(11, RandomPurpose::kAugment, 0, i), again(11, RandomPurpose::kAugment, 0, i);
    const Image out = transform.apply(image, random);
    EXPECT_EQ(out.pixels, transform.apply(image, again).pixels);
    const auto found = std::find(possible.begin(), possible.end(), out.pixels);
    ASSERT_NE(found, possible.end());
    seen.insert(found - possible.begin());
  }
  EXPECT_EQ(seen.size(), possible.size());
}

TEST(TrainTransform, RandomResizedCropGivesTheSizeAndVaries) {
  const Image image = random_image(40, 60, 3, 12);
  TrainTransform transform;
  transform.size = 32;
  std::set<std::vector<uint8_t>> seen;
  for (uint64_t i = 0; i < 20; ++i) {
    RandomStream random(13, RandomPurpose::kAugment, 0, i);
    const Image out = transform.apply(image, random);
    EXPECT_EQ(out.height, 32);
    EXPECT_EQ(out.width, 32);
    seen.insert(out.pixels);
  }
  EXPECT_EQ(seen.size(), 20u);
}

TEST(TrainTransform, FlipProbabilityAtItsEnds) {
  const Image image = random_image(28, 28, 3, 14);
  Image flipped = image;
  flip_horizontal(flipped);
  for (uint64_t i = 0; i < 20; ++i) {
    RandomStream a(15, RandomPurpose::kAugment, 0, i), b(15, RandomPurpose::kAugment, 0, i);
    EXPECT_EQ((TrainTransform{28, {PadAndCrop{0}, Flip{0}}, {}}.apply(image, a).pixels), image.pixels);
    EXPECT_EQ((TrainTransform{28, {PadAndCrop{0}, Flip{1}}, {}}.apply(image, b).pixels), flipped.pixels);
  }
}

TEST(TrainTransform, ResizingALineOfPixelsIsAnError) {
  RandomStream random(16, RandomPurpose::kAugment);
  const TrainTransform transform{224, {Resize{256}, CenterCrop{}}, {}};
  expect_error([&] { transform.apply(Image(1, 20000, 3), random); }, {"1x20000", "256x5120000", "178956970"});
}

TEST(TrainTransform, CropLargerThanThePaddedImageIsAnError) {
  RandomStream random(16, RandomPurpose::kAugment);
  const TrainTransform transform{32, {PadAndCrop{1}, Flip{0.5}}, {}};
  expect_error([&] { transform.apply(random_image(28, 40, 1, 17), random); }, {"28x40", "padded by 1", "32x32"});
}

TEST(EvalTransform, WithoutResizingTheSizeMustFit) {
  const Image image = random_image(28, 28, 1, 18);
  EXPECT_EQ((EvalTransform{0, 28}.apply(image).pixels), image.pixels);
  expect_error([&] { EvalTransform{0, 32}.apply(image); }, {"28x28", "32x32", "resize"});
}

TEST(EvalTransform, OnRealImagesEqualsResizeThenCrop) {
  if (real_images().empty()) GTEST_SKIP() << "no real images on this machine";
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(real_images())) {
    if (!entry.is_regular_file() || ++count % 20 != 0) continue;
    const Image image = decode_file(entry.path().string(), 3);
    EXPECT_EQ(EvalTransform{}.apply(image).pixels, center_crop(resize_short_edge(image, 256), 224, 224).pixels)
        << entry.path();
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace riffle
