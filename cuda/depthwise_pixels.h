// What a depthwise convolution's window holds: pixels as they are stored, behind a norm, or a gradient that is a sum of
// two tensors. Each kind is a kernel argument with a Reader<W> for one thread's channels of one image, which splits
// reading in two: load() brings what is stored, widen() makes floats of it, later, when it has arrived. kZeroIsZero:
// zeros as stored widen to zeros, so that padding needs no care.
#pragma once

#include "cuda/batch_norm.h"

namespace riffle {

template <class T, int W>
struct StoredReader;
template <class T, int W>
struct NormedReader;
template <class T, int W>
struct CentredSumReader;

template <class T>
struct StoredPixels {
  using Element = T;
  template <int W>
  using Reader = StoredReader<T, W>;
  PixelRows<const T> x;
};

// batch_norm_apply(x).
template <class T>
struct NormedPixels {
  using Element = T;
  template <int W>
  using Reader = NormedReader<T, W>;
  PixelRows<const T> x;
  NormVectors norm;
  int channels;
  bool relu;
};

// dy + from_y*(y - mean_y): the gradient of y where the norm after it was folded.
template <class T>
struct CentredSumPixels {
  using Element = T;
  template <int W>
  using Reader = CentredSumReader<T, W>;
  PixelRows<const T> dy, y;
  const float *mean_y, *from_y;
};

// One image of a tensor. Within it 32-bit offsets do (depthwise_layout() checks), and leave registers for pixels.
template <class T>
struct ImageReader {
  const T* data;
  int ld;

  // `image`: its first pixel.
  __device__ ImageReader(const PixelRows<const T>& x, int channel, int64_t image)
      : data(x.at(image, channel)), ld(static_cast<int>(x.ld)) {}
  __device__ const T* at(int pixel) const { return data + pixel * ld; }
};

template <class T, int W>
struct StoredReader {
  using Raw = Pack<T, W>;
  static constexpr bool kZeroIsZero = true;
  ImageReader<T> x;

  __device__ StoredReader(const StoredPixels<T>& pixels, int first, int64_t image) : x(pixels.x, first, image) {}
  __device__ Raw load(int pixel) const { return load_pack<W>(x.at(pixel)); }
  __device__ void widen(const Raw& raw, float (&to)[W]) const { riffle::widen(raw, to); }
};

template <class T, int W>
struct NormedReader {
  using Raw = Pack<T, W>;
  static constexpr bool kZeroIsZero = false;
  ImageReader<T> x;
  bool relu;
  ChannelNorms<W> norms;

  __device__ NormedReader(const NormedPixels<T>& pixels, int first, int64_t image)
      : x(pixels.x, first, image), relu(pixels.relu), norms(channel_norms<W>(pixels.norm, first, pixels.channels)) {}
  __device__ Raw load(int pixel) const { return load_pack<W>(x.at(pixel)); }
  __device__ void widen(const Raw& raw, float (&to)[W]) const {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      const float value = norms.normalised(i, norms.deviation(i, to_float(raw.element[i])));
      to[i] = relu && value < 0 ? 0.0f : value;
    }
  }
};

template <class T, int W>
struct CentredSumReader {
  struct Raw {
    Pack<T, W> dy, y;
  };
  static constexpr bool kZeroIsZero = false;
  ImageReader<T> dy, y;
  float mean[W], factor[W];

  __device__ CentredSumReader(const CentredSumPixels<T>& pixels, int first, int64_t image)
      : dy(pixels.dy, first, image), y(pixels.y, first, image) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      mean[i] = pixels.mean_y[first + i];
      factor[i] = pixels.from_y[first + i];
    }
  }
  __device__ Raw load(int pixel) const { return {load_pack<W>(dy.at(pixel)), load_pack<W>(y.at(pixel))}; }
  __device__ void widen(const Raw& raw, float (&to)[W]) const {
    GPU_UNROLL
    for (int i = 0; i < W; ++i)
      to[i] = fmaf(factor[i], to_float(raw.y.element[i]) - mean[i], to_float(raw.dy.element[i]));
  }
};

}  // namespace riffle
