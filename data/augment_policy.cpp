// Random operations: see augment_policy.h. The facts are those of torchvision's transforms/autoaugment.py.
#include "data/augment_policy.h"

#include <array>
#include <cmath>

#include "core/check.h"
#include "data/augment_color.h"
#include "data/augment_tone.h"

namespace riffle {
namespace {

using Op = AugmentOp;

// Those that RandAugment and TrivialAugmentWide choose from, with equal odds.
constexpr std::array<Op, 14> kOperations{
    Op::kIdentity, Op::kShearX,   Op::kShearY,    Op::kTranslateX, Op::kTranslateY, Op::kRotate,       Op::kBrightness,
    Op::kColor,    Op::kContrast, Op::kSharpness, Op::kPosterize,  Op::kSolarize,   Op::kAutoContrast, Op::kEqualize};

// The greatest strengths of a space. Translations of kAutoAugment and kRandAugment are parts of the edge.
struct Limits {
  double shear, translation, degrees, enhancement;
  int posterize_bits;  // that are dropped
};
constexpr Limits kNarrow{0.3, 150.0 / 331.0, 30, 0.9, 4}, kWide{0.99, 32, 135, 0.99, 6};

// torch.linspace(start, end, bins)[bin], which is f32 and whose last bit depends on torch's vectors.
double evenly_spaced(double start, double end, int bin, int bins) {
  return start + (end - start) * bin / (bins - 1);
}

constexpr int kPolicyBins = 10;
constexpr std::array<std::array<PolicyOp, 2>, 25> kImageNetPolicy{{
    {{{Op::kPosterize, 0.4, 8}, {Op::kRotate, 0.6, 9}}},  {{{Op::kSolarize, 0.6, 5}, {Op::kAutoContrast, 0.6, 0}}},
    {{{Op::kEqualize, 0.8, 0}, {Op::kEqualize, 0.6, 0}}}, {{{Op::kPosterize, 0.6, 7}, {Op::kPosterize, 0.6, 6}}},
    {{{Op::kEqualize, 0.4, 0}, {Op::kSolarize, 0.2, 4}}}, {{{Op::kEqualize, 0.4, 0}, {Op::kRotate, 0.8, 8}}},
    {{{Op::kSolarize, 0.6, 3}, {Op::kEqualize, 0.6, 0}}}, {{{Op::kPosterize, 0.8, 5}, {Op::kEqualize, 1.0, 0}}},
    {{{Op::kRotate, 0.2, 3}, {Op::kSolarize, 0.6, 8}}},   {{{Op::kEqualize, 0.6, 0}, {Op::kPosterize, 0.4, 6}}},
    {{{Op::kRotate, 0.8, 8}, {Op::kColor, 0.4, 0}}},      {{{Op::kRotate, 0.4, 9}, {Op::kEqualize, 0.6, 0}}},
    {{{Op::kEqualize, 0.0, 0}, {Op::kEqualize, 0.8, 0}}}, {{{Op::kInvert, 0.6, 0}, {Op::kEqualize, 1.0, 0}}},
    {{{Op::kColor, 0.6, 4}, {Op::kContrast, 1.0, 8}}},    {{{Op::kRotate, 0.8, 8}, {Op::kColor, 1.0, 2}}},
    {{{Op::kColor, 0.8, 8}, {Op::kSolarize, 0.8, 7}}},    {{{Op::kSharpness, 0.4, 7}, {Op::kInvert, 0.6, 0}}},
    {{{Op::kShearX, 0.6, 5}, {Op::kEqualize, 1.0, 0}}},   {{{Op::kColor, 0.4, 0}, {Op::kEqualize, 0.6, 0}}},
    {{{Op::kEqualize, 0.4, 0}, {Op::kSolarize, 0.2, 4}}}, {{{Op::kSolarize, 0.6, 5}, {Op::kAutoContrast, 0.6, 0}}},
    {{{Op::kInvert, 0.6, 0}, {Op::kEqualize, 1.0, 0}}},   {{{Op::kColor, 0.6, 4}, {Op::kContrast, 1.0, 8}}},
    {{{Op::kEqualize, 0.8, 0}, {Op::kEqualize, 0.6, 0}}},
}};

Op draw_operation(RandomStream& random) {
  return kOperations[static_cast<size_t>(random.below(kOperations.size()))];
}

double with_random_sign(AugmentOp op, double magnitude, RandomStream& random) {
  return is_signed(op) && random.flip(0.5) ? -magnitude : magnitude;
}

}  // namespace

const std::array<std::array<PolicyOp, 2>, 25>& imagenet_policy() {
  return kImageNetPolicy;
}

std::string name_of(AugmentOp op) {
  static const std::array<const char*, 15> names{"Identity",  "ShearX",     "ShearY",       "TranslateX", "TranslateY",
                                                 "Rotate",    "Brightness", "Color",        "Contrast",   "Sharpness",
                                                 "Posterize", "Solarize",   "AutoContrast", "Equalize",   "Invert"};
  return names.at(static_cast<size_t>(op));
}

bool is_signed(AugmentOp op) {
  return op >= Op::kShearX && op <= Op::kSharpness;
}

double magnitude_of(AugmentSpace space, AugmentOp op, int bin, int bins, int height, int width) {
  RIFFLE_CHECK(bins >= 2 && bin >= 0 && bin < bins, "bin ", bin, " of ", bins);
  const bool wide = space == AugmentSpace::kTrivialAugmentWide;
  const Limits& limits = wide ? kWide : kNarrow;
  switch (op) {
    case Op::kShearX:
    case Op::kShearY:
      return evenly_spaced(0, limits.shear, bin, bins);
    case Op::kTranslateX:
      return evenly_spaced(0, wide ? limits.translation : limits.translation * width, bin, bins);
    case Op::kTranslateY:
      return evenly_spaced(0, wide ? limits.translation : limits.translation * height, bin, bins);
    case Op::kRotate:
      return evenly_spaced(0, limits.degrees, bin, bins);
    case Op::kBrightness:
    case Op::kColor:
    case Op::kContrast:
    case Op::kSharpness:
      return evenly_spaced(0, limits.enhancement, bin, bins);
    case Op::kPosterize:
      return 8 - std::nearbyint(bin / (static_cast<double>(bins - 1) / limits.posterize_bits));
    case Op::kSolarize:
      return evenly_spaced(255, 0, bin, bins);
    default:
      return 0;
  }
}

void apply_op(Image& image, const DrawnOp& drawn, const Sampling& sampling) {
  const double magnitude = drawn.magnitude;
  switch (drawn.op) {
    case Op::kIdentity:
      return;
    case Op::kShearX:
      image = shear_x(image, magnitude, sampling);
      return;
    case Op::kShearY:
      image = shear_y(image, magnitude, sampling);
      return;
    case Op::kTranslateX:
      image = translate(image, static_cast<int>(magnitude), 0, sampling);
      return;
    case Op::kTranslateY:
      image = translate(image, 0, static_cast<int>(magnitude), sampling);
      return;
    case Op::kRotate:
      image = rotate(image, magnitude, sampling);
      return;
    case Op::kBrightness:
      return adjust_brightness(image, 1 + magnitude);
    case Op::kColor:
      return adjust_saturation(image, 1 + magnitude);
    case Op::kContrast:
      return adjust_contrast(image, 1 + magnitude);
    case Op::kSharpness:
      return adjust_sharpness(image, 1 + magnitude);
    case Op::kPosterize:
      return posterize(image, static_cast<int>(magnitude));
    case Op::kSolarize:
      return solarize(image, magnitude);
    case Op::kAutoContrast:
      return stretch_contrast(image);
    case Op::kEqualize:
      return equalize(image);
    case Op::kInvert:
      return invert(image);
  }
}

std::vector<DrawnOp> draw_auto_augment(int height, int width, RandomStream& random) {
  const auto& chosen = kImageNetPolicy[static_cast<size_t>(random.below(kImageNetPolicy.size()))];
  std::vector<DrawnOp> drawn;
  for (const PolicyOp& step : chosen) {
    if (!random.flip(step.probability)) continue;
    const double magnitude = magnitude_of(AugmentSpace::kAutoAugment, step.op, step.bin, kPolicyBins, height, width);
    drawn.push_back({step.op, with_random_sign(step.op, magnitude, random)});
  }
  return drawn;
}

std::vector<DrawnOp> draw_rand_augment(int operations, int magnitude, int bins, int height, int width,
                                       RandomStream& random) {
  std::vector<DrawnOp> drawn;
  for (int i = 0; i < operations; ++i) {
    const Op op = draw_operation(random);
    const double strength = magnitude_of(AugmentSpace::kRandAugment, op, magnitude, bins, height, width);
    drawn.push_back({op, with_random_sign(op, strength, random)});
  }
  return drawn;
}

std::vector<DrawnOp> draw_trivial_augment_wide(int bins, int height, int width, RandomStream& random) {
  const Op op = draw_operation(random);
  const auto bin = static_cast<int>(random.below(bins));
  const double strength = magnitude_of(AugmentSpace::kTrivialAugmentWide, op, bin, bins, height, width);
  return {{op, with_random_sign(op, strength, random)}};
}

}  // namespace riffle
