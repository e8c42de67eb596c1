// Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) as torchvision's classification reference does them: each image
// of a batch is mixed with the one before it, all by the same share, and so are their labels.
#pragma once

#include <cstdint>
#include <optional>

#include "core/backend.h"
#include "train/config.h"

namespace riffle {

struct BatchMix {
  ImageMix image;
  double share = 1;  // of an image's own label
};

// What happens to batch `batch` of step `step`, a pure function of the arguments; nothing where mixup and cutmix are off.
std::optional<BatchMix> draw_batch_mix(const AugmentSection& augment, uint64_t seed, int64_t step, int64_t batch);

// The two transforms, on images of `size` x `size`. Mixup takes the share as it is; CutMix cuts a box of (1 - share) of
// the area around a centre, clipped at the border, and what of the area is left of the image is its share.
BatchMix mixup(int64_t size, double share);
BatchMix cutmix(int64_t size, double share, int64_t centre_x, int64_t centre_y);

}  // namespace riffle
