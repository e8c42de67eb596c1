// 3x3 depthwise convolutions: how a thread walks a window down an image, for the forward pass and for all gradients.
#pragma once

#include "core/backend.h"
#include "cuda/channel_layout.h"
#include "cuda/depthwise_pixels.h"
#include "cuda/index_division.h"

namespace riffle {

constexpr int kDepthwiseWidest = 2;   // channels of a thread: more would not fit with several columns in registers
constexpr int kLeastStrip = 4;        // output rows: shorter strips read their first rows too often
constexpr int kThreadsWanted = 2048;  // on a multiprocessor, before strips are made longer
constexpr int kPlainThreads = 256;    // block of the kernels for any window
constexpr int kDepthwiseBlocks = 2;   // on a multiprocessor at once: 128 registers a thread

struct DepthwiseShape {
  int height, width, out_height, out_width;
  int stride, pad_top, pad_left;
  int channels;
};

inline DepthwiseShape depthwise_shape(const Shape& x, const Window& window, const Shape& y) {
  const auto narrow = [](int64_t size) { return static_cast<int>(size); };
  return {narrow(x.h),
          narrow(x.w),
          narrow(y.h),
          narrow(y.w),
          narrow(window.stride),
          narrow(window.padding.top),
          narrow(window.padding.left),
          narrow(x.c)};
}

// The data gradient of stride 1 is a convolution of dy with the filter turned by 180 degrees and padding 2 - pad.
__host__ __device__ inline DepthwiseShape turned_shape(const DepthwiseShape& s) {
  return {s.out_height, s.out_width, s.height, s.width, 1, 2 - s.pad_top, 2 - s.pad_left, s.channels};
}

inline bool has_3x3_kernels(const Window& window) {
  return window.kernel_h == 3 && window.kernel_w == 3 && window.stride <= 2;
}

// The result is cut into strips: some columns wide, strip_rows high. A thread takes a pack of channels of one strip.
struct Strips {
  int count, strip_rows;  // count: of all images
  PixelIndex position;    // of a strip: its image, which from top to bottom, and which from left to right
};

// Of a result of this shape; so many that `threads` have work, as far as the shape allows.
inline Strips make_strips(const Shape& result, const ChannelLayout& layout, int columns_each, int64_t threads) {
  const int64_t groups = divide_up(result.w, columns_each);
  const int64_t wanted = divide_up(threads, result.n * groups * (result.c / layout.width));
  const int64_t strip_rows = std::max(divide_up(result.h, wanted), std::min<int64_t>(kLeastStrip, result.h));
  const int64_t across = divide_up(result.h, strip_rows);
  const int64_t count = result.n * across * groups, largest = std::numeric_limits<int>::max() / 2;
  RIFFLE_CHECK(count <= largest, "a depthwise convolution of ", result, " has ", count, " strips; at most ", largest,
               " are possible");
  return {static_cast<int>(count), static_cast<int>(strip_rows), PixelIndex(across, groups)};
}

// Rows do not matter here: grids are of strips.
inline ChannelLayout depthwise_layout(std::initializer_list<const Tensor*> tensors, int widest) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* t : tensors)
    RIFFLE_CHECK(t->shape().h * t->shape().w * t->ld() <= std::numeric_limits<int>::max(), "an image of ", t->shape(),
                 " with a row pitch of ", t->ld(), " is too large for depthwise convolutions: 2^31 - 1 elements");
  return make_layout(std::min(widest, common_vector_width(tensors)), 1, first.pixels(), first.channels());
}

inline dim3 strip_grid(const ChannelLayout& layout, const Strips& strips) {
  return layout.grid(divide_up(strips.count, layout.block.y));
}

inline dim3 plain_grid(const Tensor& output, int multiprocessors) {
  const int64_t most = int64_t{multiprocessors} * kThreadsWanted / kPlainThreads;
  return dim3(static_cast<unsigned>(std::min(divide_up(output.elements(), kPlainThreads), most)));
}

struct Strip {
  int64_t image;
  int first_row, end_row, first_column;
};

__device__ inline Strip strip_of(const Strips& strips, int index, int rows, int columns_each) {
  const PixelPosition at = strips.position(index);
  const int first_row = at.row * strips.strip_rows;
  const int end_row = first_row + strips.strip_rows < rows ? first_row + strips.strip_rows : rows;
  return {at.image, first_row, end_row, at.column * columns_each};
}

