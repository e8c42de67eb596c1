// Channel shuffle, and the same fused with the concatenation before or the split after it. They read and write every
// element once, 2 * size_of(T) bytes an element, and compute nothing: what matters is the width of loads and stores.
#include "core/kernels/channel_shuffle.h"

#include "core/contracts.h"
#include "cuda/channel_layout.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

// The plain form, an element a thread, for any number of groups.
template <class T>
__global__ void channel_shuffle_kernel(PixelRows<const T> x, ChannelShuffle map, int rows, PixelRows<T> y) {
  for_each_pack(rows, static_cast<int>(map.channels),
                [&](int row, int c) { *y.at(row, c) = *x.at(row, static_cast<int>(map.source(c))); });
}

// A thread writes one pack of y, so that stores are as wide as they can be; it reads half a pack of each input, and
// neighbouring threads read neighbouring halves. Width 1 is for a y whose rows do not begin at even elements.
template <class T, int Width>
__global__ void interleave_kernel(PixelRows<const T> a, PixelRows<const T> b, int rows, int packs, PixelRows<T> y) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    if constexpr (Width == 1) {
      *y.at(row, pack) = *(pack % 2 == 0 ? a : b).at(row, pack / 2);
    } else {
      constexpr int kHalf = Width / 2;
      const auto even = load_pack<kHalf>(a.at(row, pack * kHalf)), odd = load_pack<kHalf>(b.at(row, pack * kHalf));
      Pack<T, Width> both;
      GPU_UNROLL
      for (int i = 0; i < kHalf; ++i) {
        both.element[2 * i] = even.element[i];
        both.element[2 * i + 1] = odd.element[i];
      }
      store_pack(both, y.at(row, pack * Width));
    }
  });
}

// The mirror image.
template <class T, int Width>
__global__ void deinterleave_kernel(PixelRows<const T> x, int rows, int packs, PixelRows<T> a, PixelRows<T> b) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    if constexpr (Width == 1) {
      *(pack % 2 == 0 ? a : b).at(row, pack / 2) = *x.at(row, pack);
    } else {
      constexpr int kHalf = Width / 2;
      const auto both = load_pack<Width>(x.at(row, pack * Width));
      Pack<T, kHalf> even, odd;
      GPU_UNROLL
      for (int i = 0; i < kHalf; ++i) {
        even.element[i] = both.element[2 * i];
        odd.element[i] = both.element[2 * i + 1];
      }
      store_pack(even, a.at(row, pack * kHalf));
      store_pack(odd, b.at(row, pack * kHalf));
    }
  });
}

// Elements of `whole` that a thread moves: half as many of either half.
int pair_width(const Tensor& a, const Tensor& b, const Tensor& whole) {
  return std::min(vector_width(whole), 2 * common_vector_width({&a, &b}));
}

}  // namespace

void CudaBackend::channel_shuffle(const Tensor& x, int64_t groups, const Tensor& y) {
  check_same_shape(x, y, "channel_shuffle");
  check_no_overlap(y, {&x}, "channel_shuffle");
  const int64_t channels = x.channels(), half = channels / 2;
  RIFFLE_CHECK(groups > 0 && channels % groups == 0, "channel_shuffle: ", channels, " channels cannot be split into ",
               groups, " groups");
  if (groups == 2) return interleave(x.channel_slice(0, half), x.channel_slice(half, half), y);
  if (2 * groups == channels) return deinterleave(x, y.channel_slice(0, half), y.channel_slice(half, half));
  dispatch_dtype(dtype(), [&](auto sample) {
    using T = decltype(sample);
    const RowLaunch shape = row_launch(x.pixels(), channels, properties_.multiprocessors);
    launch("channel_shuffle", channel_shuffle_kernel<T>, shape.grid, shape.block, 0, rows_of<const T>(x),
           ChannelShuffle{channels, groups}, x.pixels(), rows_of<T>(y));
  });
}

void CudaBackend::interleave(const Tensor& a, const Tensor& b, const Tensor& y) {
  check_halves(a, b, y, "interleave");
  check_no_overlap(y, {&a, &b}, "interleave");
  dispatch_pack(dtype(), pair_width(a, b, y), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = y.channels() / width;
    const RowLaunch shape = row_launch(y.pixels(), packs, properties_.multiprocessors);
    launch("interleave", interleave_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const T>(a),
           rows_of<const T>(b), y.pixels(), packs, rows_of<T>(y));
  });
}

void CudaBackend::deinterleave(const Tensor& x, const Tensor& a, const Tensor& b) {
  check_halves(a, b, x, "deinterleave");
  check_no_overlap(x, {&a, &b}, "deinterleave");
  check_no_overlap(a, {&b}, "deinterleave");
  dispatch_pack(dtype(), pair_width(a, b, x), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = x.channels() / width;
    const RowLaunch shape = row_launch(x.pixels(), packs, properties_.multiprocessors);
    launch("deinterleave", deinterleave_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const T>(x), x.pixels(),
           packs, rows_of<T>(a), rows_of<T>(b));
  });
}

}  // namespace riffle
