// Mixup and CutMix: normalised pixels and target probabilities of two images each.
#include "core/contracts.h"
#include "core/kernels/image_mix.h"
#include "cuda/cuda_backend.h"
#include "cuda/index_division.h"
#include "cuda/normalisation_values.h"
#include "cuda/pixel_rows.h"

namespace riffle {
namespace {

// A row of an image is a row of width * channels elements. A thread makes Width neighbouring ones: of each 1 byte is
// read, 2 where images mix, and size_of(T) written. y has a row for each pixel; where Width is not 1 it is packed.
template <class T, int Width>
__global__ void normalize_mixed_kernel(const uint8_t* images, NormalisationValues table, MixedPixel mixed,
                                       IndexDivisor by_height, int height, int width, int channels,
                                       IndexDivisor by_channels, bool reverse, int rows, int packs, PixelRows<T> y) {
  __shared__ float values[kMostImageChannels * 256];
  table.copy_to(values, channels);
  const int64_t elements = static_cast<int64_t>(width) * channels;
  for_each_pack(rows, packs, [&](int row, int pack) {
    const int image_row = by_height.remainder(row);
    const int partner_row = row < height ? row + rows - height : row - height;  // the same row of the image before
    const uint8_t* const own = images + row * elements;
    const uint8_t* const partner = images + partner_row * elements;
    int x = by_channels.quotient(pack * Width), c = by_channels.remainder(pack * Width, x);
    T* const place = y.at(static_cast<int64_t>(row) * width + x, c);
    Pack<T, Width> to;
    GPU_UNROLL
    for (int i = 0; i < Width; ++i) {
      const int source = x * channels + (reverse ? channels - 1 - c : c);
      float value = values[c * 256 + own[source]];
      if (mixed.mixes(image_row, x)) value = mixed.mix(value, values[c * 256 + partner[source]]);
      to.element[i] = from_float<T>(value);
      if (++c == channels) {
        c = 0;
        ++x;
      }
    }
    store_pack(to, place);
  });
}

// A label outside 0 .. K-1 makes its row NaN, as in loss.cu.
__global__ void mixed_targets_kernel(const int32_t* labels, const int32_t* others, float on_label, float on_other,
                                     float everywhere, int rows, int classes, PixelRows<float> targets) {
  for_each_pack(rows, classes, [&](int n, int k) {
    const int label = labels[n], other = others[n];
    const bool valid = label >= 0 && label < classes && other >= 0 && other < classes;
    const float sharp = (k == label ? on_label : 0.0f) + (k == other ? on_other : 0.0f);
    *targets.at(n, k) = valid ? sharp + everywhere : NAN;
  });
}

}  // namespace

void CudaBackend::normalize_mixed(const Tensor& images, const Normalisation& normalisation, const ImageMix& mix,
                                  const Tensor& y) {
  check_ours(images, "normalize_mixed");
  check_ours(y, "normalize_mixed");
  check_normalize(images, Tensor{}, normalisation, y);
  check_image_mix(mix, images.shape());
  const Shape& shape = images.shape();
  RIFFLE_CHECK(shape.c <= kMostImageChannels, "normalize_mixed: images have ", shape.c, " channels; at most ",
               kMostImageChannels, " can be normalised on CUDA");
  const MixedPixel mixed{static_cast<int32_t>(mix.top), static_cast<int32_t>(mix.bottom),
                         static_cast<int32_t>(mix.left), static_cast<int32_t>(mix.right),
                         static_cast<float>(mix.inside)};
  const int64_t rows = shape.n * shape.h, columns = shape.w * shape.c;
  const int widest = y.packed() ? vector_width(y.reshaped({1, 1, rows, columns})) : 1;
  const NormalisationValues table = normalisation_values(normalisation);
  dispatch_dtype(y.dtype(), [&](auto element) {
    using T = decltype(element);
    dispatch_width<T>(widest, [&](auto width) {
      const int64_t packs = columns / width;
      const RowLaunch launch_shape = row_launch(rows, packs, properties_.multiprocessors);
      launch("normalize_mixed", normalize_mixed_kernel<T, width>, launch_shape.grid, launch_shape.block, 0,
             images.data<uint8_t>(), table, mixed, IndexDivisor(shape.h), shape.h, shape.w, shape.c,
             IndexDivisor(shape.c), normalisation.reverse_channels, rows, packs, rows_of<T>(y));
    });
  });
}

void CudaBackend::mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                                const Tensor& targets) {
  check_ours(targets, "mixed_targets");
  check_mixed_targets(labels, others, share, smoothing, targets);
  const int64_t rows = targets.shape().n, classes = targets.channels();
  const RowLaunch launch_shape = row_launch(rows, classes, properties_.multiprocessors);
  launch("mixed_targets", mixed_targets_kernel, launch_shape.grid, launch_shape.block, 0, labels.data<int32_t>(),
         others.data<int32_t>(), (1 - smoothing) * share, (1 - smoothing) * (1 - share),
         smoothing / static_cast<double>(classes), rows, classes, rows_of<float>(targets));
}

}  // namespace riffle
