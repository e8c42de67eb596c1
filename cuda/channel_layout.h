// How kernels that work along channels spread (P,C) matrices over threads. A block is `lanes` packs of channels wide
// and several rows deep: neighbouring threads touch neighbouring memory, and a thread keeps its channels, so that what
// belongs to a channel stays in registers.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <type_traits>

#include "core/check.h"
#include "core/divide_up.h"
#include "cuda/device_types.h"
#include "cuda/pixel_rows.h"

namespace riffle {

constexpr int kLayoutThreads = 256;  // at most, in a block
constexpr int kMostLanes = 64;
// What reductions aim at: two blocks for each multiprocessor of an H100. A constant, so that the order of a sum depends
// on shapes only.
constexpr int64_t kReductionBlocks = 264;

// Block (lanes, rows), grid (as many as there is work, chunks): chunks of lanes side by side cover the channels.
struct ChannelLayout {
  int width;         // channels of a thread: elements of one load or store
  int64_t fold;      // consecutive pixels read as one row
  int64_t rows;      // P / fold
  int64_t channels;  // fold * C
  dim3 block;
  unsigned chunks;

  dim3 grid(int64_t blocks) const { return {static_cast<unsigned>(blocks), chunks, 1}; }
};

inline ChannelLayout make_layout(int width, int64_t fold, int64_t rows, int64_t channels) {
  const int64_t packs = channels / width;
  const int64_t chunks = divide_up(packs, kMostLanes);
  const int64_t lanes = divide_up(packs, chunks);
  const dim3 block(static_cast<unsigned>(lanes), static_cast<unsigned>(kLayoutThreads / lanes));
  return {width, fold, rows, channels, block, static_cast<unsigned>(chunks)};
}

// For matrices of one shape. Where all are packed, 2, 4 or 8 pixels may make one row: 58 channels of bf16 allow loads
// of 4 bytes, 4 * 58 allow 16. Kernels then find the vectors of channel c at c % C.
inline ChannelLayout layout_of(std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  int width = common_vector_width(tensors);
  int64_t fold = 1;
  const bool packed = std::all_of(tensors.begin(), tensors.end(), [](const Tensor* t) { return t->packed(); });
  for (int64_t candidate : {2, 4, 8}) {
    if (!packed || first.pixels() % candidate != 0) break;
    const Shape folded{1, 1, first.pixels() / candidate, candidate * first.channels()};
    int folded_width = 16;
    for (const Tensor* tensor : tensors) folded_width = std::min(folded_width, vector_width(tensor->reshaped(folded)));
    if (folded_width <= width) continue;
    width = folded_width;
    fold = candidate;
  }
  return make_layout(width, fold, first.pixels() / fold, fold * first.channels());
}

// Calls body(T{}, integral_constant<int, W>{}) with the element type and the width.
template <class Body>
void dispatch_pack(DType dtype, int width, const Body& body) {
  dispatch_dtype(dtype, [&](auto element) {
    dispatch_width<decltype(element)>(width, [&](auto constant) { body(element, constant); });
  });
}

// A tensor whose rows are `fold` pixels.
template <class T>
PixelRows<T> folded_rows(const Tensor& tensor, int64_t fold) {
  PixelRows<T> rows = rows_of<T>(tensor);
  rows.ld *= fold;
  return rows;
}

template <class T, int W>
__device__ inline void widen(const Pack<T, W>& pack, float (&to)[W]) {
  GPU_UNROLL
  for (int i = 0; i < W; ++i) to[i] = to_float(pack.element[i]);
}

template <class T, int W>
__device__ inline void store_rounded(const float (&from)[W], T* to) {
  Pack<T, W> pack;
  GPU_UNROLL
  for (int i = 0; i < W; ++i) pack.element[i] = from_float<T>(from[i]);
  store_pack<W>(pack, to);
}

constexpr int kRowsInFlight = 4;       // of a thread: up to 64 bytes of each operand
constexpr int kElementwiseBlocks = 8;  // for each multiprocessor

// Rows in pieces, one for each row of blocks; as many as kReductionBlocks and the rows allow.
struct RowParts {
  int64_t rows_each, count;
};

inline RowParts row_parts(int64_t rows, int block_rows) {
  const int64_t wanted = std::min(kReductionBlocks, divide_up(rows, int64_t{kRowsInFlight} * block_rows));
  const int64_t rows_each = divide_up(rows, wanted);
  return {rows_each, divide_up(rows, rows_each)};
}

// Blocks of a kernel that only walks over rows.
inline int64_t elementwise_blocks(const ChannelLayout& layout, int multiprocessors) {
  return std::min<int64_t>(divide_up(layout.rows, int64_t{kRowsInFlight} * layout.block.y),
                           kElementwiseBlocks * multiprocessors);
}

// The first channel of this thread.
template <int W>
__device__ inline int first_channel() {
  return static_cast<int>((blockIdx.y * blockDim.x + threadIdx.x) * W);
}

// Calls body(row, integral_constant<int, count>{}) for the rows that belong to this thread when a row of blocks takes
// `rows_each` neighbouring rows: kRowsInFlight at a time, blockDim.y apart, and then one by one.
template <class Body>
__device__ inline void for_rows_of_part(int64_t rows, int64_t rows_each, const Body& body) {
  const int64_t begin = blockIdx.x * rows_each;
  const int64_t end = begin + rows_each < rows ? begin + rows_each : rows;
  const int64_t step = blockDim.y;
  int64_t row = begin + threadIdx.y;
  for (; row + (kRowsInFlight - 1) * step < end; row += kRowsInFlight * step)
    body(row, std::integral_constant<int, kRowsInFlight>{});
  for (; row < end; row += step) body(row, std::integral_constant<int, 1>{});
}

// Adds up `value` over the rows of a block, in an order that depends on the block's shape only; row 0 has the sums.
// All threads of the block take part.
template <int Count>
__device__ inline void sum_over_rows(float (&value)[Count]) {
  __shared__ float shared[Count][kLayoutThreads / 2];
  const int rows = static_cast<int>(blockDim.y), row = static_cast<int>(threadIdx.y);
  const int thread = row * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  int half = 1;  // the largest power of two below `rows`
  while (2 * half < rows) half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (row >= half && row < 2 * half) {
      GPU_UNROLL
      for (int i = 0; i < Count; ++i) shared[i][thread - half * static_cast<int>(blockDim.x)] = value[i];
    }
    __syncthreads();
    if (row < half && row + half < rows) {
      GPU_UNROLL
      for (int i = 0; i < Count; ++i) value[i] += shared[i][thread];
    }
  }
}

}  // namespace riffle
