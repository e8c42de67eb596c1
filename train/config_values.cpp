// Scalars of a configuration as text: see config_values.h.
#include "train/config_values.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

namespace riffle {
namespace {

constexpr double kLargestExactInteger = 9007199254740992.0;  // 2^53: beyond it a double skips integers

// from_chars() is strict and ignores the locale, but knows no leading plus.
template <class T>
bool parse_all(const std::string& text, T& value) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (end - begin > 1 && *begin == '+' && begin[1] != '-') ++begin;
  T parsed{};
  const auto [stopped, error] = std::from_chars(begin, end, parsed);
  if (error != std::errc() || stopped != end) return false;
  value = parsed;
  return true;
}

// Digits, or any number with a whole value, such as 1e6.
template <class T>
bool parse_integer(const std::string& text, T& value) {
  if (parse_all(text, value)) return true;
  double number = 0;
  if (!parse_value(text, number)) return false;
  if (number != std::floor(number) || std::abs(number) > kLargestExactInteger) return false;
  if (number < static_cast<double>(std::numeric_limits<T>::min())) return false;
  if (number > static_cast<double>(std::numeric_limits<T>::max())) return false;
  value = static_cast<T>(number);
  return true;
}

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() && text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

bool is_null_word(const std::string& text) {
  return text == "null" || text == "Null" || text == "NULL";
}

// Characters that mean nothing to YAML, wherever in a scalar they stand; the first one must not be a mark either.
bool is_plain(const std::string& text) {
  if (text.empty() || is_null_word(text)) return false;
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  if (!is_word(text.front())) return false;
  for (char c : text) {
    if (!is_word(c) && c != '.' && c != '/' && c != '-') return false;
  }
  return true;
}

std::string quoted(const std::string& text) {
  static const char* const kHex = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

bool parse_value(const std::string& text, bool& value) {
  const bool is_true = text == "true" || text == "True" || text == "TRUE";
  const bool is_false = text == "false" || text == "False" || text == "FALSE";
  if (!is_true && !is_false) return false;
  value = is_true;
  return true;
}

bool parse_value(const std::string& text, int64_t& value) {
  return parse_integer(text, value);
}
bool parse_value(const std::string& text, int& value) {
  return parse_integer(text, value);
}
bool parse_value(const std::string& text, uint64_t& value) {
  return parse_integer(text, value);
}

bool parse_value(const std::string& text, double& value) {
  double number = 0;
  if (!parse_all(text, number) || !std::isfinite(number)) return false;
  value = number;
  return true;
}

bool parse_value(const std::string& text, std::string& value) {
  value = text;
  return true;
}

bool parse_value(const std::string& text, Duration& value) {
  Duration duration;
  std::string number = text;
  if (ends_with(text, "ep") || ends_with(text, "it")) {
    duration.unit = ends_with(text, "it") ? Duration::Unit::kSteps : Duration::Unit::kEpochs;
    number.resize(text.size() - 2);
  }
  if (!parse_value(number, duration.value) || duration.value < 0) return false;
  if (duration.unit == Duration::Unit::kSteps && duration.value != std::floor(duration.value)) return false;
  value = duration;
  return true;
}

std::string value_text(bool value) {
  return value ? "true" : "false";
}
std::string value_text(int64_t value) {
  return std::to_string(value);
}
std::string value_text(int value) {
  return std::to_string(value);
}
std::string value_text(uint64_t value) {
  return std::to_string(value);
}

std::string value_text(double value) {
  // Otherwise 300000 would come out as 3e+05.
  if (value == std::floor(value) && std::abs(value) < 1e15) return std::to_string(static_cast<int64_t>(value));
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general);
  return std::string(buffer, result.ptr);
}

std::string value_text(const std::string& value) {
  return is_plain(value) ? value : quoted(value);
}

std::string value_text(const Duration& value) {
  return value.text();
}

std::string value_text(const LrMultiplier& value) {
  return "{pattern: " + value_text(value.pattern) + ", multiplier: " + value_text(value.multiplier) + "}";
}

std::string value_text(const ImageSizeChange& value) {
  return "{from: " + value_text(value.from) + ", size: " + value_text(value.size) + "}";
}

ValueKind kind_of(const bool&) {
  return {"true or false", "flags", "true", "[true, false]"};
}
ValueKind kind_of(const int64_t&) {
  return {"a whole number", "whole numbers", "32", "[48, 96, 192]"};
}
ValueKind kind_of(const int&) {
  return kind_of(int64_t{});
}
ValueKind kind_of(const uint64_t&) {
  return {"a whole number >= 0", "whole numbers >= 0", "42", "[1, 2]"};
}
ValueKind kind_of(const double&) {
  return {"a number", "numbers", "0.5", "[0.5, 0.25]"};
}
ValueKind kind_of(const std::string&) {
  return {"a string", "strings", "\"text\"", "[cat, dog]"};
}
ValueKind kind_of(const Duration&) {
  return {"a duration", "durations", "240ep or 300000it", "[30ep, 60ep]"};
}
ValueKind kind_of(const LrMultiplier&) {
  const char* const kExample = "{pattern: \"fc.*\", multiplier: 10}";
  return {"a pattern with its multiplier", "patterns with their multipliers", kExample,
          "[{pattern: \"fc.*\", multiplier: 10}]"};
}

ValueKind kind_of(const ImageSizeChange&) {
  return {"a time with an image size", "times with image sizes", "{from: 30ep, size: 192}",
          "[{from: 30ep, size: 192}]"};
}

}  // namespace riffle
