// Weight gradient of the depthwise convolution: dw[r,s,c] = sum over outputs of dy * x under tap (r, s). Threads sum in
// registers along strips, blocks in shared memory, then one kernel adds up the blocks. Order depends on shapes only.
#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/depthwise.h"

namespace riffle {
namespace {

constexpr int kSumLanes = 32, kSumRows = 16;  // block of the second stage

// partial (blocks, 3, 3, C). Reads x and dy once from DRAM; a thread's strips are all of the same channels.
template <class T, int W, int Stride>
__global__ void __launch_bounds__(kLayoutThreads, kDepthwiseBlocks)
    depthwise3x3_weights_kernel(StoredPixels<T> x, PixelRows<const T> dy, DepthwiseShape shape, Strips strips,
                                float* __restrict__ partial) {
  constexpr int kColumns = kOutputColumns<Stride>;
  const int channel = first_channel<W>();
  float sums[9 * W] = {};
  const int step = static_cast<int>(gridDim.x * blockDim.y);
  for (int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y);
       channel < shape.channels && index < strips.count; index += step) {
    const Strip strip = strip_of(strips, index, shape.out_height, kColumns);
    const StoredReader<T, W> reader(x, channel, strip.image * shape.height * shape.width);
    WindowWalk<StoredReader<T, W>, W, Stride, kColumns> walk(reader, shape, strip);
    const int64_t image = strip.image * shape.out_height * shape.out_width;
    for (int first = strip.first_row; first < strip.end_row; first += 3) {
      GPU_UNROLL
      for (int k = 0; k < 3; ++k) {
        const int row = first + k;
        if (row >= strip.end_row) break;
        Pack<T, W> gradients[kColumns];
        GPU_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          const int column = strip.first_column + j;
          gradients[j] = Pack<T, W>{};
          if (column < shape.out_width)
            gradients[j] = load_pack<W>(dy.at(image + int64_t{row} * shape.out_width + column, channel));
        }
        walk.step(k, row + 1 < strip.end_row);
        GPU_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          float g[W];
          widen(gradients[j], g);
          GPU_UNROLL
          for (int tap = 0; tap < 9; ++tap) {
            GPU_UNROLL
            for (int i = 0; i < W; ++i)
              sums[tap * W + i] = fmaf(walk.at(k, tap / 3, tap % 3, j, i), g[i], sums[tap * W + i]);
          }
        }
      }
    }
  }
  sum_over_rows(sums);
  if (threadIdx.y > 0 || channel >= shape.channels) return;
  GPU_UNROLL
  for (int tap = 0; tap < 9; ++tap) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i)
      partial[(blockIdx.x * int64_t{9} + tap) * shape.channels + channel + i] = sums[tap * W + i];
  }
}

// Any window: a block for each element of dw, partial (1, R, S, C).
template <class T>
__global__ void __launch_bounds__(kLayoutThreads, kDepthwiseBlocks)
    depthwise_plain_weights_kernel(PixelRows<const T> x, PixelRows<const T> dy, DepthwiseShape s, int kernel_w,
                                   int64_t outputs, float* partial) {
  const int channel = static_cast<int>(blockIdx.x) % s.channels, tap = static_cast<int>(blockIdx.x) / s.channels;
  float sum[1] = {0};
  for (int64_t pixel = threadIdx.y; pixel < outputs; pixel += blockDim.y) {
    const int64_t image = pixel / (int64_t{s.out_height} * s.out_width);
    const int column = static_cast<int>(pixel % s.out_width),
              row = static_cast<int>(pixel / s.out_width % s.out_height);
    const int ih = row * s.stride - s.pad_top + tap / kernel_w, iw = column * s.stride - s.pad_left + tap % kernel_w;
    if (ih < 0 || ih >= s.height || iw < 0 || iw >= s.width) continue;
    const float pixel_value = to_float(*x.at((image * s.height + ih) * s.width + iw, channel));
    sum[0] = fmaf(pixel_value, to_float(*dy.at(pixel, channel)), sum[0]);
  }
  sum_over_rows(sum);
  if (threadIdx.y == 0) partial[blockIdx.x] = sum[0];
}

// total[i] = or += sum over parts of partial[part][i], in order and in double.
__global__ void __launch_bounds__(kSumLanes* kSumRows)
    sum_parts_kernel(const float* __restrict__ partial, int64_t parts, int64_t size, bool accumulate, float* total) {
  __shared__ double shared[kSumRows][kSumLanes];
  const int64_t i = blockIdx.x * int64_t{kSumLanes} + threadIdx.x;
  double sum = 0;
  for (int64_t part = threadIdx.y; i < size && part < parts; part += kSumRows) sum += partial[part * size + i];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= size) return;
  for (int row = 1; row < kSumRows; ++row) sum += shared[row][threadIdx.x];
  total[i] = static_cast<float>(accumulate ? total[i] + sum : sum);
}

}  // namespace

void CudaBackend::depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                             const Tensor& dw) {
  check_depthwise(x, dw, window, dy);
  check_no_overlap(dw, {&x, &dy}, "depthwise_backward_weights");
  if (options_.cudnn_depthwise) return cudnn_depthwise_backward_weights(x, dy, window, write, dw);
  const DepthwiseShape shape = depthwise_shape(x.shape(), window, dy.shape());
  const int64_t size = dw.elements();
  int64_t parts = 1;
  Tensor partial;
  dispatch_dtype(x.dtype(), [&](auto element) {
    using T = decltype(element);
    if (!has_3x3_kernels(window)) {
      partial = scratch(size);
      launch("depthwise_backward_weights, plain", depthwise_plain_weights_kernel<T>, dim3(static_cast<unsigned>(size)),
             dim3(1, kLayoutThreads), 0, rows_of<const T>(x), rows_of<const T>(dy), shape, window.kernel_w, dy.pixels(),
             partial.data<float>());
      return;
    }
    const ChannelLayout layout = depthwise_layout({&x, &dy}, kDepthwiseWidest);
    dispatch_walk<T>(layout.width, window.stride, [&](auto width, auto stride) {
      constexpr int kWidth = decltype(width)::value, kStride = decltype(stride)::value;
      const Strips strips = make_strips(dy.shape(), layout, kOutputColumns<kStride>, kReductionBlocks * kLayoutThreads);
      parts = std::min(divide_up(strips.count, layout.block.y), divide_up(kReductionBlocks, layout.chunks));
      partial = scratch(parts * size);
      launch("depthwise_backward_weights", depthwise3x3_weights_kernel<T, kWidth, kStride>, layout.grid(parts),
             layout.block, 0, StoredPixels<T>{rows_of<const T>(x)}, rows_of<const T>(dy), shape, strips,
             partial.data<float>());
    });
  });
  sum_parts(partial.data<float>(), parts, write, dw);
}

void CudaBackend::sum_parts(const float* partial, int64_t parts, Write write, const Tensor& total) {
  const int64_t size = total.elements();
  launch("sum_parts", sum_parts_kernel, dim3(static_cast<unsigned>(divide_up(size, kSumLanes))),
         dim3(kSumLanes, kSumRows), 0, partial, parts, size, write == Write::kAccumulate, total.data<float>());
}

}  // namespace riffle
