// Fill, copy with conversion, and uint8 pixels to network input.
#include <algorithm>
#include <type_traits>

#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/index_division.h"
#include "cuda/normalisation_values.h"
#include "cuda/pixel_rows.h"

namespace riffle {
namespace {

constexpr int64_t kWideRow = 512;

// A packed tensor with neighbouring pixels joined into rows of about kWideRow elements, where their number allows it:
// 29 channels allow loads of one element, 8 * 29 of eight.
Tensor joined_rows(const Tensor& x) {
  int64_t rows = x.pixels(), columns = x.channels();
  for (; rows % 2 == 0 && columns < kWideRow; rows /= 2) columns *= 2;
  return x.reshaped({1, 1, rows, columns});
}

// Writes size_of(T) bytes an element.
template <class T, int Width>
__global__ void fill_kernel(T value, int rows, int packs, PixelRows<T> y) {
  Pack<T, Width> pack;
  GPU_UNROLL
  for (int i = 0; i < Width; ++i) pack.element[i] = value;
  for_each_pack(rows, packs, [&](int row, int column) { store_pack(pack, y.at(row, column * Width)); });
}

// y = x or y += x. Reads and writes every element once, and where it adds also reads y.
template <class From, class To, int Width>
__global__ void copy_kernel(PixelRows<const From> x, bool accumulate, int rows, int packs, PixelRows<To> y) {
  for_each_pack(rows, packs, [&](int row, int column) {
    const auto from = load_pack<Width>(x.at(row, column * Width));
    To* const place = y.at(row, column * Width);
    Pack<To, Width> to{};
    if (accumulate) to = load_pack<Width>(place);
    GPU_UNROLL
    for (int i = 0; i < Width; ++i) {
      const float value = to_float(from.element[i]);
      to.element[i] = from_float<To>(accumulate ? to_float(to.element[i]) + value : value);
    }
    store_pack(to, place);
  });
}

// Which images are mirrored left to right. `flags` may be null: none.
struct Mirroring {
  const uint8_t* flags;
  IndexDivisor height;

  __device__ bool of_row(int row) const { return flags != nullptr && flags[height.quotient(row)] != 0; }
};

// A thread makes Width neighbouring elements of an image's row, which has `width` pixels of `channels`, from single bytes
// that its neighbours' loads brought into the cache: 1 byte read and size_of(T) written an element. y has one row a pixel;
// where Width is not 1 it is packed.
template <class T, int Width>
__global__ void normalize_kernel(PixelRows<const uint8_t> images, Mirroring mirroring, NormalisationValues table,
                                 int width, int channels, IndexDivisor by_channels, bool reverse, int rows, int packs,
                                 PixelRows<T> y) {
  __shared__ float shared[kMostImageChannels * 256];
  table.copy_to(shared, channels);
  for_each_pack(rows, packs, [&](int row, int pack) {
    const bool mirrored = mirroring.of_row(row);
    const int64_t first_pixel = static_cast<int64_t>(row) * width;
    int x = by_channels.quotient(pack * Width), c = by_channels.remainder(pack * Width, x);
    const uint8_t* const from = images.at(first_pixel, 0);
    T* const place = y.at(first_pixel + x, c);
    Pack<T, Width> to;
    GPU_UNROLL
    for (int i = 0; i < Width; ++i) {
      const int source = mirrored ? width - 1 - x : x;
      const uint8_t value = from[source * channels + (reverse ? channels - 1 - c : c)];
      to.element[i] = from_float<T>(shared[c * 256 + value]);
      if (++c == channels) {
        c = 0;
        ++x;
      }
    }
    store_pack(to, place);
  });
}

// `value` in T; integers must hold it exactly.
template <class T>
T element_of(double value) {
  if constexpr (std::is_integral_v<T>) {
    const T element = static_cast<T>(value);
    RIFFLE_CHECK(static_cast<double>(element) == value, "fill: ", DTypeOf<T>::value, " cannot hold ", value);
    return element;
  } else if constexpr (std::is_same_v<T, double>) {
    return value;
  } else {
    return from_float<T>(static_cast<float>(value));
  }
}

// dispatch_dtype, and the dtypes of other things than activations.
template <class Body>
void dispatch_any_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF64:
      return body(double{});
    case DType::kU8:
      return body(uint8_t{});
    case DType::kI32:
      return body(int32_t{});
    default:
      return dispatch_dtype(dtype, body);
  }
}

