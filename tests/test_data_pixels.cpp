// Evaluation pixels of real photographs, ImageNet's own: equal to Pillow's and torchvision's, bit for bit. The checksums
// are in the project, the photographs beside it; test_data_image and test_data_transform check the project's own fixtures.
#include <gtest/gtest.h>
#include <zlib.h>

#include <sstream>

#include "data/transform.h"
#include "tests/image_fixtures.h"
#include "tests/shared_data.h"

namespace riffle {
namespace {

uint32_t checksum(const Image& image) {
  return static_cast<uint32_t>(crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())));
}

struct GoldenPixels {
  std::string path;
  uint32_t decoded = 0, resized_256 = 0, resized_232 = 0;
};

std::vector<GoldenPixels> golden_pixels() {
  std::ifstream file(std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/imagenet_sample_pixels.txt");
  std::vector<GoldenPixels> all;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    GoldenPixels pixels;
    words >> pixels.path >> std::hex >> pixels.decoded >> pixels.resized_256 >> pixels.resized_232;
    if (!words) ADD_FAILURE() << "a line that is not a path and three checksums: " << line;
    all.push_back(pixels);
  }
  return all;
}

TEST(ImageNetSamples, EvaluationPixelsEqualPillowAndTorchvision) {
  RIFFLE_NEED_SHARED_DATA("imagenet-samples/val");
  const std::vector<GoldenPixels> goldens = golden_pixels();
  ASSERT_EQ(goldens.size(), 400u);
  EvalTransform resize_256, resize_232;
  resize_232.resize = 232;
  int wrong = 0;
  for (const GoldenPixels& golden : goldens) {
    const Image image = decode_file(shared_data("imagenet-samples/val/" + golden.path), 3);
    const bool equal = checksum(image) == golden.decoded && checksum(resize_256.apply(image)) == golden.resized_256 &&
                       checksum(resize_232.apply(image)) == golden.resized_232;
    if (!equal && ++wrong <= 5) ADD_FAILURE() << golden.path;
  }
  EXPECT_EQ(wrong, 0) << "of " << goldens.size();
}

}  // namespace
}  // namespace riffle
