// Columns of blocks.
#include "train/terminal_chart.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace riffle {
namespace {

constexpr std::array<const char*, 9> kBlocks{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array<const char*, 4> kCharacters{" ", ".", ":", "#"};

// Steps of a column whose top is `largest`.
std::vector<size_t> heights(const std::vector<double>& values, double largest, size_t steps) {
  std::vector<size_t> result;
  for (const double value : values) {
    const double height = largest > 0 ? value / largest * static_cast<double>(steps) : 0;
    result.push_back(value > 0 ? std::max<size_t>(1, static_cast<size_t>(std::lround(height))) : 0);
  }
  return result;
}

}  // namespace

std::vector<std::string> column_chart(const std::vector<double>& values, size_t rows, bool utf8) {
  const size_t steps_a_row = utf8 ? kBlocks.size() - 1 : kCharacters.size() - 1;
  const double largest = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  const std::vector<size_t> columns = heights(values, largest, rows * steps_a_row);
  std::vector<std::string> lines(rows);
  for (size_t row = 0; row < rows; ++row) {
    const size_t below = (rows - 1 - row) * steps_a_row;
    for (const size_t height : columns) {
      const size_t filled = std::min(height > below ? height - below : 0, steps_a_row);
      lines[row] += utf8 ? kBlocks[filled] : kCharacters[filled];
    }
  }
  return lines;
}

}  // namespace riffle
