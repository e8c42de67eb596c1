// Resizing: every pixel as OpenCV and Pillow make it (scripts/goldens/make_opencv_goldens.py), the evaluation pipelines
// of Megvii and tensorpack up to what the network reads, and properties that hold for every interpolation.
#include <zlib.h>

#include <algorithm>
#include <sstream>

#include "core/cpu/cpu_backend.h"
#include "data/resize.h"
#include "tests/golden_io.h"
#include "tests/image_fixtures.h"
#include "train/network_input.h"

namespace riffle {
namespace {

const Interpolation kInterpolations[] = {Interpolation::kPillowBilinear, Interpolation::kPillowBicubic,
                                         Interpolation::kOpenCvBilinear, Interpolation::kOpenCvBicubic};

std::string resize_fixture(const std::string& name) {
  return std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/resize/" + name;
}

Image fixture_image(const std::string& name, int channels) {
  const std::string own = resize_fixture(name);
  return decode_file(std::filesystem::exists(own) ? own : image_fixture(name), channels);
}

uint32_t crc_of(const Image& image, uint32_t start = 0) {
  return static_cast<uint32_t>(crc32(start, image.pixels.data(), static_cast<unsigned>(image.pixels.size())));
}

Image random_image(int height, int width, int channels, uint64_t seed) {
  Image image(height, width, channels);
  RandomStream random(seed, RandomPurpose::kTest);
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random.below(256));
  return image;
}

// "INTERPOLATION ROUNDING OFFSET"
void read_choices(std::istream& words, EvalTransform& transform) {
  std::string interpolation, rounding, offset;
  words >> interpolation >> rounding >> offset;
  transform.interpolation = find_interpolation(interpolation).value();
  transform.rounding = find_rounding(rounding).value();
  transform.crop_offset = find_crop_offset(offset).value();
}

Image apply_operation(const Image& image, std::istream& words) {
  std::string operation;
  words >> operation;
  if (operation == "resize") {
    std::string interpolation;
    int height = 0, width = 0;
    words >> interpolation >> height >> width;
    return resize(image, height, width, find_interpolation(interpolation).value());
  }
  Image input = image;
  if (operation == "resized_eval") {
    int height = 0, width = 0;
    words >> height >> width;
    input = resize(image, height, width, Interpolation::kPillowBilinear);
  } else if (operation != "eval") {
    fail("unknown operation ", operation, " in goldens.txt");
  }
  EvalTransform transform;
  words >> transform.resize >> transform.crop;
  read_choices(words, transform);
  return transform.apply(input);
}

// Lines of goldens.txt: FILE CHANNELS OPERATION ARGUMENTS | HEIGHT WIDTH CHANNELS CRC32.
TEST(ResizeGoldens, EveryLineEqualsOpenCvOrPillow) {
  std::ifstream file(resize_fixture("goldens.txt"));
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const size_t bar = line.find('|');
    ASSERT_NE(bar, std::string::npos) << line;
    std::istringstream request(line.substr(0, bar)), result(line.substr(bar + 1));
    std::string name;
    int channels = 0, height = 0, width = 0, out_channels = 0;
    uint32_t crc = 0;
    request >> name >> channels;
    ASSERT_TRUE(result >> height >> width >> out_channels >> std::hex >> crc) << line;
    const Image got = apply_operation(fixture_image(name, channels), request);
    EXPECT_EQ(got.height, height) << line;
    EXPECT_EQ(got.width, width) << line;
    EXPECT_EQ(got.channels, out_channels) << line;
    EXPECT_EQ(crc_of(got), crc) << line;
  }
  EXPECT_GT(lines, 800);
}

// Lines of photographs.txt: INTERPOLATION ROUNDING OFFSET COUNT CRC32, over the crops of every tenth photograph.
TEST(ResizeGoldens, RealImagesEqualTheOriginalPipelines) {
  if (real_images().empty()) GTEST_SKIP() << "no real images on this machine";
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(real_images())) {
    if (entry.is_regular_file()) paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Image> images;
  for (size_t i = 0; i < paths.size(); i += 10) images.push_back(decode_file(paths[i], 3));
  std::ifstream file(resize_fixture("photographs.txt"));
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    std::istringstream words(line);
    EvalTransform transform;
    read_choices(words, transform);
    size_t count = 0;
    uint32_t expected = 0, crc = 0;
    ASSERT_TRUE(words >> count >> std::hex >> expected) << line;
    ASSERT_EQ(images.size(), count);
    for (const Image& image : images) crc = crc_of(transform.apply(image), crc);
    EXPECT_EQ(crc, expected) << line;
  }
  EXPECT_EQ(lines, 4);
}

// What the network of a dialect reads of landscape.jpg, against the published programs' arithmetic.
class NetworkInputs : public testing::Test {
 protected:
  void expect_input(const std::string& array, const EvalTransform& transform, const Normalisation& normalisation,
                    float tolerance) {
    const Image image = transform.apply(fixture_image("landscape.jpg", 3));
    const Golden golden(resize_fixture("inputs.npz"));
    const std::vector<float> expected = golden.values<float>(array);
    ASSERT_EQ(image.pixels.size(), expected.size());
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    NetworkInput input(*backend, normalisation, {1, transform.crop, transform.crop, 3});
    const Variable read = input.images(image.pixels.data(), 1);
    std::vector<float> got(expected.size());
    backend->download(read.value(), DType::kF32, got.data());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], tolerance) << "element " << i;
  }
};

