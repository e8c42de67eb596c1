// Every transform, given its parameters, bit for bit as torchvision on Pillow images (tests/fixtures/augment, made by
// scripts/goldens/make_augment_goldens.py), and the strengths and odds that parameters are drawn with.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <map>
#include <sstream>

#include "data/augment.h"
#include "data/augment_color.h"
#include "data/augment_policy.h"
#include "data/augment_tone.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

using Words = std::vector<std::string>;

Words words_of(const std::string& text) {
  std::istringstream stream(text);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// The lines of a fixture, as what stands before and after " | ".
std::vector<std::pair<std::string, std::string>> golden_lines(const std::string& name) {
  std::ifstream file(std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/augment/" + name);
  std::vector<std::pair<std::string, std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    const size_t bar = line.find(" | ");
    RIFFLE_CHECK(bar != std::string::npos, line);
    lines.emplace_back(line.substr(0, bar), line.substr(bar + 3));
  }
  RIFFLE_CHECK(!lines.empty(), name, " is missing or empty");
  return lines;
}

uint8_t smooth_pixel(int y, int x, int c) {
  return static_cast<uint8_t>(40 + (3 * x + 2 * y + 50 * c + x * y / 16) % 170);
}

// The script's images.
Image formula_image(const std::string& kind, int height, int width, int channels) {
  Image image(height, width, channels);
  const char first = kind.front();  // noise, smooth, flat, cube
  uint32_t state = 12345;
  size_t at = 0;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) {
        state = state * 1664525u + 1013904223u;
        const auto index = static_cast<uint32_t>(y) * static_cast<uint32_t>(width) + static_cast<uint32_t>(x);
        const uint8_t flat[] = {90, 140, 17};
        const uint8_t cube[] = {static_cast<uint8_t>(index >> 16), static_cast<uint8_t>(index >> 8),
                                static_cast<uint8_t>(index)};
        image.pixels[at++] = first == 'n'   ? static_cast<uint8_t>(state >> 24)
                             : first == 's' ? smooth_pixel(y, x, c)
                             : first == 'f' ? flat[c]
                                            : cube[c];
      }
  return image;
}

AugmentOp op_named(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(AugmentOp::kInvert); ++i) {
    if (name_of(static_cast<AugmentOp>(i)) == name) return static_cast<AugmentOp>(i);
  }
  fail("no operation ", name);
}

double number(const std::string& word) {
  return std::strtod(word.c_str(), nullptr);
}

Sampling sampling_of(const std::string& interpolation, const std::string& fill) {
  return {parse_affine_interpolation(interpolation), static_cast<uint8_t>(number(fill))};
}

Image apply_golden(Image image, const Words& words) {
  const std::string& name = words.at(4);
  const auto argument = [&](size_t i) { return number(words.at(5 + i)); };
  if (name == "op") {
    apply_op(image, {op_named(words.at(5)), argument(1)}, sampling_of(words.at(7), words.at(8)));
  } else if (name == "translate") {
    return translate(image, static_cast<int>(argument(0)), static_cast<int>(argument(1)),
                     sampling_of(words.at(7), words.at(8)));
  } else if (name == "brightness") {
    adjust_brightness(image, argument(0));
  } else if (name == "contrast") {
    adjust_contrast(image, argument(0));
  } else if (name == "saturation") {
    adjust_saturation(image, argument(0));
  } else if (name == "sharpness") {
    adjust_sharpness(image, argument(0));
  } else if (name == "hue") {
    adjust_hue(image, argument(0));
  } else if (name == "gray") {
    make_gray(image);
  } else if (name == "flip") {
    flip_horizontal(image);
  } else if (name == "resize") {
    return resize_short_edge(image, static_cast<int>(argument(0)));
  } else if (name == "center_crop") {
    return center_crop(image, static_cast<int>(argument(0)), static_cast<int>(argument(0)));
  } else {
    fail("no transform ", name);
  }
  return image;
}

// The results that a line stands for, one after the other.
std::vector<Image> results_of(const Image& image, const Words& words) {
  if (words.at(4) != "sweep") return {apply_golden(image, words)};
  std::vector<Image> results;
  const AugmentOp op = op_named(words.at(5));
  for (int bin = 0; bin < 31; ++bin) {
    const double magnitude = magnitude_of(AugmentSpace::kTrivialAugmentWide, op, bin, 31, image.height, image.width);
    for (const double sign : {1.0, -1.0}) {
      Image result = image;
      apply_op(result, {op, sign * magnitude}, sampling_of(words.at(6), "0"));
      results.push_back(std::move(result));
    }
  }
  return results;
}

