// A depthwise convolution together with the norms before and after it. Forward: x is normalised as it is read.
// Backward: one pass reads x, y and dy and writes dx, and sums dw and what the norm before needs on the way; each
// pixel's gradients all come from the same nine gradients of outputs.
#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/depthwise.h"

namespace riffle {
namespace {

// Channels of a thread: 9 filters, 9 gradients and 11 sums of each stay in registers.
constexpr int kBackwardWidest = 2;
// Pixels of dx side by side in a thread; at stride 2, pairs of them. Two would spill.
constexpr int kBackwardColumns = 1;

template <class T>
struct BackwardArguments {
  PixelRows<const T> x;
  bool normed, relu, accumulate;  // accumulate: into dx
  NormVectors norm;               // before; read if `normed`
  const T* w;
  CentredSumPixels<T> gradient;  // of y
  DepthwiseShape shape;
  PixelRows<T> dx;
};

// The gradients of one pixel after another, for W channels.
template <class T, int W>
class PixelGradients {
 public:
  float sums[11 * W] = {};  // dw (9), masked dx, masked dx * (x - mean)

  __device__ PixelGradients(const BackwardArguments<T>& arguments, int channel)
      : arguments_(arguments), channel_(channel) {
    load_filter(arguments.w, arguments.shape.channels, channel, /*turned=*/false, filter_);
    if (arguments.normed) norms_ = channel_norms<W>(arguments.norm, channel, arguments.shape.channels);
  }

  // To the image whose first pixel is `image`; the pixels of load() and end() are its own.
  __device__ void move_to(int64_t image) {
    x_image_ = arguments_.x.at(image, channel_);
    dx_image_ = arguments_.dx.at(image, channel_);
  }
  __device__ Pack<T, W> load(int pixel) const {
    return load_pack<W>(x_image_ + pixel * static_cast<int>(arguments_.x.ld));
  }
  __device__ void begin(const Pack<T, W>& x) {
    x_ = x;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      dx_[i] = 0;
      z_[i] = to_float(x.element[i]);
      if (!arguments_.normed) continue;
      z_[i] = norms_.normalised(i, norms_.deviation(i, z_[i]));
      z_[i] = arguments_.relu && z_[i] < 0 ? 0.0f : z_[i];
    }
  }
  // `gradient` of the output that reads this pixel through `tap`.
  __device__ void add(int tap, const float (&gradient)[W]) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      dx_[i] = fmaf(gradient[i], filter_[tap][i], dx_[i]);
      sums[tap * W + i] = fmaf(z_[i], gradient[i], sums[tap * W + i]);
    }
  }
  __device__ void end(int pixel) {
    T* to = dx_image_ + pixel * static_cast<int>(arguments_.dx.ld);
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      const float stored = to_float(from_float<T>(dx_[i]));
      const float g = !arguments_.relu || z_[i] > 0 ? stored : 0.0f;
      sums[9 * W + i] += g;
      sums[10 * W + i] = fmaf(g, norms_.deviation(i, to_float(x_.element[i])), sums[10 * W + i]);
    }
    finish(Finish<T>{nullptr, false, arguments_.accumulate}, channel_, dx_, to);
  }

 private:
  const BackwardArguments<T>& arguments_;
  int channel_;
  float filter_[9][W];
  ChannelNorms<W> norms_{};
  const T* x_image_ = nullptr;
  T* dx_image_ = nullptr;
  Pack<T, W> x_{};
  float z_[W] = {}, dx_[W] = {};
};

// Stride 1: pixel (h, w) sends to outputs (h + pad - r, w + pad - s), a window of the turned convolution.
template <class T, int W>
__device__ inline void walk_strip(const DepthwiseShape& shape, const CentredSumReader<T, W>& reader, const Strip& strip,
                                  PixelGradients<T, W>& pixels, std::integral_constant<int, 1>) {
  const DepthwiseShape turned = turned_shape(shape);
  WindowWalk<CentredSumReader<T, W>, W, 1, kBackwardColumns> walk(reader, turned, strip);
  Pack<T, W> x[kBackwardColumns] = {}, next_x[kBackwardColumns] = {};  // loaded a row ahead, as the gradients are
  const auto load_row = [&](int row) {
    GPU_UNROLL
    for (int j = 0; j < kBackwardColumns; ++j)
      if (strip.first_column + j < shape.width) next_x[j] = pixels.load(row * shape.width + strip.first_column + j);
  };
  load_row(strip.first_row);
  for (int first = strip.first_row; first < strip.end_row; first += 3) {
    GPU_UNROLL
    for (int k = 0; k < 3; ++k) {
      const int row = first + k;
      if (row >= strip.end_row) break;
      const int pixel = row * shape.width + strip.first_column;
      GPU_UNROLL
      for (int j = 0; j < kBackwardColumns; ++j) x[j] = next_x[j];
      if (row + 1 < strip.end_row) load_row(row + 1);
      walk.step(k, row + 1 < strip.end_row);
      GPU_UNROLL
      for (int j = 0; j < kBackwardColumns; ++j) {
        if (strip.first_column + j >= shape.width) break;
        pixels.begin(x[j]);
        GPU_UNROLL
        for (int tap = 0; tap < 9; ++tap) {
          float gradient[W];
          GPU_UNROLL
          for (int i = 0; i < W; ++i) gradient[i] = walk.at(k, 2 - tap / 3, 2 - tap % 3, j, i);
          pixels.add(tap, gradient);
        }
        pixels.end(pixel + j);
      }
    }
  }
}