// Three rows of input pixels under `Columns` neighbouring outputs of stride `Stride`, moving down. Row r of the window
// at step k lies in slot (Stride*k + r) % 3: the rows that two outputs share stay where they are. The rows of the next
// step are loaded, as stored, before this one's arithmetic. Reader: see depthwise_pixels.h.
template <class Reader, int W, int Stride, int Columns>
class WindowWalk {
 public:
  static constexpr int kColumns = (Columns - 1) * Stride + 3;  // of the input

  // At output (strip.first_row, strip.first_column) of shape.height x shape.width input pixels.
  __device__ WindowWalk(const Reader& reader, const DepthwiseShape& shape, const Strip& strip)
      : reader_(reader),
        height_(shape.height),
        width_(shape.width),
        row_(strip.first_row * Stride - shape.pad_top),
        column_(strip.first_column * Stride - shape.pad_left) {
    GPU_UNROLL
    for (int r = 0; r < 3 - Stride; ++r) {
      load_row(row_, next_[0]);
      place(row_, next_[0], r);
      ++row_;
    }
    load_next();
  }

  // Call before each output, with steps counted from 0 (modulo 3 is enough); `more`: another step follows.
  __device__ void step(int k, bool more) {
    GPU_UNROLL
    for (int r = 0; r < Stride; ++r) place(row_ + r, next_[r], (Stride * k + 3 - Stride + r) % 3);
    row_ += Stride;
    if (more) load_next();
  }

  // Channel i of the pixel under tap (r, s) of output column `column`, at step k.
  __device__ float at(int k, int r, int s, int column, int i) const {
    return window_[(Stride * k + r) % 3][column * Stride + s][i];
  }

 private:
  using Raw = typename Reader::Raw;

  __device__ bool inside(int row, int column) const {
    return row >= 0 && row < height_ && column >= 0 && column < width_;
  }
  __device__ void load_row(int row, Raw (&raw)[kColumns]) {
    const int first = row * width_ + column_;
    GPU_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      raw[j] = Raw{};
      if (inside(row, column_ + j)) raw[j] = reader_.load(first + j);
    }
  }
  __device__ void load_next() {
    GPU_UNROLL
    for (int r = 0; r < Stride; ++r) load_row(row_ + r, next_[r]);
  }
  // Pixels outside the image are zero.
  __device__ void place(int row, const Raw (&raw)[kColumns], int slot) {
    GPU_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      reader_.widen(raw[j], window_[slot][j]);
      if constexpr (!Reader::kZeroIsZero) {
        const bool counts = inside(row, column_ + j);
        GPU_UNROLL
        for (int i = 0; i < W; ++i) window_[slot][j][i] = counts ? window_[slot][j][i] : 0.0f;
      }
    }
  }

  const Reader& reader_;
  int height_, width_;
  int row_, column_;  // of the first pixel that step() places next
  float window_[3][kColumns][W];
  Raw next_[Stride][kColumns];
};

// Output columns of a thread: neighbours share pixels, and a step brings enough bytes to hide its latency.
template <int Stride>
constexpr int kOutputColumns = Stride == 1 ? 4 : 2;

// What happens to a result on its way to memory.
template <class T>
struct Finish {
  const T* bias = nullptr;
  bool relu = false, accumulate = false;
};

template <class T, int W>
__device__ inline void finish(const Finish<T>& how, int channel, float (&values)[W], T* to) {
  if (how.bias != nullptr) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) values[i] += to_float(how.bias[channel + i]);
  }
  if (how.relu) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) values[i] = values[i] < 0 ? 0.0f : values[i];  // keeps NaN
  }
  if (how.accumulate) {
    float before[W];
    widen(load_pack<W>(to), before);
    GPU_UNROLL
    for (int i = 0; i < W; ++i) values[i] += before[i];
  }
  store_rounded<T, W>(values, to);
}

// w (1,3,3,C) of channels channel..channel+W-1; see turned_shape().
template <class T, int W>
__device__ inline void load_filter(const T* w, int channels, int channel, bool turned, float (&filter)[9][W]) {
  GPU_UNROLL
  for (int tap = 0; tap < 9; ++tap) widen(load_pack<W>(w + (turned ? 8 - tap : tap) * channels + channel), filter[tap]);
}

