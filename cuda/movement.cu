// Fill, copy with conversion, and uint8 pixels to network input.
#include <algorithm>
#include <type_traits>

#include "core/contracts.h"
#include "cuda/cuda_backend.h"
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

constexpr int kMostImageChannels = 4;

// What each of 256 values becomes, for every channel of the output. Computed on the host in double, so that CPU and GPU
// give the same bits; it travels as a kernel argument, so that a captured launch keeps it.
struct NormalisationTable {
  float value[kMostImageChannels * 256];
};

NormalisationTable make_table(const Normalisation& normalisation) {
  NormalisationTable table{};
  for (size_t c = 0; c < normalisation.mean.size(); ++c)
    for (size_t v = 0; v < 256; ++v)
      table.value[c * 256 + v] = static_cast<float>(
          (static_cast<double>(v) * normalisation.scale - normalisation.mean[c]) / normalisation.std[c]);
  return table;
}

// A thread makes Width neighbouring elements of a row of the output, from single bytes that its neighbours' loads
// brought into the cache: 1 byte read and size_of(T) written an element. Rows hold whole pixels of `channels`.
template <class T, int Width>
__global__ void normalize_kernel(PixelRows<const uint8_t> images, NormalisationTable table, int channels, bool reverse,
                                 int rows, int packs, PixelRows<T> y) {
  __shared__ float shared[kMostImageChannels * 256];
  const int threads = static_cast<int>(blockDim.x * blockDim.y);
  for (int i = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x); i < channels * 256; i += threads)
    shared[i] = table.value[i];
  __syncthreads();
  for_each_pack(rows, packs, [&](int row, int pack) {
    Pack<T, Width> to;
    int c = pack * Width % channels;
    GPU_UNROLL
    for (int i = 0; i < Width; ++i) {
      const int column = pack * Width + i;
      const int source = reverse ? column - c + channels - 1 - c : column;
      to.element[i] = from_float<T>(shared[c * 256 + *images.at(row, source)]);
      c = c + 1 == channels ? 0 : c + 1;
    }
    store_pack(to, y.at(row, pack * Width));
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

void CudaBackend::normalize(const Tensor& images, const Normalisation& normalisation, const Tensor& y) {
  check_ours(images, "normalize");
  check_ours(y, "normalize");
  check_same_shape(images, y, "normalize");
  const int64_t channels = images.channels();
  RIFFLE_CHECK(static_cast<int64_t>(normalisation.mean.size()) == channels &&
                   static_cast<int64_t>(normalisation.std.size()) == channels,
               "images have ", channels, " channels, the normalisation ", normalisation.mean.size(), " means and ",
               normalisation.std.size(), " deviations");
  RIFFLE_CHECK(channels <= kMostImageChannels, "normalize: images have ", channels, " channels; at most ",
               kMostImageChannels, " can be normalised on CUDA");
  RIFFLE_CHECK(images.packed(), "images must be packed");
  const Tensor from = y.packed() ? joined_rows(images) : images, to = y.packed() ? joined_rows(y) : y;
  const NormalisationTable table = make_table(normalisation);
  dispatch_dtype(y.dtype(), [&](auto element) {
    using T = decltype(element);
    dispatch_width<T>(vector_width(to), [&](auto width) {
      const int64_t packs = to.channels() / width;
      const RowLaunch shape = row_launch(to.pixels(), packs, properties_.multiprocessors);
      launch("normalize", normalize_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const uint8_t>(from), table,
             channels, normalisation.reverse_channels, to.pixels(), packs, rows_of<T>(to));
    });
  });
}

}  // namespace riffle
