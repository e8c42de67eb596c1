// Colour and sharpness: see augment_color.h. Pillow's sources: libImaging/Blend.c, Convert.c, Filter.c, and
// ImageEnhance.py, https://github.com/python-pillow/Pillow.
#include "data/augment_color.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "data/pixel_loops.h"

namespace riffle {
namespace {

// The principal components of ImageNet's colours in 0..1, as published with cuda-convnet: variances' scale, and R, G, B
// of each component.
constexpr double kEigenvalues[3] = {0.2175, 0.0188, 0.0045};
constexpr double kEigenvectors[3][3] = {
    {-0.5675, -0.5808, -0.5836}, {0.7192, -0.0045, -0.6948}, {0.4009, -0.8140, 0.4203}};

size_t pixel_count(const Image& image) {
  return static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
}

// Blending with the image itself or with nothing is no work.
bool is_one(double factor) {
  RIFFLE_CHECK(factor >= 0 && std::isfinite(factor), "factor ", factor);
  return static_cast<float>(factor) == 1.0f;
}

Image smoothed(const Image& image) {
  Image out = image;  // the border is kept
  const auto step = static_cast<size_t>(image.channels);
  const size_t row_bytes = static_cast<size_t>(image.width) * step;
  for (int y = 1; y + 1 < image.height; ++y) {
    const size_t at = static_cast<size_t>(y) * row_bytes;
    const uint8_t* row = image.pixels.data() + at;
    pixel_loops().smooth_row(row - row_bytes, row, row + row_bytes, row_bytes, step, out.pixels.data() + at);
  }
  return out;
}

struct HueSaturation {
  int hue, saturation;  // 0..255
};

// Pillow's rgb2hsv, which mixes f32 and double. The value is `max`.
HueSaturation hue_saturation(int red, int green, int blue, int max, int min) {
  const auto range = static_cast<float>(max - min);
  const auto part = [&](int channel) { return static_cast<float>(max - channel) / range; };
  float sixths = 0;
  if (red == max) {
    sixths = part(blue) - part(green);
  } else if (green == max) {
    sixths = static_cast<float>(2.0 + part(red) - part(blue));
  } else {
    sixths = static_cast<float>(4.0 + part(green) - part(red));
  }
  double turn = sixths / 6.0 + 1.0;  // 5/6 .. 2
  if (turn >= 1.0) turn -= 1.0;      // the remainder of division by 1, exact
  return {static_cast<int>(static_cast<float>(turn) * 255.0),
          static_cast<int>(range / static_cast<float>(max) * 255.0)};
}

// Where a hue lies on the circle of six sectors.
struct Sector {
  int index;       // 0..5
  float fraction;  // of the sector
};

Sector sector_of(int hue) {
  const double sixths = static_cast<float>(hue) * 6.0 / 255.0;
  const int index = static_cast<int>(sixths);
  return {index % 6, static_cast<float>(sixths - static_cast<float>(index))};
}

// Pillow's hsv2rgb.
void write_rgb(const Sector& sector, int saturation, int value, uint8_t* rgb) {
  const float s = static_cast<float>(static_cast<float>(saturation) / 255.0), f = sector.fraction;
  // Halves upwards, like C's round(): x is not negative, and never the one double below 1/2.
  const auto rounded = [](double x) { return static_cast<uint8_t>(static_cast<int>(x + 0.5)); };  // NOLINT
  const auto v = static_cast<uint8_t>(value);
  const uint8_t p = rounded(v * (1.0 - s));
  const uint8_t q = rounded(v * (1.0 - s * f));
  const uint8_t t = rounded(v * (1.0 - s * (1.0 - f)));
  const uint8_t colours[6][3] = {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}};
  std::copy_n(colours[sector.index], 3, rgb);
}

}  // namespace

void adjust_brightness(Image& image, double factor) {
  if (is_one(factor)) return;
  pixel_loops().blend_with_value(image.pixels.data(), image.pixels.size(), 0, static_cast<float>(factor));
}

void adjust_contrast(Image& image, double factor) {
  if (is_one(factor)) return;
  const size_t count = pixel_count(image);
  int64_t sum = 0;
  if (image.channels == 3) {
    sum = pixel_loops().luma_sum(image.pixels.data(), count);
  } else {
    for (const uint8_t pixel : image.pixels) sum += pixel;
  }
  const auto mean = static_cast<int>(std::lround(static_cast<double>(sum) / static_cast<double>(count)));
  pixel_loops().blend_with_value(image.pixels.data(), image.pixels.size(), mean, static_cast<float>(factor));
}

void adjust_saturation(Image& image, double factor) {
  if (is_one(factor) || image.channels == 1) return;
  pixel_loops().blend_with_luma(image.pixels.data(), pixel_count(image), static_cast<float>(factor));
}

void adjust_sharpness(Image& image, double factor) {
  if (is_one(factor)) return;
  const Image degenerate = smoothed(image);
  pixel_loops().blend_with_image(degenerate.pixels.data(), image.pixels.data(), image.pixels.size(),
                                 static_cast<float>(factor));
}

void adjust_hue(Image& image, double shift) {
  RIFFLE_CHECK(shift >= -0.5 && shift <= 0.5, "hue shift ", shift);
  if (image.channels == 1) return;
  const int added = static_cast<int>(shift * 255);  // truncated, and wraps around
  Sector sectors[256];
  for (int hue = 0; hue < 256; ++hue) sectors[hue] = sector_of((hue + added) & 255);
  uint8_t* rgb = image.pixels.data();
  for (size_t i = 0; i < pixel_count(image); ++i, rgb += 3) {
    const int max = std::max({rgb[0], rgb[1], rgb[2]}), min = std::min({rgb[0], rgb[1], rgb[2]});
    if (max == min) continue;  // gray has no hue
    const HueSaturation colour = hue_saturation(rgb[0], rgb[1], rgb[2], max, min);
    if (colour.saturation == 0) {
      rgb[0] = rgb[1] = rgb[2] = static_cast<uint8_t>(max);
    } else {
      write_rgb(sectors[colour.hue], colour.saturation, max, rgb);
    }
  }
}

void make_gray(Image& image) {
  if (image.channels == 3) pixel_loops().make_gray(image.pixels.data(), pixel_count(image));
}

std::array<int, 3> lighting_offsets(const std::array<double, 3>& weights) {
  std::array<int, 3> offsets{};
  for (size_t channel = 0; channel < 3; ++channel) {
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) sum += weights[i] * kEigenvalues[i] * kEigenvectors[i][channel];
    offsets[channel] = static_cast<int>(std::lround(255 * sum));
  }
  return offsets;
}

void add_to_channels(Image& image, const std::array<int, 3>& offsets) {
  RIFFLE_CHECK(image.channels == 3, "image of ", image.channels, " channels");
  pixel_loops().add_to_channels(image.pixels.data(), pixel_count(image), offsets.data());
}

}  // namespace riffle
