// Pillow's antialiased resize, bit for bit: weights in double, rounded to 22-bit fixed point; a horizontal pass to
// 8 bits, then a vertical one. AVX2 has loops of its own (resize_avx2.h); integers make them agree exactly.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "data/resize_avx2.h"
#include "data/resize_simd.h"

namespace riffle {
namespace {

// Pixels are 8 bits, and two more keep the sum of weights, about 1, times 255 inside an int32.
constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

// out[i] = sum over t < counts[i] of in[firsts[i] + t] * weights[i * taps + t] / 2^22, for one axis.
struct Filter {
  int taps = 0;
  std::vector<int> firsts, counts;
  std::vector<int32_t> weights;
};

// A filter's weight at a distance, and the distance from which it is zero.
struct Kernel {
  double radius;
  double (*weight)(double distance);
};

double triangle(double distance) {
  return distance < 1.0 ? 1.0 - distance : 0.0;
}

// Keys' cubic convolution with a = -0.5.
double cubic(double distance) {
  constexpr double kA = -0.5;
  if (distance < 1.0) return ((kA + 2.0) * distance - (kA + 3.0)) * distance * distance + 1;
  if (distance < 2.0) return (((distance - 5) * distance + 8) * distance - 4) * kA;
  return 0.0;
}

Kernel kernel_of(Interpolation interpolation) {
  RIFFLE_CHECK(interpolation == Interpolation::kPillowBilinear || interpolation == Interpolation::kPillowBicubic,
               name_of(interpolation));
  return interpolation == Interpolation::kPillowBicubic ? Kernel{2.0, cubic} : Kernel{1.0, triangle};
}

// Where one axis of the result comes from: `length` pixels from `begin` on, of pixels 0 .. count - 1 that may be read.
struct Axis {
  int count = 0;
  double begin = 0, length = 0;

  // That each output is one of the pixels.
  bool is_identity(int out_size) const { return begin == 0 && length == out_size && count == out_size; }
};

Axis whole(int count) {
  return {count, 0, static_cast<double>(count)};
}

// The kernel, stretched where the image shrinks, for outputs first .. first + count - 1 of `out_size`. Rounds as Pillow
// does, by adding a half and truncating, which is not lround() everywhere.
// NOLINTBEGIN(bugprone-incorrect-roundings)
Filter make_filter(const Kernel& kernel, const Axis& axis, int out_size, int first, int count) {
  const double scale = axis.length / out_size;
  const double stretch = std::max(scale, 1.0);  // antialiasing: shrinking averages over a wider window
  const double support = kernel.radius * stretch, inverse_stretch = 1.0 / stretch;
  Filter filter;
  filter.taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  filter.firsts.resize(static_cast<size_t>(count));
  filter.counts.resize(static_cast<size_t>(count));
  filter.weights.resize(static_cast<size_t>(count) * static_cast<size_t>(filter.taps));
  std::vector<double> exact(static_cast<size_t>(filter.taps));

  for (int i = 0; i < count; ++i) {
    const double center = axis.begin + (first + i + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), axis.count);
    double sum = 0;
    for (int t = 0; t < end - begin; ++t) {
      exact[static_cast<size_t>(t)] = kernel.weight(std::abs((t + begin - center + 0.5) * inverse_stretch));
      sum += exact[static_cast<size_t>(t)];
    }
    int32_t* weights = filter.weights.data() + static_cast<size_t>(i) * static_cast<size_t>(filter.taps);
    for (int t = 0; t < end - begin; ++t) {
      const double weight = sum != 0 ? exact[static_cast<size_t>(t)] / sum : 0;
      weights[t] = static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kPrecisionBits));
    }
    filter.firsts[static_cast<size_t>(i)] = begin;
    filter.counts[static_cast<size_t>(i)] = end - begin;
  }
  return filter;
}
// NOLINTEND(bugprone-incorrect-roundings)

inline uint8_t to_pixel(int32_t sum) {
  return static_cast<uint8_t>(std::min(std::max(sum >> kPrecisionBits, 0), 255));
}

// One row, RGB. Reads one byte past the last pixel of `in` and writes one past that of `out`.
void filter_row_rgb(const Filter& filter, const uint8_t* in, uint8_t* out) {
  const size_t count = filter.firsts.size();
  const int32_t* weights = filter.weights.data();
  for (size_t i = 0; i < count; ++i, weights += filter.taps, out += 3) {
    const uint8_t* pixel = in + static_cast<size_t>(filter.firsts[i]) * 3;
    Int4 sum = {kHalf, kHalf, kHalf, kHalf};
    for (int t = 0; t < filter.counts[i]; ++t, pixel += 3) {
      Byte4 bytes;
      std::memcpy(&bytes, pixel, 4);
      sum += __builtin_convertvector(bytes, Int4) * weights[t];
    }
    sum >>= kPrecisionBits;
    sum &= sum > 0;
    const Int4 over = sum > 255;
    const Byte4 result = __builtin_convertvector((sum & ~over) | (over & 255), Byte4);
    std::memcpy(out, &result, 4);
  }
}