// Reads an input once from DRAM (1 to 1.5 times through the caches, at strips' edges) and writes an output once.
template <class Pixels, int W, int Stride>
__global__ void __launch_bounds__(kLayoutThreads, kDepthwiseBlocks)
    depthwise3x3_kernel(Pixels x, const typename Pixels::Element* __restrict__ w, DepthwiseShape shape, Strips strips,
                        bool turned, Finish<typename Pixels::Element> how, PixelRows<typename Pixels::Element> y) {
  using Reader = typename Pixels::template Reader<W>;
  constexpr int kColumns = kOutputColumns<Stride>;
  const int channel = first_channel<W>();
  const int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y);
  if (channel >= shape.channels || index >= strips.count) return;
  const Strip strip = strip_of(strips, index, shape.out_height, kColumns);
  float filter[9][W];
  load_filter(w, shape.channels, channel, turned, filter);
  const Reader reader(x, channel, strip.image * shape.height * shape.width);
  WindowWalk<Reader, W, Stride, kColumns> walk(reader, shape, strip);
  const int64_t image = strip.image * shape.out_height * shape.out_width;
  for (int first = strip.first_row; first < strip.end_row; first += 3) {
    GPU_UNROLL
    for (int k = 0; k < 3; ++k) {
      const int row = first + k;
      if (row >= strip.end_row) break;
      walk.step(k, row + 1 < strip.end_row);
      GPU_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        const int column = strip.first_column + j;
        float sum[W] = {};
        GPU_UNROLL
        for (int tap = 0; tap < 9; ++tap) {
          GPU_UNROLL
          for (int i = 0; i < W; ++i) sum[i] = fmaf(walk.at(k, tap / 3, tap % 3, j, i), filter[tap][i], sum[i]);
        }
        if (column < shape.out_width)
          finish(how, channel, sum, y.at(image + int64_t{row} * shape.out_width + column, channel));
      }
    }
  }
}

// Calls body(integral_constant<int, W>{}, integral_constant<int, Stride>{}) for the kernels that walk.
template <class T, class Body>
void dispatch_walk(int width, int64_t stride, const Body& body) {
  RIFFLE_CHECK(width <= kDepthwiseWidest && (stride == 1 || stride == 2), "no 3x3 kernel has packs of ", width,
               " channels and stride ", stride);
  dispatch_width<T>(width, [&](auto constant) {
    if constexpr (decltype(constant)::value <= kDepthwiseWidest) {
      if (stride == 1) return body(constant, std::integral_constant<int, 1>{});
      body(constant, std::integral_constant<int, 2>{});
    }
  });
}

// Data gradient of stride 2, gathered: output row m and the one above it, columns n and the one before, make the four
// input pixels (2m + a - pad_top, 2n + b - pad_left), a and b in {0, 1}, each from the taps of its own parity. A thread
// walks down m, from the first that reaches into the image; so do the strips count, of pairs of rows and of columns.
struct PixelPairs {
  int first_row, first_column;  // the first m and n
  int rows, columns;
};

inline PixelPairs pixel_pairs(const DepthwiseShape& s) {
  const auto count = [](int size, int pad) { return (size - 1 + pad) / 2 - pad / 2 + 1; };
  return {s.pad_top / 2, s.pad_left / 2, count(s.height, s.pad_top), count(s.width, s.pad_left)};
}

// body(tap, gradient) for the taps that lead from pixel (a, b) of a pair to outputs (m - 1 and m, n - 1 and n).
template <int W, class Body>
__device__ inline void for_corner_taps(int a, int b, const float (&above)[2][W], const float (&here)[2][W],
                                       const Body& body) {
  body(3 * a + b, here[1]);
  if (b == 0) body(3 * a + 2, here[0]);
  if (a == 0) body(6 + b, above[1]);
  if (a == 0 && b == 0) body(8, above[0]);
}

// Columns n - 1 and n of a row of outputs; zero outside.
template <class Reader, int W>
__device__ inline void load_two(const Reader& reader, const DepthwiseShape& s, int row, int n, float (&to)[2][W]) {
  GPU_UNROLL
  for (int j = 0; j < 2; ++j) {
    const int column = n - 1 + j;
    if (row >= 0 && row < s.out_height && column >= 0 && column < s.out_width) {
      reader.widen(reader.load(row * s.out_width + column), to[j]);
    } else {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) to[j][i] = 0;
    }
  }
}

}  // namespace riffle
