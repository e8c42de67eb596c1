// ReLU, dropout, max-pooling, global average pooling. In training, batch norm's kernels take most of ReLU and the
// network's one max-pooling along; these are for the plain composition and for inference.
#include "core/contracts.h"
#include "cuda/channel_layout.h"
#include "cuda/cuda_backend.h"
#include "cuda/index_division.h"

namespace riffle {
namespace {

// Reads and writes every element once.
template <class T, int Width>
__global__ void relu_kernel(PixelRows<const T> x, int rows, int packs, PixelRows<T> y) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    auto values = load_pack<Width>(x.at(row, pack * Width));
    GPU_UNROLL
    for (int i = 0; i < Width; ++i)
      if (to_float(values.element[i]) < 0) values.element[i] = from_float<T>(0);
    store_pack(values, y.at(row, pack * Width));
  });
}

template <class T, int Width>
__global__ void relu_backward_kernel(PixelRows<const T> y, PixelRows<const T> dy, int rows, int packs,
                                     PixelRows<T> dx) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    const auto outputs = load_pack<Width>(y.at(row, pack * Width));
    auto gradients = load_pack<Width>(dy.at(row, pack * Width));
    GPU_UNROLL
    for (int i = 0; i < Width; ++i)
      if (!(to_float(outputs.element[i]) > 0)) gradients.element[i] = from_float<T>(0);
    store_pack(gradients, dx.at(row, pack * Width));
  });
}

// An element a thread: it is used once, on the pooled features (N,1,1,C). `scalars` may be null.
template <class T>
__global__ void dropout_kernel(PixelRows<const T> x, PhiloxKey key, float rate, float scale, const float* scalars,
                               int rows, int channels, PixelRows<T> y) {
  const auto step = static_cast<uint32_t>(scalars == nullptr ? 0.0f : scalars[kStep]);
  for_each_pack(rows, channels, [&](int row, int c) {
    const bool keeps = dropout_keeps(key, step, static_cast<int64_t>(row) * channels + c, rate);
    *y.at(row, c) = from_float<T>(keeps ? to_float(*x.at(row, c)) * scale : 0.0f);
  });
}

struct PoolGeometry {
  int height, width, out_height, out_width;
  int kernel_h, kernel_w, stride, pad_top, pad_left;
  PixelIndex inputs, outputs;
  IndexDivisor by_stride;
};

PoolGeometry pool_geometry(const Tensor& x, const Window& window, const Tensor& y) {
  const auto narrow = [](int64_t size) { return static_cast<int>(size); };  // row_launch checks their product
  return {narrow(x.shape().h),
          narrow(x.shape().w),
          narrow(y.shape().h),
          narrow(y.shape().w),
          narrow(window.kernel_h),
          narrow(window.kernel_w),
          narrow(window.stride),
          narrow(window.padding.top),
          narrow(window.padding.left),
          PixelIndex(x.shape().h, x.shape().w),
          PixelIndex(y.shape().h, y.shape().w),
          IndexDivisor(window.stride)};
}

// Some channels of one output pixel a thread. The windows overlap: a 3x3 window of stride 2 reads each element 2.25
// times, all but the first from the caches.
template <class T, int Width>
__global__ void max_pool_kernel(PixelRows<const T> x, PoolGeometry g, int rows, int packs, PixelRows<T> y,
                                PixelRows<uint8_t> winner) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    const int c = pack * Width;
    const PixelPosition out = g.outputs(row);
    const int top = out.row * g.stride - g.pad_top, left = out.column * g.stride - g.pad_left;
    const int r_begin = max(0, -top), r_end = min(g.kernel_h, g.height - top);
    const int s_begin = max(0, -left), s_end = min(g.kernel_w, g.width - left);
    const auto tap_at = [&](int r, int s) {
      return load_pack<Width>(x.at((static_cast<int64_t>(out.image) * g.height + top + r) * g.width + left + s, c));
    };
    Pack<T, Width> best = tap_at(r_begin, s_begin);  // contract: a window is larger than its padding
    Pack<uint8_t, Width> taps;
    GPU_UNROLL
    for (int i = 0; i < Width; ++i) taps.element[i] = static_cast<uint8_t>(r_begin * g.kernel_w + s_begin);
    for (int r = r_begin; r < r_end; ++r) {
      for (int s = s_begin; s < s_end; ++s) {
        const auto values = tap_at(r, s);
        GPU_UNROLL
        for (int i = 0; i < Width; ++i) {
          const float value = to_float(values.element[i]), largest = to_float(best.element[i]);
          // The first of equal values stays; NaN beats every number, and the first NaN stays.
          if (value <= largest || largest != largest) continue;
          best.element[i] = values.element[i];
          taps.element[i] = static_cast<uint8_t>(r * g.kernel_w + s);
        }
      }
    }
    store_pack(best, y.at(row, c));
    store_pack(taps, winner.at(row, c));
  });
}

