// What goldens cannot say of augmentation: our own transforms, the list, and that neither threads nor prefetching
// change a batch.
#include "data/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "data/augment_color.h"
#include "data/loader.h"
#include "data/pixel_loops.h"
#include "tests/image_fixtures.h"
#include "train/config_transforms.h"

namespace riffle {
namespace {

Image noise_image(int height, int width, int channels, uint64_t seed) {
  Image image(height, width, channels);
  RandomStream random(seed, RandomPurpose::kTest);
  for (uint8_t& pixel : image.pixels) pixel = static_cast<uint8_t>(random.next_u32());
  return image;
}

// Images of several sizes, large enough for every transform.
class NoiseDataset : public Dataset {
 public:
  explicit NoiseDataset(int channels, std::set<int64_t> bad = {}) : channels_(channels), bad_(std::move(bad)) {}
  int64_t size() const override { return 37; }
  int channels() const override { return channels_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t index) const override { return static_cast<int>(index % 2); }
  std::string name(int64_t index) const override { return join("image[", index, "]"); }
  std::string description() const override { return "noise"; }
  Image load(int64_t index) const override {
    if (bad_.count(index) != 0) fail(name(index), ": broken on purpose");
    return noise_image(24 + static_cast<int>(index % 5), 30 - static_cast<int>(index % 3), channels_,
                       static_cast<uint64_t>(index));
  }