void filter_row_gray(const Filter& filter, const uint8_t* in, uint8_t* out) {
  const size_t count = filter.firsts.size();
  const int32_t* weights = filter.weights.data();
  for (size_t i = 0; i < count; ++i, weights += filter.taps) {
    int32_t sum = kHalf;
    for (int t = 0; t < filter.counts[i]; ++t) sum += in[filter.firsts[i] + t] * weights[t];
    out[i] = to_pixel(sum);
  }
}

// One output row from `count` input rows `pitch` bytes apart; columns are independent, so this is one long vector.
void filter_column_block(const int32_t* weights, int count, const uint8_t* in, size_t pitch, size_t width,
                         uint8_t* out) {
  constexpr size_t kBlock = 256;  // sums that stay in the first-level cache
  int32_t sums[kBlock];
  for (size_t begin = 0; begin < width; begin += kBlock) {
    const size_t length = std::min(kBlock, width - begin);
    for (size_t x = 0; x < length; ++x) sums[x] = kHalf;
    const uint8_t* row = in + begin;
    for (int t = 0; t < count; ++t, row += pitch) {
      const int32_t weight = weights[t];
      for (size_t x = 0; x < length; ++x) sums[x] += row[x] * weight;
    }
    for (size_t x = 0; x < length; ++x) out[begin + x] = to_pixel(sums[x]);
  }
}

// Rows of packed pixels inside a larger image.
struct Rows {
  const uint8_t* data;
  size_t pitch;
  int height;
};

// (rows.height, ..., channels) -> (rows.height, filter outputs, channels), packed.
void resize_rows(const Rows& rows, int in_width, int channels, const Filter& filter, uint8_t* out) {
  const size_t in_bytes = static_cast<size_t>(in_width) * static_cast<size_t>(channels);
  const size_t out_bytes = filter.firsts.size() * static_cast<size_t>(channels);
  std::vector<uint8_t> padded_in(in_bytes + 1), padded_out(out_bytes + 1);  // see filter_row_rgb
  for (int y = 0; y < rows.height; ++y, out += out_bytes) {
    const uint8_t* in = rows.data + static_cast<size_t>(y) * rows.pitch;
    if (channels == 1) {
      filter_row_gray(filter, in, out);
      continue;
    }
    std::memcpy(padded_in.data(), in, in_bytes);
    filter_row_rgb(filter, padded_in.data(), padded_out.data());
    std::memcpy(out, padded_out.data(), out_bytes);
  }
}

void resize_columns(const Rows& rows, const Filter& filter, size_t row_bytes, uint8_t* out) {
  const int32_t* weights = filter.weights.data();
  for (size_t i = 0; i < filter.firsts.size(); ++i, weights += filter.taps, out += row_bytes) {
    const uint8_t* in = rows.data + static_cast<size_t>(filter.firsts[i]) * rows.pitch;
    filter_column_block(weights, filter.counts[i], in, rows.pitch, row_bytes, out);
  }
}

#if RIFFLE_RESIZE_AVX2
// The same, of RGB pixels. Rows are read a little behind their ends, which the last ones are copied for.
void resize_rgb_rows_avx2(const Rows& rows, int in_width, const Filter& filter, uint8_t* out) {
  const size_t in_bytes = static_cast<size_t>(in_width) * 3, out_bytes = filter.firsts.size() * 3;
  const size_t copy_bytes = in_bytes + kReadBehind;
  std::vector<uint8_t> copies(kRowsAtOnce * copy_bytes);
  const auto taps = static_cast<size_t>(filter.taps);
  const std::vector<TapPair> weights = pair_taps(filter.weights.data(), filter.firsts.size(), taps);
  for (int y = 0; y < rows.height; y += kRowsAtOnce) {
    const uint8_t* in[kRowsAtOnce];
    uint8_t* to[kRowsAtOnce];
    for (int k = 0; k < kRowsAtOnce; ++k) {
      const int row = std::min(y + k, rows.height - 1);  // the last one several times, if there are no more
      in[k] = rows.data + static_cast<size_t>(row) * rows.pitch;
      to[k] = out + static_cast<size_t>(row) * out_bytes;
      if (static_cast<size_t>(rows.height - 1 - row) * rows.pitch >= kReadBehind) continue;
      uint8_t* copy = copies.data() + static_cast<size_t>(k) * copy_bytes;
      std::memcpy(copy, in[k], in_bytes);
      in[k] = copy;
    }
    filter_rows_rgb_avx2(filter.firsts, filter.counts, weights.data(), (taps + 1) / 2, in, to);
  }
}

void resize_columns_avx2(const Rows& rows, const Filter& filter, size_t row_bytes, uint8_t* out) {
  const auto taps = static_cast<size_t>(filter.taps);
  const std::vector<TapPair> weights = pair_taps(filter.weights.data(), filter.firsts.size(), taps);
  const TapPair* pair = weights.data();
  for (size_t i = 0; i < filter.firsts.size(); ++i, pair += (taps + 1) / 2, out += row_bytes) {
    const uint8_t* in = rows.data + static_cast<size_t>(filter.firsts[i]) * rows.pitch;
    filter_column_avx2(pair, filter.counts[i], in, rows.pitch, row_bytes, out);
  }
}
#endif

