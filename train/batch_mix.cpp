// Mixup and CutMix.
#include "train/batch_mix.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"

namespace riffle {

BatchMix mixup(int64_t size, double share) {
  return {{0, size, 0, size, share}, share};
}

BatchMix cutmix(int64_t size, double share, int64_t centre_x, int64_t centre_y) {
  const auto half = static_cast<int64_t>(0.5 * std::sqrt(1 - share) * static_cast<double>(size));
  ImageMix box;
  box.top = std::max<int64_t>(centre_y - half, 0);
  box.bottom = std::min(centre_y + half, size);
  box.left = std::max<int64_t>(centre_x - half, 0);
  box.right = std::min(centre_x + half, size);
  box.inside = 0;
  const auto cut = static_cast<double>((box.bottom - box.top) * (box.right - box.left));
  return {box, 1 - cut / static_cast<double>(size * size)};
}

std::optional<BatchMix> draw_batch_mix(const AugmentSection& augment, uint64_t seed, int64_t step, int64_t batch) {
  if (augment.mixup == 0 && augment.cutmix == 0) return std::nullopt;
  RandomStream random(seed, RandomPurpose::kMix, static_cast<uint64_t>(step), static_cast<uint64_t>(batch));
  const bool first = random.flip(0.5);
  if (augment.cutmix == 0 || (augment.mixup > 0 && first))
    return mixup(augment.size, random.beta(augment.mixup, augment.mixup));
  const double share = random.beta(augment.cutmix, augment.cutmix);
  const int64_t x = random.below(augment.size), y = random.below(augment.size);
  return cutmix(augment.size, share, x, y);
}

}  // namespace riffle