 private:
  int channels_;
  std::set<int64_t> bad_;
  std::vector<std::string> classes_{"a", "b"};
};

LoaderOptions loader_options(std::vector<TransformStep> steps, int threads) {
  LoaderOptions options;
  options.batch = 9;
  options.threads = threads;
  options.prefetch = threads == 1 ? 1 : 4;
  options.seed = 3;
  options.training = true;
  options.train_transform.size = 16;
  options.train_transform.steps = std::move(steps);
  return options;
}

struct Epoch {
  std::vector<uint8_t> images;
  std::vector<int64_t> indices;
  int64_t bad_images = 0;
};

Epoch load_epoch(const Dataset& data, const LoaderOptions& options, int64_t number) {
  Loader loader(data, options);
  loader.start_epoch(number);
  Epoch epoch;
  for (Batch batch; loader.next(batch);) {
    epoch.images.insert(epoch.images.end(), batch.images,
                        batch.images + batch.count * batch.height * batch.width * batch.channels);
    epoch.indices.insert(epoch.indices.end(), batch.indices, batch.indices + batch.count);
  }
  epoch.bad_images = static_cast<int64_t>(loader.bad_images().size());
  return epoch;
}

// Each transform alone, so that its effect is seen, and with parameters that make it act.
std::vector<TransformStep> list_with(const TransformStep& step) {
  std::vector<TransformStep> steps{step};
  if (std::holds_alternative<ColorJitter>(step)) steps = {ColorJitter{0.4, 0.4, 0.4, 0.2}};
  if (std::holds_alternative<Resize>(step)) steps = {Resize{20}};
  if (!sets_size(step)) steps.push_back(CenterCrop{});
  return steps;
}

TEST(AugmentLoader, EveryTransformGivesTheSameBatchesOnOneAndEightThreads) {
  const NoiseDataset data(3);
  const Epoch plain = load_epoch(data, loader_options({CenterCrop{}}, 1), 1);
  for (const TransformStep& step : known_steps()) {
    const Epoch one = load_epoch(data, loader_options(list_with(step), 1), 1);
    ASSERT_EQ(one.images.size(), 36u * 16 * 16 * 3) << name_of(step);
    EXPECT_EQ(one.images == plain.images, std::holds_alternative<CenterCrop>(step)) << name_of(step);
    for (const int threads : {2, 8}) {
      const Epoch many = load_epoch(data, loader_options(list_with(step), threads), 1);
      EXPECT_EQ(many.images, one.images) << name_of(step) << ", " << threads << " threads";
      EXPECT_EQ(many.indices, one.indices);
    }
  }
}

TEST(AugmentLoader, RandomTransformsDifferBetweenEpochs) {
  const NoiseDataset data(3);
  const auto by_index = [&](const std::vector<TransformStep>& steps, int64_t number) {
    const Epoch epoch = load_epoch(data, loader_options(steps, 2), number);
    std::map<int64_t, std::vector<uint8_t>> images;
    constexpr int64_t kBytes = 16 * 16 * 3;
    for (size_t i = 0; i < epoch.indices.size(); ++i) {
      const auto begin = epoch.images.begin() + static_cast<int64_t>(i) * kBytes;
      images[epoch.indices[i]] = {begin, begin + kBytes};
    }
    return images;
  };
  for (const TransformStep& step : known_steps()) {
    if (std::holds_alternative<CenterCrop>(step) || std::holds_alternative<Resize>(step)) continue;
    const auto first = by_index(list_with(step), 0), second = by_index(list_with(step), 1);
    int changed = 0;
    for (const auto& [index, image] : first) changed += second.count(index) != 0 && second.at(index) != image ? 1 : 0;
    EXPECT_GT(changed, 3) << name_of(step);
  }
}

TEST(AugmentLoader, RepeatsShowASampleSeveralTimesInARow) {
  const NoiseDataset data(3);
  LoaderOptions options = loader_options({RandomResizedCrop{}}, 3);
  options.repeats = 4;
  const Epoch epoch = load_epoch(data, options, 2);
  ASSERT_EQ(epoch.indices.size(), 36u);  // as many as without repeats
  const auto order = random_permutation(37, 3, RandomPurpose::kShuffleEpoch, 2);
  std::set<std::vector<uint8_t>> images;
  constexpr int64_t kBytes = 16 * 16 * 3;
  for (size_t i = 0; i < 36; ++i) {
    EXPECT_EQ(epoch.indices[i], order[i / 4]);
    const auto begin = epoch.images.begin() + static_cast<int64_t>(i) * kBytes;
    images.insert({begin, begin + kBytes});
  }
  EXPECT_EQ(images.size(), 36u);  // each augmented anew
  options.threads = 8;
  EXPECT_EQ(load_epoch(data, options, 2).images, epoch.images);

  // The first copy is the sample of an epoch without repeats.
  LoaderOptions once = options;
  once.repeats = 1;
  const Epoch plain = load_epoch(data, once, 2);
  EXPECT_TRUE(std::equal(plain.images.begin(), plain.images.begin() + kBytes, epoch.images.begin()));
}

TEST(AugmentLoader, RepeatsOfABadImageAreReplacedByOneGoodImage) {
  const auto order = random_permutation(37, 3, RandomPurpose::kShuffleEpoch, 0);
  const NoiseDataset data(3, {order[1], order[1 + 37 / 2]});  // the second, and the first that would replace it
  LoaderOptions options = loader_options({RandomResizedCrop{}}, 2);
  options.repeats = 3;
  options.max_bad_images = 2;
  const Epoch epoch = load_epoch(data, options, 0);
  for (size_t i = 3; i < 6; ++i) EXPECT_EQ(epoch.indices[i], order[2 + 37 / 2]);
  EXPECT_EQ(epoch.bad_images, 2);
}

TEST(RandomErasing, PaintsTheBoxAndNothingElse) {
  for (const int channels : {1, 3}) {
    const Image before = noise_image(20, 30, channels, 1);
    Image after = before;
    erase(after, {3, 5, 7, 11}, {10, 20, 30});
    for (int y = 0; y < 20; ++y)
      for (int x = 0; x < 30; ++x)
        for (int c = 0; c < channels; ++c) {
          const int index = (y * 30 + x) * channels + c;
          const auto at = static_cast<size_t>(index);
          const bool inside = y >= 3 && y < 10 && x >= 5 && x < 16;
          EXPECT_EQ(after.pixels[at], inside ? 10 * (c + 1) : before.pixels[at]);
        }
  }
}

TEST(RandomErasing, LeavesAnImageThatNothingFits) {
  RandomStream random(1, RandomPurpose::kTest);
  EXPECT_EQ(draw_erasing({1, {0.5, 1}, {0.3, 3.3}}, 1, 1, random).height, 0);
  const Image image = noise_image(1, 1, 3, 2);
  const TrainTransform transform{1, {CenterCrop{}, RandomErasing{1, {0.5, 1}, {0.3, 3.3}}}, {1, 2, 3}};
  EXPECT_EQ(transform.apply(image, random).pixels, image.pixels);
}

TEST(Lighting, AddsWeightedPrincipalComponents) {
  // 255 * 0.2175 * (-0.5675, -0.5808, -0.5836) = (-31.47, -32.21, -32.37)
  EXPECT_EQ(lighting_offsets({1, 0, 0}), (std::array<int, 3>{-31, -32, -32}));
  // 255 * 0.0188 * (0.7192, -0.0045, -0.6948) = (3.448, -0.022, -3.331)
  EXPECT_EQ(lighting_offsets({0, 1, 0}), (std::array<int, 3>{3, 0, -3}));
  // 255 * 0.0045 * 10 * (0.4009, -0.8140, 0.4203) = (4.600, -9.341, 4.823)
  EXPECT_EQ(lighting_offsets({0, 0, 10}), (std::array<int, 3>{5, -9, 5}));
  Image image(1, 2, 3);
  image.pixels = {0, 100, 250, 30, 31, 32};
  add_to_channels(image, {-31, 5, 10});
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{0, 105, 255, 0, 36, 42}));
}