void resize_horizontally(bool avx2, const Rows& rows, int in_width, int channels, const Filter& filter, uint8_t* out) {
#if RIFFLE_RESIZE_AVX2
  if (avx2 && channels == 3) return resize_rgb_rows_avx2(rows, in_width, filter, out);
#endif
  static_cast<void>(avx2);
  resize_rows(rows, in_width, channels, filter, out);
}

void resize_vertically(bool avx2, const Rows& rows, const Filter& filter, size_t row_bytes, uint8_t* out) {
#if RIFFLE_RESIZE_AVX2
  if (avx2) return resize_columns_avx2(rows, filter, row_bytes, out);
#endif
  static_cast<void>(avx2);
  resize_columns(rows, filter, row_bytes, out);
}

// The part `pixels` of `image`, from which `rows` and `columns` make an image of height x width; of that, the window.
Image resize_part(const Image& image, const CropBox& pixels, const Axis& rows_axis, const Axis& columns_axis,
                  int height, int width, const CropBox& window, const Kernel& kernel, bool avx2) {
  check_box(pixels, image.height, image.width);
  check_box(window, height, width);
  RIFFLE_CHECK(image.channels == 1 || image.channels == 3, "image of ", image.channels, " channels");
  const bool horizontal = !columns_axis.is_identity(width), vertical = !rows_axis.is_identity(height);
  const auto channels = static_cast<size_t>(image.channels);
  const size_t image_pitch = static_cast<size_t>(image.width) * channels;
  const size_t out_bytes = static_cast<size_t>(window.width) * channels;
  Image out(window.height, window.width, image.channels);

  // The input rows that the window needs, from the window's first column where that axis keeps its size.
  Filter rows_filter;
  int first_row = window.top, row_count = window.height;
  if (vertical) {
    rows_filter = make_filter(kernel, rows_axis, height, window.top, window.height);
    first_row = rows_filter.firsts.front();
    row_count = rows_filter.firsts.back() + rows_filter.counts.back() - first_row;
    for (int& first : rows_filter.firsts) first -= first_row;
  }
  const int first_column = pixels.left + (horizontal ? 0 : window.left);
  const size_t offset =
      static_cast<size_t>(pixels.top + first_row) * image_pitch + static_cast<size_t>(first_column) * channels;
  Rows rows{image.pixels.data() + offset, image_pitch, row_count};

  std::vector<uint8_t> narrowed;
  if (horizontal) {
    const Filter columns_filter = make_filter(kernel, columns_axis, width, window.left, window.width);
    if (vertical) narrowed.resize(static_cast<size_t>(row_count) * out_bytes);
    uint8_t* target = vertical ? narrowed.data() : out.pixels.data();
    resize_horizontally(avx2, rows, pixels.width, image.channels, columns_filter, target);
    rows = {target, out_bytes, row_count};
  }
  if (vertical) {
    resize_vertically(avx2, rows, rows_filter, out_bytes, out.pixels.data());
  } else if (!horizontal) {
    for (int y = 0; y < window.height; ++y)
      std::memcpy(out.pixels.data() + static_cast<size_t>(y) * out_bytes,
                  rows.data + static_cast<size_t>(y) * image_pitch, out_bytes);
  }
  return out;
}

// Pixels whose centres lie in begin .. begin + length, and that interval seen from the first of them.
struct PixelSpan {
  int first;
  Axis axis;
};
PixelSpan span_of(double begin, double length, int size) {
  const int first = std::clamp(static_cast<int>(std::ceil(begin - 0.5)), 0, size - 1);
  const int end = std::clamp(static_cast<int>(std::ceil(begin + length - 0.5)), first + 1, size);
  return {first, {end - first, begin - first, length}};
}

}  // namespace

Image resize_pillow_window(const Image& image, const CropBox& box, int height, int width, const CropBox& window,
                           Interpolation interpolation, ResizeLoops choice) {
  return resize_part(image, box, whole(box.height), whole(box.width), height, width, window, kernel_of(interpolation),
                     resize_with_avx2(choice));
}

Image resize_fractional(const Image& image, const FractionalBox& box, int height, int width) {
  RIFFLE_CHECK(box.height > 0 && box.width > 0, "box of ", box.height, "x", box.width);
  const PixelSpan rows = span_of(box.top, box.height, image.height);
  const PixelSpan columns = span_of(box.left, box.width, image.width);
  return resize_part(image, {rows.first, columns.first, rows.axis.count, columns.axis.count}, rows.axis, columns.axis,
                     height, width, {0, 0, height, width}, kernel_of(Interpolation::kPillowBilinear),
                     resize_with_avx2(ResizeLoops::kBest));
}

}  // namespace riffle
