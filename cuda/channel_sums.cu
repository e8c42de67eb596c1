// Sums over pixels, the gradient of a bias, and its forward pass. Only layers without batch norm have a bias to learn:
// of ShuffleNetV2 the classifier, with a row per image. So the plain form: a lane per channel.
#include "core/contracts.h"
#include "cuda/channel_layout.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

constexpr int kLanes = 32, kRows = 8;        // of a block
constexpr int64_t kMostParts = 256;          // each summed by one row of blocks
constexpr int64_t kRowsOfPart = 16 * kRows;  // at least: a part's sum costs a write and a read

// part (parts, C): part[b][c] = sum over the pixels of part b, in an order that depends on the shape only.
template <class T>
__global__ void sum_parts_kernel(PixelRows<const T> x, int64_t pixels, int64_t pixels_each, int channels, float* part) {
  __shared__ float shared[kRows][kLanes];
  const int c = static_cast<int>(blockIdx.y * kLanes + threadIdx.x);
  const int64_t begin = blockIdx.x * pixels_each;
  const int64_t end = begin + pixels_each < pixels ? begin + pixels_each : pixels;
  float sum = 0;
  if (c < channels)
    for (int64_t pixel = begin + threadIdx.y; pixel < end; pixel += kRows) sum += to_float(*x.at(pixel, c));
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || c >= channels) return;
  for (int row = 1; row < kRows; ++row) sum += shared[row][threadIdx.x];
  part[static_cast<int64_t>(blockIdx.x) * channels + c] = sum;
}

__global__ void add_parts_kernel(const float* part, int parts, int channels, bool accumulate, float* sums) {
  const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= channels) return;
  double sum = accumulate ? sums[c] : 0.0;
  for (int b = 0; b < parts; ++b) sum += part[static_cast<int64_t>(b) * channels + c];
  sums[c] = static_cast<float>(sum);
}

template <class T>
__global__ void add_bias_kernel(PixelRows<T> y, const T* bias, int pixels, int channels, bool relu) {
  for_each_pack(pixels, channels, [&](int pixel, int c) {
    const float value = to_float(*y.at(pixel, c)) + to_float(bias[c]);
    *y.at(pixel, c) = from_float<T>(relu && value < 0 ? 0.0f : value);  // NaN stays
  });
}

}  // namespace

void CudaBackend::channel_sums(const Tensor& x, Write write, const Tensor& sums) {
  check_vectors({&sums}, x.channels(), "channel_sums");
  check_no_overlap(sums, {&x}, "channel_sums");
  RIFFLE_CHECK(x.dtype() == dtype(), "channel_sums: x must be ", dtype(), ", got ", x.dtype());
  const int64_t pixels = x.pixels(), channels = x.channels();
  const int64_t pixels_each = std::max(kRowsOfPart, divide_up(pixels, kMostParts));
  const int64_t parts = divide_up(pixels, pixels_each);
  const Tensor partial = scratch(parts * channels);
  const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(divide_up(channels, kLanes)));
  dispatch_dtype(dtype(), [&](auto zero) {
    using T = decltype(zero);
    launch("sum_parts", sum_parts_kernel<T>, grid, dim3(kLanes, kRows), 0, rows_of<const T>(x), pixels, pixels_each,
           channels, partial.data<float>());
  });
  const int64_t blocks = divide_up(channels, kRowThreads);
  launch("add_parts", add_parts_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kRowThreads), 0,
         partial.data<float>(), parts, channels, write == Write::kAccumulate, sums.data<float>());
}

void CudaBackend::add_bias(const Tensor& bias, bool relu, const Tensor& y) {
  const RowLaunch shape = row_launch(y.pixels(), y.channels(), properties_.multiprocessors);
  dispatch_dtype(dtype(), [&](auto zero) {
    using T = decltype(zero);
    launch("add_bias", add_bias_kernel<T>, shape.grid, shape.block, 0, rows_of<T>(y), bias.data<T>(), y.pixels(),
           y.channels(), relu);
  });
}

}  // namespace riffle