TEST(AugmentGolden, PixelsEqualPillowsBitForBit) {
  std::map<std::string, int> wrong;  // by operation, for a message that can be read
  int checked = 0;
  for (const auto& [key, expected] : golden_lines("goldens.txt")) {
    const Words words = words_of(key);
    const auto extent = [&](size_t i) { return static_cast<int>(number(words.at(i))); };
    uLong crc = 0;
    for (const Image& result : results_of(formula_image(words.at(0), extent(1), extent(2), extent(3)), words)) {
      crc = crc32(crc, result.pixels.data(), static_cast<uInt>(result.pixels.size()));
      ++checked;
    }
    if (crc != std::strtoul(expected.c_str(), nullptr, 16) && ++wrong[words.at(4)] <= 5) ADD_FAILURE() << key;
  }
  for (const auto& [name, count] : wrong) ADD_FAILURE() << name << ": " << count << " wrong results";
  EXPECT_GT(checked, 1000);
}

TEST(AugmentGolden, StrengthsEqualTorchvisions) {
  const std::map<std::string, AugmentSpace> spaces{{"AutoAugment", AugmentSpace::kAutoAugment},
                                                   {"RandAugment", AugmentSpace::kRandAugment},
                                                   {"TrivialAugmentWide", AugmentSpace::kTrivialAugmentWide}};
  std::map<std::string, int> operations;  // of each space
  for (const auto& [key, expected] : golden_lines("strengths.txt")) {
    const Words words = words_of(key), values = words_of(expected);
    if (words.at(0) == "policy") continue;
    const AugmentOp op = op_named(words.at(1));
    const auto extent = [&](size_t i) { return static_cast<int>(number(words.at(i))); };
    ASSERT_EQ(static_cast<int>(values.size()), extent(2)) << key;
    EXPECT_EQ(is_signed(op), words.at(5) == "signed") << key;
    for (int bin = 0; bin < extent(2); ++bin) {
      const double actual = magnitude_of(spaces.at(words.at(0)), op, bin, extent(2), extent(3), extent(4));
      const double strength = number(values.at(static_cast<size_t>(bin)));
      // Not exactly: torch.linspace(0, 32, 31)[15] is 16 or 15.999999, by the processor that it runs on.
      EXPECT_FLOAT_EQ(static_cast<float>(actual), static_cast<float>(strength)) << key << ", bin " << bin;
    }
    ++operations[words.at(0)];
  }
  EXPECT_EQ(operations.size(), 3u);
}

TEST(AugmentGolden, AutoAugmentHasThePublishedPolicy) {
  size_t at = 0;
  for (const auto& [key, expected] : golden_lines("strengths.txt")) {
    if (key != "policy") continue;
    ASSERT_LT(at, imagenet_policy().size());
    std::ostringstream actual;
    for (const PolicyOp& op : imagenet_policy().at(at)) {
      actual << (actual.tellp() > 0 ? " " : "") << name_of(op.op) << " ";
      actual << std::fixed << std::setprecision(1) << op.probability << " " << op.bin;
    }
    EXPECT_EQ(actual.str(), expected);
    ++at;
  }
  EXPECT_EQ(at, imagenet_policy().size());
}

// --- distributions ---

using Quantities = std::map<std::string, std::vector<double>>;
constexpr int kDraws = 40000;

void append_box(Quantities& drawn, const CropBox& box) {
  drawn["top"].push_back(box.top);
  drawn["left"].push_back(box.left);
  drawn["height"].push_back(box.height);
  drawn["width"].push_back(box.width);
}

Quantities draw_many(const std::string& name, int height, int width) {
  Quantities drawn;
  RandomStream random(5, RandomPurpose::kTest, static_cast<uint64_t>(height), static_cast<uint64_t>(width));
  for (int i = 0; i < kDraws; ++i) {
    if (name == "random_erasing") {
      CropBox box = draw_erasing(RandomErasing{}, height, width, random);
      if (box.height == 0) box = {0, 0, height, width};  // how torchvision says that none fits
      append_box(drawn, box);
    } else if (name == "random_resized_crop") {
      append_box(drawn, draw_crop(RandomResizedCrop{}, height, width, random));
    } else {
      const DrawnJitter jitter = draw_jitter({0.4, 1.5, 0.3, 0.2}, random);
      const double values[] = {jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue};
      const char* const names[] = {"brightness", "contrast", "saturation", "hue"};
      for (int part = 0; part < 4; ++part) {
        drawn[names[part]].push_back(values[part]);
        const auto place = std::find(jitter.order.begin(), jitter.order.end(), part) - jitter.order.begin();
        drawn[std::string("place_of_") + names[part]].push_back(static_cast<double>(place));
      }
    }
  }
  return drawn;
}