template <class Body>
void dispatch_conversion(DType from, DType to, const Body& body) {
  dispatch_dtype(from, [&](auto source) {
    dispatch_dtype(to, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      if constexpr (std::is_same_v<From, To> || std::is_same_v<From, float> || std::is_same_v<To, float>) {
        return body(source, target);
      } else {
        fail("copy: ", from, " does not convert to ", to);
      }
    });
  });
}

}  // namespace

void CudaBackend::fill(double value, const Tensor& y) {
  check_ours(y, "fill");
  const Tensor rows = y.packed() ? joined_rows(y) : y;
  dispatch_any_dtype(y.dtype(), [&](auto element) {
    using T = decltype(element);
    constexpr int kWidest = sizeof(T) == 2 ? 8 : 4;
    dispatch_width<T>(std::min(kWidest, vector_width(rows)), [&](auto width) {
      const int64_t packs = rows.channels() / width;
      const RowLaunch shape = row_launch(rows.pixels(), packs, properties_.multiprocessors);
      launch("fill", fill_kernel<T, width>, shape.grid, shape.block, 0, element_of<T>(value), rows.pixels(), packs,
             rows_of<T>(rows));
    });
  });
}

void CudaBackend::copy(const Tensor& x, Write write, const Tensor& y) {
  check_ours(x, "copy");
  check_ours(y, "copy");
  check_same_shape(x, y, "copy");
  check_no_overlap(y, {&x}, "copy");
  const bool accumulate = write == Write::kAccumulate, packed = x.packed() && y.packed();
  const bool of_activations = x.dtype() == DType::kF32 || x.dtype() == DType::kBF16 || x.dtype() == DType::kF16;
  if (x.dtype() == y.dtype() && !accumulate && (packed || !of_activations)) {
    copy_matrix(x.raw(), x.ld(), x, y.raw(), y.ld());
    return;
  }
  const Tensor from = packed ? joined_rows(x) : x, to = packed ? joined_rows(y) : y;
  dispatch_conversion(x.dtype(), y.dtype(), [&](auto source, auto target) {
    using From = decltype(source);
    using To = decltype(target);
    using Wider = std::conditional_t<(sizeof(From) > sizeof(To)), From, To>;
    dispatch_width<Wider>(common_vector_width({&from, &to}), [&](auto width) {
      const int64_t packs = from.channels() / width;
      const RowLaunch shape = row_launch(from.pixels(), packs, properties_.multiprocessors);
      launch("copy", copy_kernel<From, To, width>, shape.grid, shape.block, 0, rows_of<const From>(from), accumulate,
             from.pixels(), packs, rows_of<To>(to));
    });
  });
}

void CudaBackend::normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation,
                            const Tensor& y) {
  check_ours(images, "normalize");
  check_ours(y, "normalize");
  if (flips.defined()) check_ours(flips, "normalize");
  check_normalize(images, flips, normalisation, y);
  const Shape& shape = images.shape();
  RIFFLE_CHECK(shape.c <= kMostImageChannels, "normalize: images have ", shape.c, " channels; at most ",
               kMostImageChannels, " can be normalised on CUDA");
  const int64_t rows = shape.n * shape.h, columns = shape.w * shape.c;
  const int widest = y.packed() ? vector_width(y.reshaped({1, 1, rows, columns})) : 1;
  const Mirroring mirroring{flips.defined() ? flips.data<uint8_t>() : nullptr, IndexDivisor(shape.h)};
  const NormalisationValues table = normalisation_values(normalisation);
  dispatch_dtype(y.dtype(), [&](auto element) {
    using T = decltype(element);
    dispatch_width<T>(widest, [&](auto width) {
      const int64_t packs = columns / width;
      const RowLaunch launch_shape = row_launch(rows, packs, properties_.multiprocessors);
      launch("normalize", normalize_kernel<T, width>, launch_shape.grid, launch_shape.block, 0,
             rows_of<const uint8_t>(images), mirroring, table, shape.w, shape.c, IndexDivisor(shape.c),
             normalisation.reverse_channels, rows, packs, rows_of<T>(y));
    });
  });
}

}  // namespace riffle
