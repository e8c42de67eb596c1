// Mixup and CutMix: draws, and a batch's images and targets against torchvision's formulas in double.
#include "train/batch_mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.h"
#include "tests/parity.h"
#include "train/make_backend.h"
#include "train/network_input.h"

namespace riffle {
namespace {

constexpr int64_t kSize = 32;

AugmentSection section(double mixup_alpha, double cutmix_alpha) {
  AugmentSection augment;
  augment.mixup = mixup_alpha;
  augment.cutmix = cutmix_alpha;
  return augment;
}

bool is_mixup(const BatchMix& mix) {
  return mix.image.bottom - mix.image.top == kSize && mix.image.right - mix.image.left == kSize &&
         mix.image.inside == mix.share;
}

// mean a/(a+b), variance ab/((a+b)^2 (a+b+1)); means of 20,000 draws within five of their standard deviations.
TEST(Beta, HasItsMeanAndVariance) {
  constexpr int kDraws = 20000;
  for (const auto& [a, b] : std::vector<std::pair<double, double>>{{0.01, 0.01}, {0.2, 0.2}, {1, 1}, {2, 5}, {50, 8}}) {
    SCOPED_TRACE(join("Beta(", a, ", ", b, ")"));
    RandomStream random(3, RandomPurpose::kTest);
    double sum = 0, squares = 0;
    const double mean = a / (a + b), variance = a * b / ((a + b) * (a + b) * (a + b + 1));
    for (int i = 0; i < kDraws; ++i) {
      const double value = random.beta(a, b);
      ASSERT_GE(value, 0);
      ASSERT_LE(value, 1);
      sum += value;
      squares += (value - mean) * (value - mean);
    }
    EXPECT_NEAR(sum / kDraws, mean, 5 * std::sqrt(variance / kDraws));
    EXPECT_NEAR(squares / kDraws, variance, 0.05 * variance);
  }
}

// Of gamma, the mean is the shape.
TEST(Gamma, HasItsMean) {
  for (double shape : {0.3, 1.0, 4.5}) {
    RandomStream random(4, RandomPurpose::kTest);
    double sum = 0;
    for (int i = 0; i < 20000; ++i) sum += std::exp(random.log_gamma(shape));
    EXPECT_NEAR(sum / 20000, shape, 5 * std::sqrt(shape / 20000)) << shape;
  }
}

TEST(BatchMix, IsAFunctionOfItsCoordinates) {
  const AugmentSection both = section(0.2, 1);
  const auto text = [&](uint64_t seed, int64_t step, int64_t batch) {
    const BatchMix mix = *draw_batch_mix(both, kSize, seed, step, batch);
    return join(mix.image.top, " ", mix.image.bottom, " ", mix.image.left, " ", mix.image.right, " ", mix.share);
  };
  EXPECT_EQ(text(1, 2, 0), text(1, 2, 0));
  EXPECT_NE(text(1, 2, 0), text(1, 3, 0));
  EXPECT_NE(text(1, 2, 0), text(1, 2, 1));
  EXPECT_NE(text(1, 2, 0), text(2, 2, 0));
}

TEST(BatchMix, EachBatchTakesOneOfThoseThatAreOn) {
  EXPECT_FALSE(draw_batch_mix(section(0, 0), kSize, 1, 0, 0));
  int mixups = 0;
  for (int64_t step = 0; step < 1000; ++step) {
    EXPECT_TRUE(is_mixup(*draw_batch_mix(section(0.2, 0), kSize, 1, step, 0)));
    const BatchMix cut = *draw_batch_mix(section(0, 1), kSize, 1, step, 0);
    EXPECT_EQ(cut.image.inside, 0);
    mixups += is_mixup(*draw_batch_mix(section(0.2, 1), kSize, 1, step, 0)) ? 1 : 0;
  }
  EXPECT_NEAR(mixups, 500, 80);  // five standard deviations
}

// torchvision, references/classification/transforms.py, RandomCutmix: x1 = max(r_x - r_w_half, 0) and so on, with
// r_w_half = int(0.5 * sqrt(1 - lambda) * W); then lambda = 1 - area / (W * H).
TEST(BatchMix, CutMixClipsItsBoxAndCountsWhatIsCut) {
  const BatchMix middle = cutmix(32, 0.75, 16, 10);  // half: 0.5 * 0.5 * 32 = 8
  EXPECT_EQ(middle.image.left, 8);
  EXPECT_EQ(middle.image.right, 24);
  EXPECT_EQ(middle.image.top, 2);
  EXPECT_EQ(middle.image.bottom, 18);
  EXPECT_DOUBLE_EQ(middle.share, 0.75);
  const BatchMix corner = cutmix(32, 0.75, 31, 0);
  EXPECT_EQ(corner.image.left, 23);
  EXPECT_EQ(corner.image.right, 32);
  EXPECT_EQ(corner.image.top, 0);
  EXPECT_EQ(corner.image.bottom, 8);
  EXPECT_DOUBLE_EQ(corner.share, 1 - 72.0 / 1024);
  EXPECT_DOUBLE_EQ(cutmix(32, 1, 5, 5).share, 1);
}

// The whole way of a batch: pixels and targets as torchvision's mul_, add_ and roll would make them, in double.
void check_batch(const BatchMix& mix) {
  SCOPED_TRACE(join("share ", mix.share));
  constexpr int64_t kCount = 5, kClasses = 7;
  constexpr double kSmoothing = 0.1;
  const std::unique_ptr<Backend> backend = make_backend({}).backend;
  RandomStream random(9, RandomPurpose::kTest);
  const Shape shape{kCount, kSize, kSize, 3};
  std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements()));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(256));
  const std::vector<int32_t> labels{3, 0, 6, 6, 2};
  const Normalisation normalisation;
  NetworkInput input(*backend, normalisation, shape);
  input.upload(bytes.data(), kCount);
  const std::vector<double> x = parity::host(*backend, input.images(&mix.image).value());
  const BatchTargets targets = input.mixed_labels(labels.data(), kCount, mix.share, kSmoothing, kClasses);
  const std::vector<double> t = parity::host(*backend, targets.probabilities);
  std::vector<int32_t> counted(kCount);
  backend->download(targets.labels, DType::kI32, counted.data());

  const auto pixel = [&](size_t n, size_t i) {
    return (bytes[n * kSize * kSize * 3 + i] / 255.0 - normalisation.mean[i % 3]) / normalisation.std[i % 3];
  };
  for (size_t n = 0; n < kCount; ++n) {
    const size_t rolled = (n + kCount - 1) % kCount;
    for (size_t i = 0; i < static_cast<size_t>(kSize * kSize * 3); ++i) {
      const auto row = static_cast<int64_t>(i / (kSize * 3)), column = static_cast<int64_t>(i / 3 % kSize);
      const bool inside =
          row >= mix.image.top && row < mix.image.bottom && column >= mix.image.left && column < mix.image.right;
      const double own = inside ? mix.image.inside : 1;
      ASSERT_NEAR(x[n * kSize * kSize * 3 + i], own * pixel(n, i) + (1 - own) * pixel(rolled, i), 1e-5);
    }
    for (int32_t k = 0; k < kClasses; ++k) {
      const double hard = (labels[n] == k ? mix.share : 0) + (labels[rolled] == k ? 1 - mix.share : 0);
      EXPECT_NEAR(t[n * kClasses + static_cast<size_t>(k)], hard * (1 - kSmoothing) + kSmoothing / kClasses, 1e-6);
    }
    EXPECT_EQ(counted[n], labels[mix.share >= 0.5 ? n : rolled]);
  }
}

TEST(BatchMix, ImagesAndTargetsAreTorchvisions) {
  check_batch(mixup(32, 0.7));
  check_batch(mixup(32, 0.2));
  check_batch(cutmix(32, 0.75, 16, 10));
  check_batch(cutmix(32, 0.05, 14, 18));
}

}  // namespace
}  // namespace riffle
