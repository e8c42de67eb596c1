// Kernels as a project would write them, each with faults to plant: Fault 0 is the right version.
#pragma once

#include <cstdint>

#include "cuda/gpu.h"

namespace riffle {

// Groups = 2: y[2c+g] = x[g*C/2 + c] of halves, 8 in a vector. x, y: (pixels, 8*vectors).
// 1: one thread too many. 2: one vector is not written.
template <int Fault>
__global__ void shuffle_channels(const uint4* __restrict__ x, uint4* __restrict__ y, int pixels, int vectors) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (Fault == 1 ? i > pixels * vectors : i >= pixels * vectors) return;
  const int pixel = i / vectors, vector = i % vectors, half_channels = vectors * 4;
  const auto* row = reinterpret_cast<const unsigned short*>(x + static_cast<size_t>(pixel) * vectors);
  union {
    uint4 vector;
    unsigned short element[8];
  } result;
  GPU_UNROLL
  for (int k = 0; k < 4; ++k) {
    const int c = vector * 4 + k;
    result.element[2 * k] = row[c];
    result.element[2 * k + 1] = row[half_channels + c];
  }
  if (Fault == 2 && i == 77) return;
  y[i] = result.vector;
}

// sum and squares over rows of x (rows, C). Blocks of (32, 8): x channels, y slices of rows; grid (ceil(C/32), slices).
// 1: no barrier. 2: a barrier that half the warps reach. 3: shuffles with half a mask. 4: shuffles of the wrong width.
// 5: += where blocks meet. 6: one channel forgotten. 7: index beyond the array. 8: a part of the array not written.
// 9: some threads return before the barrier.
template <class T, int Fault>
__global__ void column_sums(const T* __restrict__ x, float* __restrict__ sum, float* __restrict__ squares, int rows,
                            int C) {
  __shared__ float partial[8][33], partial_squares[8][33];
  const int c = blockIdx.x * 32 + threadIdx.x;
  float a = 0, b = 0;
  for (int r = blockIdx.y * 8 + threadIdx.y; c < C && r < rows; r += 8 * gridDim.y) {
    const float value = static_cast<float>(x[static_cast<size_t>(r) * C + c]);
    a += value;
    b += value * value;
  }
  if (Fault != 8 || threadIdx.y != 3) {
    partial[threadIdx.y][threadIdx.x] = a;
    partial_squares[threadIdx.y][threadIdx.x] = b;
  }
  if (Fault == 9 && c >= C) return;
  if (Fault != 1 && (Fault != 2 || threadIdx.y < 4)) __syncthreads();
  // Eight lanes a channel, four channels a warp.
  const int thread = threadIdx.y * 32 + threadIdx.x, lane = thread % 32, column = thread / 32 * 4 + lane / 8;
  const int k = Fault == 7 ? lane & 15 : lane & 7;
  float u = partial[k][column], v = partial_squares[k][column];
  constexpr unsigned mask = Fault == 3 ? 0x0000ffffu : 0xffffffffu;
  constexpr int width = Fault == 4 ? 4 : 8;
  for (int d = 4; d != 0; d /= 2) {
    u += __shfl_down_sync(mask, u, d, width);
    v += __shfl_down_sync(mask, v, d, width);
  }
  const int channel = blockIdx.x * 32 + column;
  if (k != 0 || channel >= C) return;
  if (Fault == 5) {
    sum[channel] += u;
    squares[channel] += v;
  } else {
    atomicAdd(&sum[channel], u);
    if (Fault != 6 || channel != 5) atomicAdd(&squares[channel], v);
  }
}

