// A confusion matrix as a picture.
#include "train/report/confusion_image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

namespace riffle {
namespace {

constexpr int kWrittenClasses = 32;  // up to so many, counts fit into the cells
constexpr int kSmallestSide = 640;   // of the matrix in pixels, where the classes are few

struct Color {
  uint8_t red, green, blue;
};
constexpr Color kPaper{255, 255, 255}, kInk{40, 44, 52}, kGrid{224, 228, 234};
constexpr Color kRight{0, 84, 159}, kWrong{200, 80, 0};

Color mix(Color from, Color to, double share) {
  const auto channel = [share](uint8_t a, uint8_t b) { return static_cast<uint8_t>(std::lround(a + share * (b - a))); };
  return {channel(from.red, to.red), channel(from.green, to.green), channel(from.blue, to.blue)};
}

void fill(Image& image, int left, int top, int width, int height, Color color) {
  for (int y = std::max(0, top); y < std::min(image.height, top + height); ++y) {
    for (int x = std::max(0, left); x < std::min(image.width, left + width); ++x) {
      uint8_t* pixel = image.pixels.data() +
                       3 * (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x));
      pixel[0] = color.red;
      pixel[1] = color.green;
      pixel[2] = color.blue;
    }
  }
}

// Digits of 3 x 5 dots, a row for every three bits, the highest first.
constexpr int kDigitWidth = 3, kDigitHeight = 5;
constexpr std::array<uint16_t, 10> kDigits{0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111,
                                           0b101101111001001, 0b111100111001111, 0b111100111101111, 0b111001010010010,
                                           0b111101111101111, 0b111101111001111};

int number_width(int64_t number, int dot) {
  return (static_cast<int>(std::to_string(number).size()) * (kDigitWidth + 1) - 1) * dot;
}

void write_number(Image& image, int left, int top, int64_t number, int dot, Color color) {
  for (const char digit : std::to_string(number)) {
    const uint16_t dots = kDigits[static_cast<size_t>(digit - '0')];
    for (int bit = 0; bit < kDigitWidth * kDigitHeight; ++bit) {
      if ((dots >> (kDigitWidth * kDigitHeight - 1 - bit) & 1) == 0) continue;
      fill(image, left + bit % kDigitWidth * dot, top + bit / kDigitWidth * dot, dot, dot, color);
    }
    left += (kDigitWidth + 1) * dot;
  }
}

// The matrix with neighbouring classes added up, so that at most kMostCells cells lie side by side.
struct Grid {
  int64_t classes = 0, classes_in_cell = 1;
  int cells = 0;
  std::vector<int64_t> counts;  // (cells, cells)
  std::vector<int64_t> images;  // (cells): of a row

  explicit Grid(const ClassStatistics& statistics)
      : classes(static_cast<int64_t>(statistics.classes().size())),
        classes_in_cell((classes + kMostCells - 1) / kMostCells),
        cells(static_cast<int>((classes + classes_in_cell - 1) / classes_in_cell)),
        counts(static_cast<size_t>(cells) * static_cast<size_t>(cells)),
        images(static_cast<size_t>(cells)) {
    for (const auto& [cell, count] : statistics.cells()) counts[at(cell.first, cell.second)] += count;
    for (int64_t label = 0; label < classes; ++label) {
      images[static_cast<size_t>(label / classes_in_cell)] += statistics.classes()[static_cast<size_t>(label)].images;
    }
  }
  size_t at(int64_t label, int64_t predicted) const {
    return static_cast<size_t>(label / classes_in_cell) * static_cast<size_t>(cells) +
           static_cast<size_t>(predicted / classes_in_cell);
  }
  int64_t count(int row, int column) const {
    return counts[static_cast<size_t>(row) * static_cast<size_t>(cells) + static_cast<size_t>(column)];
  }
  double share(int row, int column) const {
    const int64_t whole = images[static_cast<size_t>(row)];
    return whole == 0 ? 0 : static_cast<double>(count(row, column)) / static_cast<double>(whole);
  }
};

// The square root, so that rare mistakes are seen: a hundredth of a row has a tenth of the colour.
Color cell_color(const Grid& grid, int row, int column) {
  return mix(kPaper, row == column ? kRight : kWrong, std::sqrt(grid.share(row, column)));
}

void draw_cells(Image& image, const Grid& grid, int left, int top, int cell, int gap) {
  for (int row = 0; row < grid.cells; ++row) {
    for (int column = 0; column < grid.cells; ++column) {
      fill(image, left + column * cell, top + row * cell, cell - gap, cell - gap, cell_color(grid, row, column));
    }
  }
}

void write_counts(Image& image, const Grid& grid, int left, int top, int cell) {
  for (int row = 0; row < grid.cells; ++row) {
    for (int column = 0; column < grid.cells; ++column) {
      const int64_t count = grid.count(row, column);
      if (count == 0) continue;
      int dot = std::max(1, cell / 24);
      while (dot > 1 && number_width(count, dot) > cell - 4) --dot;
      const bool dark = grid.share(row, column) > 0.25;
      write_number(image, left + column * cell + (cell - number_width(count, dot)) / 2,
                   top + row * cell + (cell - kDigitHeight * dot) / 2, count, dot, dark ? kPaper : kInk);
    }
  }
}

// Class indices between two ticks: every class where they fit, else a round number with at most about ten ticks.
int64_t tick_distance(const Grid& grid) {
  if (grid.classes <= kWrittenClasses) return 1;
  int64_t power = 1;
  while (true) {
    for (const int64_t step : {power, 2 * power, 5 * power}) {
      if (grid.classes <= 12 * step) return step;
    }
    power *= 10;
  }
}

}  // namespace

Image confusion_image(const ClassStatistics& statistics) {
  const Grid grid(statistics);
  const bool written = grid.classes <= kWrittenClasses;
  const int cell = std::max(1, kSmallestSide / std::max(1, grid.cells)), gap = written ? 1 : 0;
  const int side = cell * grid.cells, dot = 3;
  const int margin = number_width(grid.classes - 1, dot) + 20, tick = 6, border = 12;
  Image image(margin + side + border, margin + side + border, 3);
  fill(image, 0, 0, image.width, image.height, kPaper);
  fill(image, margin - 1, margin - 1, side + 2, side + 2, kGrid);
  draw_cells(image, grid, margin, margin, cell, gap);
  if (written) write_counts(image, grid, margin, margin, cell);
  for (int64_t index = 0; index < grid.classes; index += tick_distance(grid)) {
    const int at = margin + static_cast<int>(index / grid.classes_in_cell) * cell + cell / 2;
    const int width = number_width(index, dot);
    fill(image, margin - tick - 1, at, tick, 1, kInk);
    fill(image, at, margin - tick - 1, 1, tick, kInk);
    write_number(image, margin - tick - 5 - width, at - kDigitHeight * dot / 2, index, dot, kInk);
    write_number(image, std::min(at - width / 2, image.width - width), margin - tick - 5 - kDigitHeight * dot, index,
                 dot, kInk);
  }
  return image;
}

}  // namespace riffle