// Both are samples: of 100,000 and of kDraws. Five standard deviations of their difference.
TEST(AugmentDraws, AreDistributedAsTorchvisions) {
  std::map<std::string, Quantities> cache;
  int points = 0;
  for (const auto& [key, expected] : golden_lines("draws.txt")) {
    const Words words = words_of(key);
    const std::string what = words.at(0) + words.at(1) + words.at(2);
    if (cache.count(what) == 0)
      cache[what] =
          draw_many(words.at(0), static_cast<int>(number(words.at(1))), static_cast<int>(number(words.at(2))));
    const std::vector<double>& values = cache.at(what).at(words.at(3));
    for (const std::string& pair : words_of(expected)) {
      const double value = number(pair.substr(0, pair.find(':'))), share = number(pair.substr(pair.find(':') + 1));
      const auto below = std::count_if(values.begin(), values.end(), [&](double v) { return v <= value; });
      const double actual = static_cast<double>(below) / kDraws;
      const double deviation = std::sqrt(share * (1 - share) * (1.0 / kDraws + 1e-5));
      EXPECT_NEAR(actual, share, 5 * deviation + 1e-6) << key << " up to " << value;
      ++points;
    }
  }
  EXPECT_GT(points, 150);
}

// Each outcome of `count` equally likely ones, within five standard deviations.
void expect_uniform(const std::map<std::string, int>& seen, double probability, int draws) {
  for (const auto& [what, count] : seen)
    EXPECT_NEAR(count, draws * probability, 5 * std::sqrt(draws * probability * (1 - probability))) << what;
}

TEST(AugmentDraws, OperationsStrengthsAndSignsAreUniform) {
  RandomStream random(6, RandomPurpose::kTest);
  std::map<std::string, int> operations, rotations;
  int negative = 0, shears = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::vector<DrawnOp> drawn = draw_trivial_augment_wide(31, 224, 224, random);
    ASSERT_EQ(drawn.size(), 1u);
    ++operations[name_of(drawn[0].op)];
    if (drawn[0].op == AugmentOp::kRotate) ++rotations[join(std::abs(drawn[0].magnitude))];
    if (drawn[0].op == AugmentOp::kShearX && drawn[0].magnitude != 0) {
      ++shears;
      if (drawn[0].magnitude < 0) ++negative;
    }
  }
  EXPECT_EQ(operations.size(), 14u);
  expect_uniform(operations, 1.0 / 14, 200000);
  EXPECT_EQ(rotations.size(), 31u);
  expect_uniform(rotations, 1.0 / 31, operations["Rotate"]);
  EXPECT_NEAR(negative, shears / 2.0, 5 * std::sqrt(shears / 4.0));
}

TEST(AugmentDraws, RandAugmentDrawsSoManyOperationsOfOneStrength) {
  RandomStream random(7, RandomPurpose::kTest);
  std::map<std::string, int> operations;
  for (int i = 0; i < 30000; ++i) {
    const std::vector<DrawnOp> drawn = draw_rand_augment(3, 9, 31, 224, 100, random);
    ASSERT_EQ(drawn.size(), 3u);
    for (const DrawnOp& op : drawn) {
      ++operations[name_of(op.op)];
      EXPECT_EQ(std::abs(op.magnitude), magnitude_of(AugmentSpace::kRandAugment, op.op, 9, 31, 224, 100));
    }
  }
  EXPECT_EQ(operations.size(), 14u);
  expect_uniform(operations, 1.0 / 14, 90000);
}

TEST(AugmentDraws, AutoAugmentFollowsItsPolicy) {
  std::map<AugmentOp, double> expected;  // how many a draw
  for (const auto& pair : imagenet_policy())
    for (const PolicyOp& op : pair) expected[op.op] += op.probability / 25;
  RandomStream random(8, RandomPurpose::kTest);
  std::map<AugmentOp, int> seen;
  constexpr int kImages = 50000;
  for (int i = 0; i < kImages; ++i)
    for (const DrawnOp& op : draw_auto_augment(224, 224, random)) ++seen[op.op];
  for (const auto& [op, share] : expected)
    EXPECT_NEAR(seen[op] / static_cast<double>(kImages), share, 5 * std::sqrt(2 * share / kImages)) << name_of(op);
}

}  // namespace
}  // namespace riffle