// Some channels of one input pixel a thread: it gathers dy from the windows that it won, in their order.
template <class T, int Width>
__global__ void max_pool_backward_kernel(PixelRows<const T> dy, PixelRows<const uint8_t> winner, PoolGeometry g,
                                         int rows, int packs, PixelRows<T> dx) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    const int c = pack * Width;
    const PixelPosition in = g.inputs(row);
    const int h = in.row + g.pad_top, w = in.column + g.pad_left;  // from the padding's corner
    const int oh_begin = h < g.kernel_h ? 0 : g.by_stride.quotient(h - g.kernel_h) + 1;
    const int ow_begin = w < g.kernel_w ? 0 : g.by_stride.quotient(w - g.kernel_w) + 1;
    const int oh_end = min(g.out_height, g.by_stride.quotient(h) + 1);
    const int ow_end = min(g.out_width, g.by_stride.quotient(w) + 1);
    float sum[Width] = {};
    for (int oh = oh_begin; oh < oh_end; ++oh) {
      for (int ow = ow_begin; ow < ow_end; ++ow) {
        const int pixel = (in.image * g.out_height + oh) * g.out_width + ow;
        const int tap = (h - oh * g.stride) * g.kernel_w + w - ow * g.stride;
        const auto gradients = load_pack<Width>(dy.at(pixel, c));
        const auto taps = load_pack<Width>(winner.at(pixel, c));
        GPU_UNROLL
        for (int i = 0; i < Width; ++i)
          if (taps.element[i] == tap) sum[i] += to_float(gradients.element[i]);
      }
    }
    store_rounded(sum, dx.at(row, c));
  });
}

// A block takes 32 packs of an image's channels. Its rows of threads take turns at the pixels, then are added up in
// order: at batch 1 that is 8 times shorter than a thread for all pixels, at any batch it keeps the memory busy.
constexpr int kAveragePacks = 32, kAverageRows = 8;

template <class T, int Width>
__global__ void global_average_pool_kernel(PixelRows<const T> x, int area, int packs, PixelRows<T> y) {
  __shared__ float partial[kAverageRows][kAveragePacks * Width];
  const int image = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(threadIdx.y), pack = static_cast<int>(blockIdx.y) * kAveragePacks + thread;
  float sum[Width] = {};
  if (pack < packs) {
    for (int p = first; p < area; p += kAverageRows) {
      const auto values = load_pack<Width>(x.at(static_cast<int64_t>(image) * area + p, pack * Width));
      GPU_UNROLL
      for (int i = 0; i < Width; ++i) sum[i] += to_float(values.element[i]);
    }
  }
  GPU_UNROLL
  for (int i = 0; i < Width; ++i) partial[first][i * kAveragePacks + thread] = sum[i];
  __syncthreads();
  if (first != 0 || pack >= packs) return;
  GPU_UNROLL
  for (int i = 0; i < Width; ++i) {
    for (int row = 1; row < kAverageRows; ++row) sum[i] += partial[row][i * kAveragePacks + thread];
    sum[i] /= static_cast<float>(area);
  }
  store_rounded(sum, y.at(image, pack * Width));
}

template <class T, int Width>
__global__ void global_average_pool_backward_kernel(PixelRows<const T> dy, int area, int rows, int packs,
                                                    PixelRows<T> dx) {
  for_each_pack(rows, packs, [&](int row, int pack) {
    auto gradients = load_pack<Width>(dy.at(row / area, pack * Width));
    GPU_UNROLL
    for (int i = 0; i < Width; ++i)
      gradients.element[i] = from_float<T>(to_float(gradients.element[i]) / static_cast<float>(area));
    store_pack(gradients, dx.at(row, pack * Width));
  });
}

}  // namespace

