// How kernels that do the same to every element walk matrices of pixels x channels. A thread moves one pack, which is
// neighbouring channels of one pixel. A block is as wide as a row has packs and as high as its threads allow, so that
// neighbouring threads touch neighbouring memory at any channel count (a row of 29 or 58 fills no warp), without a
// division.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <type_traits>

#include "core/check.h"
#include "cuda/device_types.h"

namespace riffle {

constexpr int kRowThreads = 256;
constexpr int kRowBlocksPerMultiprocessor = 8;  // 2048 threads, as many as one holds

struct RowLaunch {
  dim3 grid, block;
};

// Of a kernel that calls for_each_pack(rows, packs, ...).
inline RowLaunch row_launch(int64_t rows, int64_t packs, int multiprocessors) {
  const int64_t largest = std::numeric_limits<int>::max() / 2;  // so that a grid's stride beyond it is still an int
  RIFFLE_CHECK(rows <= largest && packs <= largest, rows, " pixels x ", packs, " packs of channels: at most ", largest,
               " of either");
  const int64_t width = std::min<int64_t>(packs, kRowThreads), height = kRowThreads / width;
  const int64_t blocks =
      std::min<int64_t>((rows + height - 1) / height, int64_t{multiprocessors} * kRowBlocksPerMultiprocessor);
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(width), static_cast<unsigned>(height))};
}

// A tensor as kernels see it.
template <class T>
struct PixelRows {
  T* data;
  int64_t ld;

  __device__ T* at(int64_t pixel, int channel) const { return data + pixel * ld + channel; }
};

// Checks the dtype.
template <class T>
PixelRows<T> rows_of(const Tensor& tensor) {
  return {tensor.data<std::remove_const_t<T>>(), tensor.ld()};
}

// The number of elements that suits all of `tensors`; see vector_width.
inline int common_vector_width(std::initializer_list<const Tensor*> tensors) {
  int width = 16;
  for (const Tensor* tensor : tensors) width = std::min(width, vector_width(*tensor));
  return width;
}

// Calls body(std::integral_constant<int, width>{}) for a power of two up to 16 bytes of T.
template <class T, class Body>
void dispatch_width(int width, const Body& body) {
  if constexpr (sizeof(T) == 2) {
    if (width == 8) return body(std::integral_constant<int, 8>{});
  }
  if (width == 4) return body(std::integral_constant<int, 4>{});
  if (width == 2) return body(std::integral_constant<int, 2>{});
  RIFFLE_CHECK(width == 1, "no kernel moves ", width, " elements of ", sizeof(T), " bytes at once");
  body(std::integral_constant<int, 1>{});
}

template <int Width, class T>
__device__ inline Pack<std::remove_const_t<T>, Width> load_pack(T* from) {
  return *reinterpret_cast<const Pack<std::remove_const_t<T>, Width>*>(from);
}

template <int Width, class T>
__device__ inline void store_pack(const Pack<T, Width>& pack, T* to) {
  *reinterpret_cast<Pack<T, Width>*>(to) = pack;
}

// body(row, pack) for this thread's share.
template <class Body>
__device__ inline void for_each_pack(int rows, int packs, const Body& body) {
  const int rows_of_grid = static_cast<int>(gridDim.x * blockDim.y);
  for (int row = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y); row < rows; row += rows_of_grid)
    for (int pack = static_cast<int>(threadIdx.x); pack < packs; pack += static_cast<int>(blockDim.x)) body(row, pack);
}

}  // namespace riffle
