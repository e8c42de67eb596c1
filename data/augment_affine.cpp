// Affine maps: see augment_affine.h. Sources: torchvision's transforms/functional.py, Pillow's Image.rotate() and
// libImaging/Geometry.c, https://github.com/python-pillow/Pillow.
#include "data/augment_affine.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/check.h"

namespace riffle {
namespace {

constexpr double kDegree = 3.14159265358979323846 / 180.0;

// A source pixel, or null outside the image.
const uint8_t* pixel_at(const Image& image, int y, int x) {
  return image.pixels.data() + (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x)) *
                                   static_cast<size_t>(image.channels);
}

Image filled_like(const Image& image, uint8_t fill) {
  Image out(image.height, image.width, image.channels);
  if (fill != 0) std::fill(out.pixels.begin(), out.pixels.end(), fill);
  return out;
}

// Pillow has one way for maps that only scale and move, and one in 16.16 fixed point for the others.
int truncated(double coordinate) {
  return coordinate < 0 ? -1 : static_cast<int>(coordinate);
}

Image sample_nearest_separable(const Image& image, const AffineMap& map, uint8_t fill) {
  Image out = filled_like(image, fill);
  const auto channels = static_cast<size_t>(image.channels);
  std::vector<int> columns(static_cast<size_t>(image.width));
  double x_in = map[2] + map[0] * 0.5;
  for (int& column : columns) {
    column = truncated(x_in);
    x_in += map[0];
  }
  double y_in = map[5] + map[4] * 0.5;
  uint8_t* target = out.pixels.data();
  for (int y = 0; y < image.height; ++y, y_in += map[4]) {
    const int row = truncated(y_in);
    for (const int column : columns) {
      if (row >= 0 && row < image.height && column >= 0 && column < image.width)
        std::copy_n(pixel_at(image, row, column), channels, target);
      target += channels;
    }
  }
  return out;
}

int64_t fixed_point(double value) {
  return static_cast<int64_t>(std::floor(value * 65536.0 + 0.5));
}

template <int kChannels>
Image sample_nearest(const Image& image, const AffineMap& map, uint8_t fill) {
  Image out = filled_like(image, fill);
  const int64_t x_step = fixed_point(map[0]), y_step = fixed_point(map[3]);
  const int64_t row_x_step = fixed_point(map[1]), row_y_step = fixed_point(map[4]);
  int64_t row_x = fixed_point(map[2] + map[0] * 0.5 + map[1] * 0.5);
  int64_t row_y = fixed_point(map[5] + map[3] * 0.5 + map[4] * 0.5);
  uint8_t* target = out.pixels.data();
  const auto width = static_cast<uint64_t>(image.width), height = static_cast<uint64_t>(image.height);
  for (int y = 0; y < image.height; ++y, row_x += row_x_step, row_y += row_y_step) {
    int64_t x_in = row_x, y_in = row_y;
    for (int x = 0; x < image.width; ++x, x_in += x_step, y_in += y_step, target += kChannels) {
      const int64_t column = x_in >> 16, row = y_in >> 16;
      if (static_cast<uint64_t>(column) >= width || static_cast<uint64_t>(row) >= height) continue;
      const uint8_t* from = pixel_at(image, static_cast<int>(row), static_cast<int>(column));
      for (int c = 0; c < kChannels; ++c) target[c] = from[c];
    }
  }
  return out;
}

double between(double a, double b, double part) {
  return a + (b - a) * part;
}

template <int kChannels>
void interpolate(const Image& image, double x_in, double y_in, uint8_t* target) {
  const int x = static_cast<int>(std::floor(x_in - 0.5)), y = static_cast<int>(std::floor(y_in - 0.5));
  const double right = x_in - 0.5 - x, down = y_in - 0.5 - y;
  const int x0 = std::max(x, 0), x1 = std::min(x + 1, image.width - 1);
  const int y0 = std::max(y, 0), y1 = std::min(y + 1, image.height - 1);
  const uint8_t *top_left = pixel_at(image, y0, x0), *top_right = pixel_at(image, y0, x1);
  const uint8_t *bottom_left = pixel_at(image, y1, x0), *bottom_right = pixel_at(image, y1, x1);
  for (int c = 0; c < kChannels; ++c) {
    const double top = between(top_left[c], top_right[c], right);
    const double bottom = between(bottom_left[c], bottom_right[c], right);
    target[c] = static_cast<uint8_t>(between(top, bottom, down));  // truncated
  }
}

template <int kChannels>
Image sample_bilinear(const Image& image, const AffineMap& map, uint8_t fill) {
  Image out = filled_like(image, fill);
  uint8_t* target = out.pixels.data();
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x, target += kChannels) {
      const double x_in = map[0] * (x + 0.5) + map[1] * (y + 0.5) + map[2];
      const double y_in = map[3] * (x + 0.5) + map[4] * (y + 0.5) + map[5];
      if (x_in < 0.0 || x_in >= image.width || y_in < 0.0 || y_in >= image.height) continue;
      interpolate<kChannels>(image, x_in, y_in, target);
    }
  }
  return out;
}

