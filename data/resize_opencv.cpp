// cv::resize of 8-bit images with INTER_LINEAR and INTER_CUBIC, bit for bit as OpenCV's own code (not Intel's IPP, which
// some of its packages call for INTER_CUBIC): weights in float, rounded to 11 bits; a horizontal pass to exact integers,
// then a vertical one whose arithmetic differs between the two filters. No antialiasing. docs/preprocessing.md.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "data/resize_simd.h"

namespace riffle {
namespace {

constexpr int kWeightBits = 11;
constexpr int kMaxTaps = 4;
using Taps = std::array<int, kMaxTaps>;

// One axis: output i is the sum over t < count of in[positions[i][t]] * weights[i][t] / 2^11.
struct Axis {
  int count;  // 2 or 4
  std::vector<Taps> positions, weights;
};

int fixed_point(float weight) {
  return static_cast<int>(std::nearbyint(weight * (1 << kWeightBits)));
}

// Keys' cubic convolution with a = -0.75 at distances 1 + x, x, 1 - x and 2 - x; the last weight makes the sum 1.
Taps cubic_weights(float x) {
  constexpr float kA = -0.75f;
  const float before = ((kA * (x + 1) - 5 * kA) * (x + 1) + 8 * kA) * (x + 1) - 4 * kA;
  const float left = ((kA + 2) * x - (kA + 3)) * x * x + 1;
  const float right = ((kA + 2) * (1 - x) - (kA + 3)) * (1 - x) * (1 - x) + 1;
  return {fixed_point(before), fixed_point(left), fixed_point(right), fixed_point(1.f - before - left - right)};
}

// Outputs first .. first + count - 1 of `out_size`. Taps beyond an edge read the edge. `one_at_edges`: a linear filter
// gives the edge the whole weight there, as OpenCV does for columns; for rows it rounds two parts of it.
Axis make_axis(int in_size, int out_size, int first, int count, bool cubic, bool one_at_edges) {
  const double scale = 1.0 / (static_cast<double>(out_size) / in_size);
  const int taps = cubic ? 4 : 2, before = cubic ? 1 : 0;
  Axis axis{taps, {}, {}};
  axis.positions.reserve(static_cast<size_t>(count));
  axis.weights.reserve(static_cast<size_t>(count));
  for (int i = first; i < first + count; ++i) {
    const auto exact = static_cast<float>((i + 0.5) * scale - 0.5);
    const auto left = static_cast<int>(std::floor(exact));
    float x = exact - static_cast<float>(left);
    if (one_at_edges && (left < 0 || left >= in_size - 1)) x = 0;
    axis.weights.push_back(cubic ? cubic_weights(x) : Taps{fixed_point(1.f - x), fixed_point(x), 0, 0});
    Taps positions{};
    for (int t = 0; t < taps; ++t) {
      positions[static_cast<size_t>(t)] = std::min(std::max(left - before + t, 0), in_size - 1);
    }
    axis.positions.push_back(positions);
  }
  return axis;
}

// One input row to one row of sums. Reads one byte past the last pixel of RGB rows, writes one sum past theirs.
template <int kTaps>
inline __attribute__((always_inline)) void columns_rgb(const Axis& axis, const uint8_t* in, int32_t* out) {
  for (size_t i = 0; i < axis.positions.size(); ++i, out += 3) {
    Int4 sum{};
    for (size_t t = 0; t < kTaps; ++t) {
      Byte4 bytes;
      std::memcpy(&bytes, in + static_cast<size_t>(axis.positions[i][t]) * 3, 4);
      sum += __builtin_convertvector(bytes, Int4) * axis.weights[i][t];
    }
    std::memcpy(out, &sum, sizeof(sum));
  }
}

template <int kTaps>
inline __attribute__((always_inline)) void columns_gray(const Axis& axis, const uint8_t* in, int32_t* out) {
  for (size_t i = 0; i < axis.positions.size(); ++i) {
    int32_t sum = 0;
    for (size_t t = 0; t < kTaps; ++t) sum += in[axis.positions[i][t]] * axis.weights[i][t];
    out[i] = sum;
  }
}

using SumRows = std::array<const int32_t*, kMaxTaps>;

// Each part is cut to 2 fractional bits before they are added.
inline __attribute__((always_inline)) void rows_linear(const SumRows& rows, const Taps& weights, size_t length,
                                                       uint8_t* out) {
  for (size_t x = 0; x < length; ++x) {
    const int32_t upper = ((rows[0][x] >> 4) * weights[0]) >> 16, lower = ((rows[1][x] >> 4) * weights[1]) >> 16;
    out[x] = static_cast<uint8_t>((upper + lower + 2) >> 2);
  }
}

// OpenCV's vector loop takes groups of eight values and works in float, summed from the last row up and rounded half to
// even; the up to seven values that remain at the end of an image row are exact, and rounded half up.
inline __attribute__((always_inline)) void rows_cubic(const SumRows& rows, const Taps& weights, size_t float_length,
                                                      size_t length, uint8_t* out) {
  constexpr float kToWhole = 12582912.f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  constexpr int kBits = 2 * kWeightBits;
  std::array<float, kMaxTaps> scaled{};
  for (size_t t = 0; t < kMaxTaps; ++t) scaled[t] = static_cast<float>(weights[t]) / (1 << kBits);
  size_t x = 0;
  for (; x < float_length; ++x) {
    float sum = static_cast<float>(rows[3][x]) * scaled[3];
    sum = static_cast<float>(rows[2][x]) * scaled[2] + sum;
    sum = static_cast<float>(rows[1][x]) * scaled[1] + sum;
    sum = static_cast<float>(rows[0][x]) * scaled[0] + sum;
    const auto whole = static_cast<int32_t>((sum + kToWhole) - kToWhole);
    out[x] = static_cast<uint8_t>(std::min(std::max(whole, 0), 255));
  }
  for (; x < length; ++x) {
    int32_t sum = 1 << (kBits - 1);
    for (size_t t = 0; t < kMaxTaps; ++t) sum += rows[t][x] * weights[t];
    out[x] = static_cast<uint8_t>(std::min(std::max(sum >> kBits, 0), 255));
  }
}

inline __attribute__((always_inline)) void filter_columns(const Axis& axis, int channels, const uint8_t* in,
                                                          int32_t* out) {
  const bool rgb = channels == 3;
  if (axis.count == 2) {
    if (rgb) columns_rgb<2>(axis, in, out);
    if (!rgb) columns_gray<2>(axis, in, out);
  } else {
    if (rgb) columns_rgb<4>(axis, in, out);
    if (!rgb) columns_gray<4>(axis, in, out);
  }
}

struct InnerLoops {
  void (*columns)(const Axis&, int, const uint8_t*, int32_t*);
  void (*linear)(const SumRows&, const Taps&, size_t, uint8_t*);
  void (*cubic)(const SumRows&, const Taps&, size_t, size_t, uint8_t*);
};

#if RIFFLE_RESIZE_AVX2
__attribute__((target("avx2"))) void columns_avx2(const Axis& axis, int channels, const uint8_t* in, int32_t* out) {
  filter_columns(axis, channels, in, out);
}
__attribute__((target("avx2"))) void linear_avx2(const SumRows& rows, const Taps& weights, size_t length,
                                                 uint8_t* out) {
  rows_linear(rows, weights, length, out);
}
__attribute__((target("avx2"))) void cubic_avx2(const SumRows& rows, const Taps& weights, size_t float_length,
                                                size_t length, uint8_t* out) {
  rows_cubic(rows, weights, float_length, length, out);
}
#endif

InnerLoops inner_loops(ResizeLoops choice) {
#if RIFFLE_RESIZE_AVX2
  if (resize_with_avx2(choice)) return {columns_avx2, linear_avx2, cubic_avx2};
#endif
  static_cast<void>(choice);
  return {filter_columns, rows_linear, rows_cubic};
}

// The horizontally filtered rows of an image, computed when they are asked for. Taps of one output row are neighbours,
// and outputs only go down, so as many rows as there are taps are enough.
class FilteredRows {
 public:
  FilteredRows(const InnerLoops& loops, const Image& image, const Axis& columns)
      : loops_(loops), image_(image), columns_(columns) {
    const auto channels = static_cast<size_t>(image.channels);
    padded_in_.resize(static_cast<size_t>(image.width) * channels + 1);  // see columns_rgb
    kept_.fill(-1);
    for (std::vector<int32_t>& row : rows_) row.resize(columns.positions.size() * channels + 1);
  }

