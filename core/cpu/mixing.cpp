// Mixup and CutMix: normalised pixels and target probabilities of two images each.
#include <algorithm>
#include <vector>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/kernels/image_mix.h"
#include "core/normalisation_table.h"

namespace riffle {

void CpuBackend::normalize_mixed(const Tensor& images, const Normalisation& normalisation, const ImageMix& mix,
                                 const Tensor& y) {
  check_normalize(images, Tensor{}, normalisation, y);
  check_image_mix(mix, images.shape());
  const Shape shape = images.shape();
  const std::vector<float> table = normalisation_table(normalisation);
  const MixedPixel mixed{static_cast<int32_t>(mix.top), static_cast<int32_t>(mix.bottom),
                         static_cast<int32_t>(mix.left), static_cast<int32_t>(mix.right),
                         static_cast<float>(mix.inside)};
  const uint8_t* from = images.data<uint8_t>();
  float* to = y.data<float>();
  const int64_t rows = shape.n * shape.h, partner_distance = (shape.n - 1) * shape.h;
  const Chunks chunks{rows, std::max<int64_t>(1, 4096 / shape.w)};
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t row = chunks[i].begin; row < chunks[i].end; ++row) {
      const uint8_t* own = from + row * shape.w * shape.c;
      const uint8_t* partner = from + (row + partner_distance) % rows * shape.w * shape.c;
      for (int64_t x = 0; x < shape.w; ++x, own += shape.c, partner += shape.c) {
        const bool mixes = mixed.mixes(row % shape.h, x);
        float* const pixel = to + (row * shape.w + x) * y.ld();
        for (int64_t c = 0; c < shape.c; ++c) {
          const int64_t source = normalisation.reverse_channels ? shape.c - 1 - c : c;
          const float value = table[static_cast<size_t>(c * 256 + own[source])];
          pixel[c] = mixes ? mixed.mix(value, table[static_cast<size_t>(c * 256 + partner[source])]) : value;
        }
      }
    }
  });
}

void CpuBackend::mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                               const Tensor& targets) {
  check_mixed_targets(labels, others, share, smoothing, targets);
  const int64_t classes = targets.channels();
  const int32_t *label = labels.data<int32_t>(), *other = others.data<int32_t>();
  float* const out = targets.data<float>();
  for (int64_t n = 0; n < targets.shape().n; ++n) {
    RIFFLE_CHECK(std::min(label[n], other[n]) >= 0 && std::max(label[n], other[n]) < classes, "labels ", label[n],
                 " and ", other[n], " of image ", n, " are not in 0 .. ", classes - 1);
    float* const row = out + n * targets.ld();
    for (int64_t k = 0; k < classes; ++k) {
      const double sharp = (k == label[n] ? share : 0) + (k == other[n] ? 1 - share : 0);
      row[k] = static_cast<float>((1 - smoothing) * sharp + smoothing / static_cast<double>(classes));
    }
  }
}

}  // namespace riffle