TEST_F(NetworkInputs, OfMegvii) {
  EvalTransform transform{40, 28, Interpolation::kOpenCvBilinear, ResizeRounding::kHalfUp, CropOffset::kHalfToEven};
  expect_input("megvii", transform, {1.0, {0, 0, 0}, {1, 1, 1}, /*reverse_channels=*/true}, 0);
}

// The original subtracts 255 * mean; the two orders of rounding are less than 4 units in the last place of 2.7 apart.
TEST_F(NetworkInputs, OfTensorpack) {
  EvalTransform transform{40, 28, Interpolation::kOpenCvBicubic, ResizeRounding::kHalfUp, CropOffset::kFloor};
  expect_input("tensorpack", transform,
               {1.0 / 255, {0.406, 0.456, 0.485}, {0.225, 0.224, 0.229}, /*reverse_channels=*/true}, 1e-6f);
}

TEST(Resize, BoxIsCropThenResize) {
  for (const int channels : {1, 3}) {
    const Image image = random_image(53, 71, channels, 1);
    RandomStream random(2, RandomPurpose::kTest);
    for (int i = 0; i < 200; ++i) {
      const auto h = static_cast<int>(1 + random.below(53)), w = static_cast<int>(1 + random.below(71));
      const CropBox box{static_cast<int>(random.below(54 - h)), static_cast<int>(random.below(72 - w)), h, w};
      // One time in four an axis keeps its size.
      const auto out_h = random.below(4) == 0 ? h : static_cast<int>(1 + random.below(90));
      const auto out_w = random.below(4) == 0 ? w : static_cast<int>(1 + random.below(90));
      ASSERT_EQ(resize_bilinear(image, box, out_h, out_w).pixels,
                resize(crop(image, box), out_h, out_w, Interpolation::kPillowBilinear).pixels)
          << box.top << " " << box.left << " " << h << " " << w << " -> " << out_h << " " << out_w;
    }
  }
}

TEST(Resize, WindowIsResizeThenCrop) {
  for (const Interpolation interpolation : kInterpolations)
    for (const int channels : {1, 3}) {
      const Image image = random_image(47, 64, channels, 3);
      RandomStream random(4, RandomPurpose::kTest);
      for (int i = 0; i < 200; ++i) {
        const auto out_h = random.below(4) == 0 ? 47 : static_cast<int>(1 + random.below(90));
        const auto out_w = random.below(4) == 0 ? 64 : static_cast<int>(1 + random.below(90));
        const auto h = static_cast<int>(1 + random.below(out_h)), w = static_cast<int>(1 + random.below(out_w));
        const CropBox window{static_cast<int>(random.below(out_h + 1 - h)),
                             static_cast<int>(random.below(out_w + 1 - w)), h, w};
        ASSERT_EQ(resize_window(image, out_h, out_w, window, interpolation).pixels,
                  crop(resize(image, out_h, out_w, interpolation), window).pixels)
            << name_of(interpolation) << " " << out_h << "x" << out_w << ": " << window.top << " " << window.left << " "
            << h << " " << w;
      }
    }
}

// On a CPU with AVX2 nothing else would run the other loops.
TEST(Resize, InstructionSetsAgree) {
  for (const Interpolation interpolation : kInterpolations)
    for (const int channels : {1, 3})
      for (const int width : {1, 2, 5, 30, 64, 200}) {
        const Image image = random_image(57, 64, channels, static_cast<uint64_t>(width));
        const CropBox window{0, 0, 33, width};
        EXPECT_EQ(resize_window(image, 33, width, window, interpolation, ResizeLoops::kBaseline).pixels,
                  resize_window(image, 33, width, window, interpolation, ResizeLoops::kBest).pixels)
            << name_of(interpolation) << " " << channels << " " << width;
      }
}

TEST(Resize, ConstantImagesStayConstant) {
  for (const Interpolation interpolation : kInterpolations)
    for (const int value : {0, 1, 254, 255})
      for (const int size : {1, 7, 50, 333}) {
        Image image(97, 131, 3);
        std::fill(image.pixels.begin(), image.pixels.end(), static_cast<uint8_t>(value));
        const Image out = resize(image, size, size + 1, interpolation);
        EXPECT_EQ(std::count(out.pixels.begin(), out.pixels.end(), value), static_cast<int64_t>(out.pixels.size()))
            << name_of(interpolation) << " " << size;
      }
}

TEST(Resize, TheSameSizeIsACopy) {
  const Image image = random_image(20, 31, 3, 19);
  for (const Interpolation interpolation : kInterpolations)
    EXPECT_EQ(resize(image, 20, 31, interpolation).pixels, image.pixels) << name_of(interpolation);
}

TEST(Resize, BoxOutsideTheImageIsAnError) {
  const Image image = random_image(10, 20, 3, 5);
  expect_error([&] { resize_bilinear(image, {5, 0, 6, 20}, 4, 4); }, {"6x20", "10x20"});
  expect_error([&] { resize_bilinear(image, {0, -1, 5, 5}, 4, 4); }, {"column -1"});
  expect_error([&] { resize_bilinear(image, {0, 0, 0, 5}, 4, 4); }, {"0x5"});
  expect_error([&] { crop(image, {0, 16, 5, 5}); }, {"column 16"});
}

// 256 times as long as an int can count.
TEST(Resize, ImagesTooNarrowForTheirLongEdgeAreAnError) {
  const Image image(1, 1 << 24, 1);
  expect_error([&] { EvalTransform{256, 224}.apply(image); }, {"1x16777216", "short edge of 256", "4294967296 pixels"});
  EXPECT_EQ((EvalTransform{100, 50}.apply(image).width), 50);
}

}  // namespace
}  // namespace riffle
