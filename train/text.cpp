// Numbers as people read them.
#include "train/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/check.h"

namespace riffle {
namespace {

std::string print(const char* format, int precision, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, precision, value);
  return buffer.data();
}

std::string two_units(int64_t large, char large_unit, int64_t small, char small_unit) {
  const std::string digits = std::to_string(small);
  return std::to_string(large) + large_unit + (small < 10 ? "0" : "") + digits + small_unit;
}

}  // namespace

std::string format_count(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string format_fixed(double value, int decimals) {
  return print("%.*f", decimals, value);
}

std::string format_significant(double value, int digits) {
  return print("%.*g", digits, value);
}

std::string format_percent(double fraction) {
  return format_fixed(100 * fraction, 2) + "%";
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const int64_t total = std::llround(seconds);
  if (total < 60) return std::to_string(total) + "s";
  if (total < 3600) return two_units(total / 60, 'm', total % 60, 's');
  if (total < 24 * 3600) return two_units(total / 3600, 'h', total / 60 % 60, 'm');
  return two_units(total / (24 * 3600), 'd', total / 3600 % 24, 'h');
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return format_fixed(bytes, unit == 0 ? 0 : 1) + " " + kUnits[unit];
}

int64_t parse_bytes(const std::string& text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  size_t unit_at = digits;
  while (unit_at < text.size() && text[unit_at] == ' ') ++unit_at;
  const std::string unit = text.substr(unit_at);
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  const auto found = std::find(kUnits.begin(), kUnits.end(), unit.empty() ? "B" : unit);
  double value = 0;
  char rest = 0;
  const bool number = std::sscanf(text.substr(0, digits).c_str(), "%lf%c", &value, &rest) == 1;
  const double bytes = value * std::pow(1024.0, static_cast<double>(found - kUnits.begin()));
  constexpr double kMost = 1e18;
  if (!number || found == kUnits.end() || bytes > kMost)
    fail_usage("'", text, "' is no number of bytes; expected one such as 8GiB (B, KiB, MiB, GiB, TiB), or 0");
  return static_cast<int64_t>(bytes);
}

std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 127; }, '?');
  return text;
}

std::string aligned_table(const std::vector<std::vector<std::string>>& rows, size_t first_number) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      text += (i >= first_number ? space + row[i] : row[i] + space) + (i + 1 < row.size() ? "  " : "\n");
    }
  }
  return text;
}

std::string format_names(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5, kLongest = 100;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    const std::string name = names[i].size() <= kLongest ? names[i] : names[i].substr(0, kLongest) + "...";
    text += (i == 0 ? "'" : ", '") + printable(name) + "'";
  }
  return text + (names.size() > kShown ? ", ..." : "");
}

}  // namespace riffle