// Stride 2: see PixelPairs.
template <class T, int W>
__device__ inline void walk_strip(const DepthwiseShape& shape, const CentredSumReader<T, W>& reader, const Strip& strip,
                                  PixelGradients<T, W>& pixels, std::integral_constant<int, 2>) {
  const int first_m = shape.pad_top / 2 + strip.first_row, end_m = shape.pad_top / 2 + strip.end_row;
  const int n = shape.pad_left / 2 + strip.first_column;
  float above[2][W], here[2][W];
  load_two(reader, shape, first_m - 1, n, above);
  const auto pixel_of = [&](int m, int corner) {  // below 0: outside
    const int row = 2 * m + corner / 2 - shape.pad_top, column = 2 * n + corner % 2 - shape.pad_left;
    const bool inside = row >= 0 && row < shape.height && column >= 0 && column < shape.width;
    return inside ? row * shape.width + column : -1;
  };
  for (int m = first_m; m < end_m; ++m) {
    Pack<T, W> x[4] = {};  // all loads of a step are under way before the first is used
    GPU_UNROLL
    for (int corner = 0; corner < 4; ++corner)
      if (pixel_of(m, corner) >= 0) x[corner] = pixels.load(pixel_of(m, corner));
    load_two(reader, shape, m, n, here);
    GPU_UNROLL
    for (int corner = 0; corner < 4; ++corner) {
      const int pixel = pixel_of(m, corner);
      if (pixel < 0) continue;
      pixels.begin(x[corner]);
      for_corner_taps(corner / 2, corner % 2, above, here, [&](int tap, const float(&g)[W]) { pixels.add(tap, g); });
      pixels.end(pixel);
    }
    GPU_UNROLL
    for (int j = 0; j < 2; ++j) {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) above[j][i] = here[j][i];
    }
  }
}

// Reads x, y and dy and writes dx, once each. partial_dw (blocks, 3, 3, C), partial_sums (blocks, 2, C).
template <class T, int W, int Stride>
__global__ void __launch_bounds__(kLayoutThreads, kDepthwiseBlocks)
    norm_depthwise_backward_kernel(BackwardArguments<T> arguments, Strips strips, int rows, float* partial_dw,
                                   float* partial_sums) {
  const int channel = first_channel<W>(), channels = arguments.shape.channels;
  const bool active = channel < channels;
  const int own = active ? channel : 0;  // so that idle threads, too, have channels to load
  PixelGradients<T, W> pixels(arguments, own);
  const int step = static_cast<int>(gridDim.x * blockDim.y);
  for (int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y); active && index < strips.count;
       index += step) {
    const Strip strip = strip_of(strips, index, rows, kBackwardColumns);
    const int64_t image = strip.image * arguments.shape.out_height * arguments.shape.out_width;
    const CentredSumReader<T, W> reader(arguments.gradient, channel, image);
    pixels.move_to(strip.image * arguments.shape.height * arguments.shape.width);
    walk_strip(arguments.shape, reader, strip, pixels, std::integral_constant<int, Stride>{});
  }
  sum_over_rows(pixels.sums);
  if (threadIdx.y > 0 || !active) return;
  GPU_UNROLL
  for (int i = 0; i < W; ++i) {
    GPU_UNROLL
    for (int tap = 0; tap < 9; ++tap)
      partial_dw[(blockIdx.x * int64_t{9} + tap) * channels + channel + i] = pixels.sums[tap * W + i];
    if (!arguments.normed) continue;
    partial_sums[blockIdx.x * int64_t{2} * channels + channel + i] = pixels.sums[9 * W + i];
    partial_sums[(blockIdx.x * int64_t{2} + 1) * channels + channel + i] = pixels.sums[10 * W + i];
  }
}

void check_stride(const Window& window, const char* operation) {
  RIFFLE_CHECK(has_3x3_kernels(window), operation, ": a window of stride ", window.stride,
               "; on CUDA 1 and 2 are fused");
}

}  // namespace

