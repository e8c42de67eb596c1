// AutoAugment (Cubuk et al., 2019, ImageNet's policy), RandAugment (Cubuk et al., 2020) and TrivialAugmentWide (Müller,
// Hutter, 2021): random operations of random strength, with the operations, strengths and odds of torchvision.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/augment_affine.h"

namespace riffle {

enum class AugmentOp {
  kIdentity,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
  kRotate,
  kBrightness,
  kColor,
  kContrast,
  kSharpness,
  kPosterize,
  kSolarize,
  kAutoContrast,
  kEqualize,
  kInvert
};
std::string name_of(AugmentOp op);  // torchvision's: "ShearX"

// An operation with its strength: a tangent, pixels, degrees, a change of 1 as the factor, bits, a threshold.
struct DrawnOp {
  AugmentOp op = AugmentOp::kIdentity;
  double magnitude = 0;
};
void apply_op(Image& image, const DrawnOp& drawn, const Sampling& sampling);

enum class AugmentSpace { kAutoAugment, kRandAugment, kTrivialAugmentWide };
// The `bin`-th of `bins` strengths of an operation for an image of this size, without sign; 0 where it has none.
double magnitude_of(AugmentSpace space, AugmentOp op, int bin, int bins, int height, int width);
// Whether the strength is negated every other time.
bool is_signed(AugmentOp op);

// An operation of an AutoAugment sub-policy: how often, and which of ten strengths.
struct PolicyOp {
  AugmentOp op;
  double probability;
  int bin;
};
const std::array<std::array<PolicyOp, 2>, 25>& imagenet_policy();

std::vector<DrawnOp> draw_auto_augment(int height, int width, RandomStream& random);
std::vector<DrawnOp> draw_rand_augment(int operations, int magnitude, int bins, int height, int width,
                                       RandomStream& random);
std::vector<DrawnOp> draw_trivial_augment_wide(int bins, int height, int width, RandomStream& random);

}  // namespace riffle