void CudaBackend::relu(const Tensor& x, const Tensor& y) {
  check_same_shape(x, y, "relu");
  dispatch_pack(dtype(), common_vector_width({&x, &y}), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = x.channels() / width;
    const RowLaunch shape = row_launch(x.pixels(), packs, properties_.multiprocessors);
    launch("relu", relu_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const T>(x), x.pixels(), packs,
           rows_of<T>(y));
  });
}

void CudaBackend::relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) {
  check_same_shape(y, dy, "relu_backward");
  check_same_shape(y, dx, "relu_backward");
  dispatch_pack(dtype(), common_vector_width({&y, &dy, &dx}), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = y.channels() / width;
    const RowLaunch shape = row_launch(y.pixels(), packs, properties_.multiprocessors);
    launch("relu_backward", relu_backward_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const T>(y),
           rows_of<const T>(dy), y.pixels(), packs, rows_of<T>(dx));
  });
}

void CudaBackend::dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) {
  check_same_shape(x, y, "dropout");
  if (scalars.defined()) check_scalars(scalars, "dropout");
  RIFFLE_CHECK(rate >= 0 && rate < 1, "dropout rate ", rate, " is not in [0, 1)");
  dispatch_dtype(dtype(), [&](auto sample) {
    using T = decltype(sample);
    const RowLaunch shape = row_launch(x.pixels(), x.channels(), properties_.multiprocessors);
    launch("dropout", dropout_kernel<T>, shape.grid, shape.block, 0, rows_of<const T>(x), key, rate, 1 / (1 - rate),
           scalars.defined() ? scalars.data<float>() : nullptr, x.pixels(), x.channels(), rows_of<T>(y));
  });
}

void CudaBackend::max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) {
  check_max_pool(x, window, y, winner, "max_pool");
  dispatch_pack(dtype(), common_vector_width({&x, &y, &winner}), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = y.channels() / width;
    const RowLaunch shape = row_launch(y.pixels(), packs, properties_.multiprocessors);
    launch("max_pool", max_pool_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const T>(x),
           pool_geometry(x, window, y), y.pixels(), packs, rows_of<T>(y), rows_of<uint8_t>(winner));
  });
}

void CudaBackend::max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) {
  check_max_pool(dx, window, dy, winner, "max_pool_backward");
  dispatch_pack(dtype(), common_vector_width({&dy, &winner, &dx}), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = dx.channels() / width;
    const RowLaunch shape = row_launch(dx.pixels(), packs, properties_.multiprocessors);
    launch("max_pool_backward", max_pool_backward_kernel<T, width>, shape.grid, shape.block, 0, rows_of<const T>(dy),
           rows_of<const uint8_t>(winner), pool_geometry(dx, window, dy), dx.pixels(), packs, rows_of<T>(dx));
  });
}

void CudaBackend::global_average_pool(const Tensor& x, const Tensor& y) {
  const Shape expected{x.shape().n, 1, 1, x.channels()};
  RIFFLE_CHECK(y.shape() == expected, "global_average_pool: expected ", expected, ", got ", y.shape());
  check_no_overlap(y, {&x}, "global_average_pool");
  dispatch_pack(dtype(), common_vector_width({&x, &y}), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = x.channels() / width, tiles = (packs + kAveragePacks - 1) / kAveragePacks;
    launch("global_average_pool", global_average_pool_kernel<T, width>,
           dim3(static_cast<unsigned>(x.shape().n), static_cast<unsigned>(tiles)), dim3(kAveragePacks, kAverageRows), 0,
           rows_of<const T>(x), x.shape().h * x.shape().w, packs, rows_of<T>(y));
  });
}

void CudaBackend::global_average_pool_backward(const Tensor& dy, const Tensor& dx) {
  const Shape expected{dx.shape().n, 1, 1, dx.channels()};
  RIFFLE_CHECK(dy.shape() == expected, "global_average_pool_backward: expected ", expected, ", got ", dy.shape());
  check_no_overlap(dx, {&dy}, "global_average_pool_backward");
  dispatch_pack(dtype(), common_vector_width({&dy, &dx}), [&](auto sample, auto width) {
    using T = decltype(sample);
    const int64_t packs = dx.channels() / width;
    const RowLaunch shape = row_launch(dx.pixels(), packs, properties_.multiprocessors);
    launch("global_average_pool_backward", global_average_pool_backward_kernel<T, width>, shape.grid, shape.block, 0,
           rows_of<const T>(dy), dx.shape().h * dx.shape().w, dx.pixels(), packs, rows_of<T>(dx));
  });
}

}  // namespace riffle