// Depthwise 3x3, stride 1, padding 1. x, y (N,H,W,C), w (3,3,C). Blocks of (32, 8): channels, columns; three rows of
// input in dynamic shared memory (3,10,32).
// 1: no barrier after loading. 2: none before the next load. 3: a column too many. 4: the last row is not written.
template <class T, int Fault>
__global__ void depthwise_rows(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, int H, int W,
                               int C) {
  GPU_DYN_SHARED(T, tile);
  const int c = blockIdx.x * 32 + threadIdx.x, first_column = blockIdx.y * 8, n = blockIdx.z;
  const int column = first_column + threadIdx.y;
  float filter[9];
  for (int i = 0; i < 9; ++i) filter[i] = c < C ? static_cast<float>(w[i * C + c]) : 0.0f;
  const auto load = [&](int row, int slot) {
    for (int j = threadIdx.y; j < 10; j += 8) {
      const int from = first_column + j - 1;
      const bool inside = row >= 0 && row < H && from >= 0 && (Fault == 3 ? from <= W : from < W) && c < C;
      tile[(slot * 10 + j) * 32 + threadIdx.x] =
          inside ? x[((static_cast<size_t>(n) * H + row) * W + from) * C + c] : static_cast<T>(0.0f);
    }
  };
  load(-1, 0);
  load(0, 1);
  for (int row = 0; row < H; ++row) {
    load(row + 1, (row + 2) % 3);
    if (Fault != 1) __syncthreads();
    float sum = 0;
    for (int r = 0; r < 3; ++r)
      for (int s = 0; s < 3; ++s)
        sum += filter[r * 3 + s] * static_cast<float>(tile[((row + r) % 3 * 10 + threadIdx.y + s) * 32 + threadIdx.x]);
    if (column < W && c < C && !(Fault == 4 && row == H - 1))
      y[((static_cast<size_t>(n) * H + row) * W + column) * C + c] = static_cast<T>(sum);
    if (Fault != 2) __syncthreads();
  }
}

// x (rows, columns) -> y (columns, rows). Blocks of (32, 8).
// 1: no barrier. 2: two threads write one element.
template <class T, int Fault>
__global__ void transpose(const T* __restrict__ x, T* __restrict__ y, int rows, int columns) {
  __shared__ T tile[32][33];
  const int c = blockIdx.x * 32 + threadIdx.x, r = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8)
    if (c < columns && r + j < rows) tile[threadIdx.y + j][threadIdx.x] = x[static_cast<size_t>(r + j) * columns + c];
  if (Fault != 1) __syncthreads();
  const int to = blockIdx.y * 32 + threadIdx.x, from = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8)
    if (to < rows && from + j < columns)
      y[static_cast<size_t>(from + j) * rows + (Fault == 2 && to == 3 ? to + 1 : to)] =
          tile[threadIdx.x][threadIdx.y + j];
}

// y[lane] = lane ^ 1, for one warp.
// 1: half shuffles while half waits at a barrier. 2: half shuffles, half votes. 3: no __syncwarp.
// 4: overwrites what another lane reads.
template <int Fault>
__global__ void swap_neighbours(float* y) {
  __shared__ float values[32];
  const int lane = threadIdx.x;
  float value = static_cast<float>(lane);
  if (Fault == 1) {
    if (lane < 16) value = __shfl_sync(0xffffffffu, value, 0);
    __syncthreads();
  }
  if (Fault == 2)
    value = lane < 16 ? __shfl_sync(0xffffffffu, value, 0) : static_cast<float>(__ballot_sync(0xffffffffu, 1));
  values[lane] = value;
  if (Fault != 3) __syncwarp();
  y[lane] = values[lane ^ 1];
  if (Fault == 4 && lane == 31) values[0] = -1;
}

// y = sum of the numbers of all blocks, added up by the block that comes last.
// 1: no fence between writing a part and saying so.
template <int Fault>
__global__ void add_in_last_block(float* parts, unsigned* finished, float* y) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = static_cast<float>(blockIdx.x);
    if (Fault != 1) __threadfence();
    is_last = atomicAdd(finished, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last || threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *y = sum;
}

// y[i] = 255 - x[i].
// 1: one byte too many.
template <int Fault>
__global__ void invert_bytes(const uint8_t* x, uint8_t* y, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (Fault == 1 ? i <= count : i < count) y[i] = static_cast<uint8_t>(255 - x[i]);
}

// Needs more stack than a thread has.
[[maybe_unused]] static __global__ void deep_stack(float* y, int which) {
  volatile float values[20000];
  for (int i = 0; i < 20000; ++i) values[i] = static_cast<float>(i);
  y[0] = values[which];
}

}  // namespace riffle