// The inverse of: shear by two angles (degrees) about `centre`, then translate. torchvision's
// _get_inverse_affine_matrix() for no rotation and scale 1, with its order of operations.
struct Point {
  double x, y;
};
AffineMap inverse_map(const Point& shear_degrees, const Point& translation, const Point& centre) {
  const double sx = shear_degrees.x * kDegree, sy = shear_degrees.y * kDegree;
  const double a = std::cos(-sy) / std::cos(sy);
  const double b = -std::cos(-sy) * std::tan(sx) / std::cos(sy) - 0.0;
  const double c = std::sin(-sy) / std::cos(sy);
  const double d = -std::sin(-sy) * std::tan(sx) / std::cos(sy) + 1.0;
  AffineMap map{d, -b, 0.0, -c, a, 0.0};
  map[2] += map[0] * (-centre.x - translation.x) + map[1] * (-centre.y - translation.y);
  map[5] += map[3] * (-centre.x - translation.x) + map[4] * (-centre.y - translation.y);
  map[2] += centre.x;
  map[5] += centre.y;
  return map;
}

double degrees_of(double tangent) {
  return std::atan(tangent) * (180.0 / 3.14159265358979323846);
}

// Python's round(value, 15): through decimal digits, correctly rounded.
double rounded_to_15_digits(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.15f", value);
  return std::strtod(text, nullptr);
}

// By a multiple of 90 degrees, counter-clockwise. Odd multiples need a square image.
Image turned(const Image& image, int quarters) {
  Image out(image.height, image.width, image.channels);
  const auto channels = static_cast<size_t>(image.channels);
  const int bottom = image.height - 1, right = image.width - 1;
  uint8_t* target = out.pixels.data();
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x, target += channels) {
      const uint8_t* from = quarters == 1   ? pixel_at(image, x, right - y)
                            : quarters == 2 ? pixel_at(image, bottom - y, right - x)
                                            : pixel_at(image, bottom - x, y);
      std::copy_n(from, channels, target);
    }
  }
  return out;
}

}  // namespace

AffineInterpolation parse_affine_interpolation(const std::string& name) {
  if (name == "nearest") return AffineInterpolation::kNearest;
  if (name == "bilinear") return AffineInterpolation::kBilinear;
  fail_usage("interpolation is '", name, "'; expected nearest or bilinear");
}

Image transform_affine(const Image& image, const AffineMap& map, const Sampling& sampling) {
  RIFFLE_CHECK(image.channels == 1 || image.channels == 3, "image of ", image.channels, " channels");
  const bool gray = image.channels == 1;
  if (sampling.interpolation == AffineInterpolation::kBilinear)
    return gray ? sample_bilinear<1>(image, map, sampling.fill) : sample_bilinear<3>(image, map, sampling.fill);
  if (map[1] == 0 && map[3] == 0) return sample_nearest_separable(image, map, sampling.fill);
  return gray ? sample_nearest<1>(image, map, sampling.fill) : sample_nearest<3>(image, map, sampling.fill);
}

Image shear_x(const Image& image, double tangent, const Sampling& sampling) {
  return transform_affine(image, inverse_map({degrees_of(tangent), 0}, {0, 0}, {0, 0}), sampling);
}

Image shear_y(const Image& image, double tangent, const Sampling& sampling) {
  return transform_affine(image, inverse_map({0, degrees_of(tangent)}, {0, 0}, {0, 0}), sampling);
}

Image translate(const Image& image, int right, int down, const Sampling& sampling) {
  const Point centre{image.width * 0.5, image.height * 0.5};
  const Point by{static_cast<double>(right), static_cast<double>(down)};
  return transform_affine(image, inverse_map({0, 0}, by, centre), sampling);
}

Image rotate(const Image& image, double degrees, const Sampling& sampling) {
  double turn = std::fmod(degrees, 360.0);
  if (turn < 0) turn += 360.0;
  if (turn == 0) return image;
  if (turn == 180) return turned(image, 2);
  if ((turn == 90 || turn == 270) && image.width == image.height) return turned(image, turn == 90 ? 1 : 3);
  const double angle = -(turn * kDegree);
  const double cosine = rounded_to_15_digits(std::cos(angle)), sine = rounded_to_15_digits(std::sin(angle));
  const double minus_sine = rounded_to_15_digits(-std::sin(angle));
  const double x = image.width / 2.0, y = image.height / 2.0;
  AffineMap map{cosine, sine, 0.0, minus_sine, cosine, 0.0};
  map[2] = cosine * -x + sine * -y + 0.0 + x;
  map[5] = minus_sine * -x + cosine * -y + 0.0 + y;
  return transform_affine(image, map, sampling);
}

}  // namespace riffle