void CudaBackend::norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                                 const Tensor& mean, const Tensor& var, const Tensor& y) {
  check_norm_depthwise(x, before, w, window, y, "norm_depthwise");
  check_vectors({&mean, &var}, y.channels(), "norm_depthwise");
  check_no_overlap(y, {&x, &w}, "norm_depthwise");
  check_stride(window, "norm_depthwise");
  if (options_.cudnn_depthwise) return cudnn_norm_depthwise(x, before, w, window, mean, var, y);
  const DepthwiseShape shape = depthwise_shape(x.shape(), window, y.shape());
  const ChannelLayout layout = depthwise_layout({&x, &w, &y}, kDepthwiseWidest);
  dispatch_dtype(x.dtype(), [&](auto element) {
    using T = decltype(element);
    const NormedPixels<T> pixels{rows_of<const T>(x), norm_vectors(before), shape.channels, before.relu};
    dispatch_walk<T>(layout.width, window.stride, [&](auto width, auto stride) {
      constexpr int kWidth = decltype(width)::value, kStride = decltype(stride)::value;
      const Strips strips = make_strips(y.shape(), layout, kOutputColumns<kStride>,
                                        int64_t{properties_.multiprocessors} * kThreadsWanted);
      launch("norm_depthwise", depthwise3x3_kernel<NormedPixels<T>, kWidth, kStride>, strip_grid(layout, strips),
             layout.block, 0, pixels, w.data<T>(), shape, strips, /*turned=*/false, Finish<T>{}, rows_of<T>(y));
    });
  });
  batch_norm_statistics(y, mean, var);
}

void CudaBackend::norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                          const Window& window, const Tensor& y, const Tensor& mean_y,
                                          const Tensor& from_y, const Tensor& dy, Write write_dx, const Tensor& dx,
                                          Write write_dw, const Tensor& dw, const Tensor& sums) {
  const char* name = "norm_depthwise_backward";
  const bool normed = before.mean.defined();
  check_norm_depthwise(x, before, w, window, y, name);
  check_stride(window, name);
  check_same_shape(y, dy, name);
  check_same_shape(x, dx, name);
  check_same_shape(w, dw, name);
  check_vectors({&mean_y, &from_y}, y.channels(), name);
  if (normed) check_norm_sums(sums, x.channels(), name);
  RIFFLE_CHECK(!normed || write_dx == Write::kOverwrite, name, ": sums are of a whole gradient");
  check_no_overlap(dx, {&x, &w, &y, &dy}, name);
  if (options_.cudnn_depthwise)
    return cudnn_norm_depthwise_backward(x, before, w, window, y, mean_y, from_y, dy, write_dx, dx, write_dw, dw, sums);
  const DepthwiseShape shape = depthwise_shape(x.shape(), window, y.shape());
  const PixelPairs pairs = pixel_pairs(shape);
  const ChannelLayout layout = depthwise_layout({&x, &w, &y, &dy, &dx}, kBackwardWidest);
  const Shape result = window.stride == 1 ? x.shape() : Shape{x.shape().n, pairs.rows, pairs.columns, x.channels()};
  dispatch_dtype(x.dtype(), [&](auto element) {
    using T = decltype(element);
    const CentredSumPixels<T> gradient{rows_of<const T>(dy), rows_of<const T>(y), mean_y.data<float>(),
                                       from_y.data<float>()};
    const BackwardArguments<T> arguments{rows_of<const T>(x),
                                         normed,
                                         normed && before.relu,
                                         write_dx == Write::kAccumulate,
                                         normed ? norm_vectors(before) : NormVectors{},
                                         w.data<T>(),
                                         gradient,
                                         shape,
                                         rows_of<T>(dx)};
    dispatch_walk<T>(layout.width, window.stride, [&](auto width, auto stride) {
      constexpr int kWidth = decltype(width)::value, kStride = decltype(stride)::value;
      if constexpr (kWidth <= kBackwardWidest) {
        const Strips strips = make_strips(result, layout, kBackwardColumns, kReductionBlocks * kLayoutThreads);
        const int64_t parts =
            std::min(divide_up(strips.count, layout.block.y), divide_up(kReductionBlocks, layout.chunks));
        const Tensor partial_dw = scratch(parts * dw.elements());
        const Tensor partial_sums = scratch(normed ? parts * sums.elements() : 1);
        launch(name, norm_depthwise_backward_kernel<T, kWidth, kStride>, layout.grid(parts), layout.block, 0, arguments,
               strips, result.h, partial_dw.data<float>(), partial_sums.data<float>());
        sum_parts(partial_dw.data<float>(), parts, write_dw, dw);
        if (normed) sum_parts(partial_sums.data<float>(), parts, Write::kOverwrite, sums);
      }
    });
  });
}

}  // namespace riffle