// The offsets that a gray image receives tell the weights' distribution: red's deviation is
// 255 * 0.1 * sqrt((0.2175*0.5675)^2 + (0.0188*0.7192)^2 + (0.0045*0.4009)^2) = 3.167.
TEST(Lighting, WeightsAreNormal) {
  Image image(1, 1, 3);
  std::fill(image.pixels.begin(), image.pixels.end(), uint8_t{128});
  const TrainTransform transform{1, {CenterCrop{}, Lighting{0.1}}, {}};
  double sum = 0, squares = 0;
  constexpr int kDraws = 20000;
  RandomStream random(4, RandomPurpose::kTest);
  for (int i = 0; i < kDraws; ++i) {
    const double offset = transform.apply(image, random).pixels[0] - 128.0;
    sum += offset;
    squares += offset * offset;
  }
  EXPECT_NEAR(sum / kDraws, 0, 5 * 3.18 / std::sqrt(kDraws));
  EXPECT_NEAR(std::sqrt(squares / kDraws), std::sqrt(3.167 * 3.167 + 1.0 / 12), 0.08);  // rounding adds 1/12
}

TEST(AugmentList, ProbabilitiesAreKept) {
  Image image(2, 2, 3);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(20 * i);
  const auto share_of_changes = [&](const TransformStep& step) {
    const TrainTransform transform{2, {CenterCrop{}, step}, {}};
    int changed = 0;
    for (uint64_t i = 0; i < 10000; ++i) {
      RandomStream random(5, RandomPurpose::kTest, i);
      changed += transform.apply(image, random).pixels != image.pixels ? 1 : 0;
    }
    return changed / 10000.0;
  };
  EXPECT_NEAR(share_of_changes(Flip{0.5}), 0.5, 0.025);
  EXPECT_NEAR(share_of_changes(Grayscale{0.1}), 0.1, 0.015);
  EXPECT_EQ(share_of_changes(Grayscale{0}), 0);
  EXPECT_EQ(share_of_changes(Flip{1}), 1);
}

