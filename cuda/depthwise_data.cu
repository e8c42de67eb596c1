// Data gradient of the depthwise convolution, gathered: every element of dx is the sum of what the outputs that read it
// send back, in the order of the taps.
#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/depthwise.h"

namespace riffle {
namespace {

// Reads dy once and writes dx once; a pack of dy makes four of dx.
template <class T, int W>
__global__ void __launch_bounds__(kLayoutThreads, kDepthwiseBlocks)
    depthwise3x3_stride2_data_kernel(StoredPixels<T> dy, const T* __restrict__ w, DepthwiseShape shape, Strips strips,
                                     PixelPairs pairs, bool accumulate, PixelRows<T> dx) {
  const int channel = first_channel<W>();
  const int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y);
  if (channel >= shape.channels || index >= strips.count) return;
  const Strip strip = strip_of(strips, index, pairs.rows, 1);
  float filter[9][W];
  load_filter(w, shape.channels, channel, /*turned=*/false, filter);
  const StoredReader<T, W> reader(dy, channel, strip.image * shape.out_height * shape.out_width);
  const int n = pairs.first_column + strip.first_column;
  const int64_t image = strip.image * shape.height * shape.width;
  float above[2][W], here[2][W];
  load_two(reader, shape, pairs.first_row + strip.first_row - 1, n, above);
  for (int m = pairs.first_row + strip.first_row; m < pairs.first_row + strip.end_row; ++m) {
    load_two(reader, shape, m, n, here);
    GPU_UNROLL
    for (int corner = 0; corner < 4; ++corner) {
      const int a = corner / 2, b = corner % 2;
      const int row = 2 * m + a - shape.pad_top, column = 2 * n + b - shape.pad_left;
      float sum[W] = {};
      for_corner_taps(a, b, above, here, [&](int tap, const float(&g)[W]) {
        GPU_UNROLL
        for (int i = 0; i < W; ++i) sum[i] = fmaf(g[i], filter[tap][i], sum[i]);
      });
      if (row >= 0 && row < shape.height && column >= 0 && column < shape.width)
        finish(Finish<T>{nullptr, false, accumulate}, channel, sum,
               dx.at(image + int64_t{row} * shape.width + column, channel));
    }
    GPU_UNROLL
    for (int j = 0; j < 2; ++j) {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) above[j][i] = here[j][i];
    }
  }
}

// Any window; a thread gathers one element of dx at a time: the outputs whose window holds it.
template <class T>
__global__ void __launch_bounds__(kPlainThreads)
    depthwise_plain_data_kernel(PixelRows<const T> dy, const T* w, DepthwiseShape s, int kernel_h, int kernel_w,
                                int64_t images, bool accumulate, PixelRows<T> dx) {
  const int64_t elements = images * s.height * s.width * s.channels;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < elements;
       at += int64_t{gridDim.x} * blockDim.x) {
    const int channel = static_cast<int>(at % s.channels);
    const int64_t pixel = at / s.channels, image = pixel / (int64_t{s.height} * s.width);
    const int column = static_cast<int>(pixel % s.width), row = static_cast<int>(pixel / s.width % s.height);
    float sum[1] = {0};
    for (int tap = 0; tap < kernel_h * kernel_w; ++tap) {
      const int below = row + s.pad_top - tap / kernel_w, right = column + s.pad_left - tap % kernel_w;
      if (below < 0 || right < 0 || below % s.stride != 0 || right % s.stride != 0) continue;
      const int oh = below / s.stride, ow = right / s.stride;
      if (oh >= s.out_height || ow >= s.out_width) continue;
      const float gradient = to_float(*dy.at((image * s.out_height + oh) * s.out_width + ow, channel));
      sum[0] = fmaf(gradient, to_float(w[tap * s.channels + channel]), sum[0]);
    }
    finish(Finish<T>{nullptr, false, accumulate}, channel, sum, dx.at(pixel, channel));
  }
}

}  // namespace

void CudaBackend::depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                                          const Tensor& dx) {
  check_depthwise(dx, w, window, dy);
  check_no_overlap(dx, {&dy, &w}, "depthwise_backward_data");
  if (options_.cudnn_depthwise) return cudnn_depthwise_backward_data(dy, w, window, write, dx);
  const DepthwiseShape shape = depthwise_shape(dx.shape(), window, dy.shape());
  const ChannelLayout layout = depthwise_layout({&dy, &w, &dx}, kDepthwiseWidest);
  const bool accumulate = write == Write::kAccumulate;
  const int64_t threads = int64_t{properties_.multiprocessors} * kThreadsWanted;
  dispatch_dtype(dx.dtype(), [&](auto element) {
    using T = decltype(element);
    const StoredPixels<T> gradients{rows_of<const T>(dy)};
    if (!has_3x3_kernels(window)) {
      launch("depthwise_backward_data, plain", depthwise_plain_data_kernel<T>,
             plain_grid(dx, properties_.multiprocessors), dim3(kPlainThreads), 0, gradients.x, w.data<T>(), shape,
             window.kernel_h, window.kernel_w, dx.shape().n, accumulate, rows_of<T>(dx));
      return;
    }
    dispatch_walk<T>(layout.width, window.stride, [&](auto width, auto stride) {
      constexpr int kWidth = decltype(width)::value;
      if constexpr (decltype(stride)::value == 1) {
        const Strips strips = make_strips(dx.shape(), layout, kOutputColumns<1>, threads);
        launch("depthwise_backward_data", depthwise3x3_kernel<StoredPixels<T>, kWidth, 1>, strip_grid(layout, strips),
               layout.block, 0, gradients, w.data<T>(), turned_shape(shape), strips, /*turned=*/true,
               Finish<T>{nullptr, false, accumulate}, rows_of<T>(dx));
      } else {
        const PixelPairs pairs = pixel_pairs(shape);
        const Strips strips = make_strips({dx.shape().n, pairs.rows, pairs.columns, dx.channels()}, layout, 1, threads);
        launch("depthwise_backward_data", depthwise3x3_stride2_data_kernel<T, kWidth>, strip_grid(layout, strips),
               layout.block, 0, gradients, w.data<T>(), shape, strips, pairs, accumulate, rows_of<T>(dx));
      }
    });
  });
}

}  // namespace riffle
