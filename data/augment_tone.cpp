// Maps of pixel values: see augment_tone.h. Pillow's source: ImageOps.py, https://github.com/python-pillow/Pillow.
#include "data/augment_tone.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "data/pixel_loops.h"

namespace riffle {
namespace {

using Table = std::array<uint8_t, 256>;
using Histogram = std::array<int64_t, 256>;

Table identity() {
  Table table{};
  for (size_t i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i);
  return table;
}

// Four tables a channel, because equal neighbours would wait for one another's increment.
Histogram histogram(const Image& image, int channel) {
  std::array<std::array<int32_t, 256>, 4> parts{};
  const auto step = static_cast<size_t>(image.channels);
  size_t at = static_cast<size_t>(channel), part = 0;
  for (; at < image.pixels.size(); at += step) ++parts[part++ & 3][image.pixels[at]];
  Histogram sum{};
  for (const auto& counts : parts) {
    for (size_t i = 0; i < 256; ++i) sum[i] += counts[i];
  }
  return sum;
}

void apply(Image& image, const std::array<Table, 3>& tables) {
  uint8_t* pixel = image.pixels.data();
  const size_t count = image.pixels.size();
  if (image.channels == 1) {
    for (size_t i = 0; i < count; ++i) pixel[i] = tables[0][pixel[i]];
    return;
  }
  for (size_t i = 0; i + 2 < count; i += 3) {
    for (size_t c = 0; c < 3; ++c) pixel[i + c] = tables[c][pixel[i + c]];
  }
}

template <class MakeTable>
void apply_by_histogram(Image& image, MakeTable make_table) {
  std::array<Table, 3> tables{};
  for (int c = 0; c < image.channels; ++c) tables[static_cast<size_t>(c)] = make_table(histogram(image, c));
  apply(image, tables);
}

Table stretched(const Histogram& counts) {
  const auto is_used = [](int64_t count) { return count > 0; };
  const auto low = std::find_if(counts.begin(), counts.end(), is_used) - counts.begin();
  const auto high = 255 - (std::find_if(counts.rbegin(), counts.rend(), is_used) - counts.rbegin());
  Table table = identity();
  if (high <= low) return table;
  const double scale = 255.0 / static_cast<double>(high - low), offset = -static_cast<double>(low) * scale;
  for (size_t i = 0; i < 256; ++i) {
    table[i] = static_cast<uint8_t>(std::clamp(static_cast<int>(static_cast<double>(i) * scale + offset), 0, 255));
  }
  return table;
}

// table[i] = (step/2 + pixels below i) / step, where step is 1/255 of the pixels that do not have the greatest value.
Table equalized(const Histogram& counts) {
  int64_t sum = 0, last = 0, used = 0;
  for (const int64_t count : counts) {
    sum += count;
    if (count == 0) continue;
    last = count;
    ++used;
  }
  const int64_t step = (sum - last) / 255;
  Table table = identity();
  if (used <= 1 || step == 0) return table;
  int64_t below = step / 2;
  for (size_t i = 0; i < 256; ++i) {
    table[i] = static_cast<uint8_t>(std::min<int64_t>(below / step, 255));
    below += counts[i];
  }
  return table;
}

}  // namespace

void posterize(Image& image, int bits) {
  RIFFLE_CHECK(bits >= 1 && bits <= 8, bits, " bits");
  const auto kept = static_cast<uint8_t>(255 & ~((1 << (8 - bits)) - 1));
  pixel_loops().mask(image.pixels.data(), image.pixels.size(), kept);
}

void solarize(Image& image, double threshold) {
  RIFFLE_CHECK(threshold >= 0 && threshold <= 256, "threshold ", threshold);
  pixel_loops().solarize(image.pixels.data(), image.pixels.size(), static_cast<int>(std::ceil(threshold)));
}

void invert(Image& image) {
  pixel_loops().solarize(image.pixels.data(), image.pixels.size(), 0);
}

void stretch_contrast(Image& image) {
  apply_by_histogram(image, stretched);
}

void equalize(Image& image) {
  apply_by_histogram(image, equalized);
}

}  // namespace riffle
