// Training augmentation: a list of transforms, each of which draws what it needs from the sample's own random stream.
// docs/augmentation.md says what each does and where its definition comes from.
#pragma once

#include <array>
#include <string>
#include <variant>
#include <vector>

#include "core/rng.h"
#include "data/image.h"
#include "data/transform.h"

namespace riffle {

// --- geometry; RandomResizedCrop is in transform.h ---
struct PadAndCrop {  // zeros on each side, then a random window of the output's size
  int pad = 4;
};
struct Resize {  // the short edge, as torchvision's Resize
  int short_edge = 256;
};
struct CenterCrop {};  // of the output's size
struct Flip {          // left to right
  double probability = 0.5;
};

// --- colour ---
// Each factor is uniform in 1 - x .. 1 + x (not below 0), the hue's shift in -hue .. hue; in random order.
struct ColorJitter {
  double brightness = 0, contrast = 0, saturation = 0, hue = 0;
};
struct Grayscale {
  double probability = 0.1;
};
struct Lighting {  // the principal components' weights are normal with this deviation
  double deviation = 0.1;
};

// --- random operations, see augment_policy.h ---
struct AutoAugment {
  std::string interpolation = "nearest";  // or "bilinear"
  int fill = 0;
};
struct RandAugment {
  int operations = 2;
  int magnitude = 9;  // of 0 .. bins - 1
  int bins = 31;
  std::string interpolation = "nearest";
  int fill = 0;
};
struct TrivialAugmentWide {
  int bins = 31;
  std::string interpolation = "nearest";
  int fill = 0;
};

// A rectangle becomes TrainTransform::mean_colour (Zhong et al., 2020).
struct RandomErasing {
  double probability = 0.5;
  Interval scale{0.02, 0.33}, ratio{0.3, 3.3};  // of the image's area; height / width
};
// Where to erase: ten tries as torchvision's RandomErasing.get_params; a box of height 0 if none fits.
CropBox draw_erasing(const RandomErasing& parameters, int height, int width, RandomStream& random);
void erase(Image& image, const CropBox& box, const std::array<uint8_t, 3>& colour);

// What ColorJitter drew: factors, and the order of brightness (0), contrast (1), saturation (2) and hue (3).
struct DrawnJitter {
  double brightness = 1, contrast = 1, saturation = 1, hue = 0;
  std::array<int, 4> order{0, 1, 2, 3};
};
DrawnJitter draw_jitter(const ColorJitter& parameters, RandomStream& random);
void apply_jitter(Image& image, const DrawnJitter& drawn);

using TransformStep = std::variant<RandomResizedCrop, PadAndCrop, Resize, CenterCrop, Flip, ColorJitter, Grayscale,
                                   Lighting, AutoAugment, RandAugment, TrivialAugmentWide, RandomErasing>;

// Whether a step makes images of the output's size. A list has exactly one such step.
bool sets_size(const TransformStep& step);

// How training images are decoded: whole, as evaluation's are; or only what the first step needs (quick_decode.h).
enum class DecodeMode { kExact, kQuick };

// The whole list, a pure function of (image, stream).
struct TrainTransform {
  int size = 224;  // output height and width
  std::vector<TransformStep> steps{RandomResizedCrop{}, Flip{}};
  std::array<uint8_t, 3> mean_colour{124, 116, 104};  // what normalises to about 0, in R, G, B (or gray first)

  bool exif_orientation = false;  // turn images upright first
  DecodeMode decode = DecodeMode::kExact;

  Image apply(const Image& image, RandomStream& random) const;
  // Steps begin .. end - 1, of an image that is upright.
  Image apply_some(Image image, RandomStream& random, size_t begin, size_t end) const;
};

}  // namespace riffle
