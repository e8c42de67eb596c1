// Depthwise convolution. Nine multiplications an element leave memory as the only limit. Windows other than 3x3, or of
// larger strides, take a plain kernel, right and slow (ShuffleNetV2 has none).
#include "cuda/depthwise.h"

#include "core/contracts.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

// Any window; a thread makes one output at a time.
template <class T>
__global__ void __launch_bounds__(kPlainThreads)
    depthwise_plain_kernel(PixelRows<const T> x, const T* w, DepthwiseShape s, int kernel_h, int kernel_w,
                           int64_t images, Finish<T> how, PixelRows<T> y) {
  const int64_t elements = images * s.out_height * s.out_width * s.channels;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < elements;
       at += int64_t{gridDim.x} * blockDim.x) {
    const int channel = static_cast<int>(at % s.channels);
    const int64_t pixel = at / s.channels, image = pixel / (int64_t{s.out_height} * s.out_width);
    const int column = static_cast<int>(pixel % s.out_width),
              row = static_cast<int>(pixel / s.out_width % s.out_height);
    float sum[1] = {0};
    for (int tap = 0; tap < kernel_h * kernel_w; ++tap) {
      const int ih = row * s.stride - s.pad_top + tap / kernel_w, iw = column * s.stride - s.pad_left + tap % kernel_w;
      if (ih < 0 || ih >= s.height || iw < 0 || iw >= s.width) continue;
      const float pixel_value = to_float(*x.at((image * s.height + ih) * s.width + iw, channel));
      sum[0] = fmaf(pixel_value, to_float(w[tap * s.channels + channel]), sum[0]);
    }
    finish(how, channel, sum, y.at(pixel, channel));
  }
}

}  // namespace

void CudaBackend::depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                            const Tensor& y) {
  check_depthwise(x, w, window, y);
  check_no_overlap(y, {&x, &w, &epilogue.bias}, "depthwise");
  check_epilogue(epilogue, x.channels(), "depthwise");
  if (options_.cudnn_depthwise) return cudnn_depthwise(x, w, window, epilogue, y);
  const DepthwiseShape shape = depthwise_shape(x.shape(), window, y.shape());
  const ChannelLayout layout = depthwise_layout({&x, &w, &y}, kDepthwiseWidest);
  dispatch_dtype(x.dtype(), [&](auto element) {
    using T = decltype(element);
    const T* bias = epilogue.bias.defined() ? epilogue.bias.data<T>() : nullptr;
    const Finish<T> how{bias, epilogue.relu, false};
    if (!has_3x3_kernels(window)) {
      launch("depthwise, plain", depthwise_plain_kernel<T>, plain_grid(y, properties_.multiprocessors),
             dim3(kPlainThreads), 0, rows_of<const T>(x), w.data<T>(), shape, window.kernel_h, window.kernel_w,
             x.shape().n, how, rows_of<T>(y));
      return;
    }
    dispatch_walk<T>(layout.width, window.stride, [&](auto width, auto stride) {
      constexpr int kWidth = decltype(width)::value, kStride = decltype(stride)::value;
      const Strips strips = make_strips(y.shape(), layout, kOutputColumns<kStride>,
                                        int64_t{properties_.multiprocessors} * kThreadsWanted);
      launch("depthwise", depthwise3x3_kernel<StoredPixels<T>, kWidth, kStride>, strip_grid(layout, strips),
             layout.block, 0, StoredPixels<T>{rows_of<const T>(x)}, w.data<T>(), shape, strips, /*turned=*/false, how,
             rows_of<T>(y));
    });
  });
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

}  // namespace riffle