TEST(AugmentList, RunsInTheOrderGiven) {
  const Image image = noise_image(40, 40, 3, 6);
  const TransformStep erase_all{RandomErasing{1, {0.2, 0.2}, {1, 1}}};
  const auto mean_pixels = [&](const std::vector<TransformStep>& steps) {
    const TrainTransform transform{32, steps, {1, 2, 3}};
    RandomStream random(7, RandomPurpose::kTest);
    const Image out = transform.apply(image, random);
    int count = 0;
    for (size_t i = 0; i + 2 < out.pixels.size(); i += 3)
      count += out.pixels[i] == 1 && out.pixels[i + 1] == 2 && out.pixels[i + 2] == 3 ? 1 : 0;
    return count;
  };
  EXPECT_EQ(mean_pixels({CenterCrop{}, erase_all}), 14 * 14);          // of 32x32: round(sqrt(0.2 * 1024))
  EXPECT_EQ(mean_pixels({CenterCrop{}, erase_all, Grayscale{1}}), 0);  // and then it is gray
}

// Odd lengths, so that vectors have rests.
class PixelLoopsOf : public testing::TestWithParam<PixelIsa> {};

TEST_P(PixelLoopsOf, AgreeWithThoseOfEveryCpu) {
  const PixelLoops &best = pixel_loops(GetParam()), &plain = pixel_loops(PixelIsa::kBaseline);
  const auto expect_equal = [](const std::string& what, const auto& apply_best, const auto& apply_plain) {
    for (const int width : {1, 5, 16, 33, 1001}) {
      Image a = noise_image(1, width, 3, 8), b = a;
      apply_best(a);
      apply_plain(b);
      EXPECT_EQ(a.pixels, b.pixels) << what << ", " << width << " pixels";
    }
  };
  const auto both = [&](const std::string& what, const auto& apply) {
    expect_equal(
        what, [&](Image& image) { apply(best, image); }, [&](Image& image) { apply(plain, image); });
  };
  const auto pixels = [](const Image& image) { return static_cast<size_t>(image.width); };
  for (const float factor : {0.0f, 0.3f, 1.4f, 7.7f}) {
    both("value",
         [&](const PixelLoops& l, Image& i) { l.blend_with_value(i.pixels.data(), i.pixels.size(), 93, factor); });
    both("luma", [&](const PixelLoops& l, Image& i) { l.blend_with_luma(i.pixels.data(), pixels(i), factor); });
    both("image", [&](const PixelLoops& l, Image& i) {
      const Image other = noise_image(1, i.width, 3, 9);
      l.blend_with_image(other.pixels.data(), i.pixels.data(), i.pixels.size(), factor);
    });
  }
  both("gray", [&](const PixelLoops& l, Image& i) { l.make_gray(i.pixels.data(), pixels(i)); });
  const int offsets[] = {-40, 3, 90};
  both("offsets", [&](const PixelLoops& l, Image& i) { l.add_to_channels(i.pixels.data(), pixels(i), offsets); });
  both("mask", [&](const PixelLoops& l, Image& i) { l.mask(i.pixels.data(), i.pixels.size(), 0xe0); });
  both("solarize", [&](const PixelLoops& l, Image& i) { l.solarize(i.pixels.data(), i.pixels.size(), 77); });
  both("smooth", [&](const PixelLoops& l, Image& i) {
    const Image above = noise_image(1, i.width, 3, 10), below = noise_image(1, i.width, 3, 11), row = i;
    l.smooth_row(above.pixels.data(), row.pixels.data(), below.pixels.data(), i.pixels.size(), 3, i.pixels.data());
  });
  both("reverse", [&](const PixelLoops& l, Image& i) {
    std::vector<uint8_t> row = i.pixels;
    row.push_back(0);
    l.reverse_row(row.data(), pixels(i), i.pixels.data());
  });
  const Image image = noise_image(1, 100001, 3, 12);
  EXPECT_EQ(best.luma_sum(image.pixels.data(), 100001), plain.luma_sum(image.pixels.data(), 100001));
}

INSTANTIATE_TEST_SUITE_P(Isas, PixelLoopsOf, testing::Values(PixelIsa::kBest, PixelIsa::kAvx2));

}  // namespace
}  // namespace riffle