  const int32_t* row(int y) {
    const auto slot = static_cast<size_t>(y % kMaxTaps);
    if (kept_[slot] != y) {
      const size_t bytes = padded_in_.size() - 1;
      std::memcpy(padded_in_.data(), image_.pixels.data() + static_cast<size_t>(y) * bytes, bytes);
      loops_.columns(columns_, image_.channels, padded_in_.data(), rows_[slot].data());
      kept_[slot] = y;
    }
    return rows_[slot].data();
  }

 private:
  const InnerLoops& loops_;
  const Image& image_;
  const Axis& columns_;
  std::vector<uint8_t> padded_in_;
  std::array<int, kMaxTaps> kept_{};  // the input row in each slot
  std::array<std::vector<int32_t>, kMaxTaps> rows_;
};

// OpenCV's bilinear halving of both axes: the mean of four pixels, rounded half up.
Image halve(const Image& image, const CropBox& window) {
  const auto channels = static_cast<size_t>(image.channels), pitch = static_cast<size_t>(image.width) * channels;
  Image out(window.height, window.width, image.channels);
  uint8_t* target = out.pixels.data();
  for (int y = window.top; y < window.top + window.height; ++y) {
    for (int x = window.left; x < window.left + window.width; ++x) {
      const uint8_t* in =
          image.pixels.data() + static_cast<size_t>(y) * 2 * pitch + static_cast<size_t>(x) * 2 * channels;
      for (size_t c = 0; c < channels; ++c, ++in) {
        *target++ = static_cast<uint8_t>((in[0] + in[channels] + in[pitch] + in[pitch + channels] + 2) >> 2);
      }
    }
  }
  return out;
}

}  // namespace

Image resize_opencv_window(const Image& image, int height, int width, const CropBox& window,
                           Interpolation interpolation, ResizeLoops choice) {
  check_box(window, height, width);
  RIFFLE_CHECK(image.channels == 1 || image.channels == 3, "image of ", image.channels, " channels");
  RIFFLE_CHECK(image.height > 0 && image.width > 0, "image of ", image.height, "x", image.width);
  const bool cubic = interpolation == Interpolation::kOpenCvBicubic;
  RIFFLE_CHECK(cubic || interpolation == Interpolation::kOpenCvBilinear, name_of(interpolation));
  if (height == image.height && width == image.width) return crop(image, window);
  if (!cubic && image.height == 2 * int64_t{height} && image.width == 2 * int64_t{width}) return halve(image, window);

  const InnerLoops loops = inner_loops(choice);
  const Axis columns = make_axis(image.width, width, window.left, window.width, cubic, /*one_at_edges=*/!cubic);
  const Axis rows = make_axis(image.height, height, window.top, window.height, cubic, /*one_at_edges=*/false);
  FilteredRows filtered(loops, image, columns);
  const auto channels = static_cast<size_t>(image.channels);
  const size_t length = static_cast<size_t>(window.width) * channels;
  const size_t first = static_cast<size_t>(window.left) * channels;
  const size_t grouped = static_cast<size_t>(width) * channels / 8 * 8;  // of the whole row, see rows_cubic
  const size_t float_length = grouped > first ? std::min(grouped - first, length) : 0;

  Image out(window.height, window.width, image.channels);
  for (size_t y = 0; y < static_cast<size_t>(window.height); ++y) {
    SumRows sums{};
    for (size_t t = 0; t < static_cast<size_t>(rows.count); ++t) sums[t] = filtered.row(rows.positions[y][t]);
    uint8_t* target = out.pixels.data() + y * length;
    if (cubic) {
      loops.cubic(sums, rows.weights[y], float_length, length, target);
    } else {
      loops.linear(sums, rows.weights[y], length, target);
    }
  }
  return out;
}

}  // namespace riffle
