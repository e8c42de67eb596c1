// Scalars of a configuration as text: the one place that says what a number, a flag or a duration looks like. Our own
// parser, because yaml-cpp's conversions read "010" as 8, refuse "1e6" as an integer and take "on" for true.
#pragma once

#include <cstdint>
#include <string>

#include "train/config.h"

namespace riffle {

// `text` must be the whole value; returns false, and leaves `value` alone, where it is not one.
bool parse_value(const std::string& text, bool& value);     // true, false (True, TRUE, False, FALSE)
bool parse_value(const std::string& text, int64_t& value);  // 32, 1e6
bool parse_value(const std::string& text, int& value);      // also false where it does not fit
bool parse_value(const std::string& text, uint64_t& value);
bool parse_value(const std::string& text, double& value);       // 0.5, 4e-5, .5; finite
bool parse_value(const std::string& text, std::string& value);  // anything
bool parse_value(const std::string& text, Duration& value);     // 240ep, 0.5ep, 300000it, 240 (epochs); not negative

// The shortest text that parse_value() reads back to the same value; strings are quoted where YAML needs it.
std::string value_text(bool value);
std::string value_text(int64_t value);
std::string value_text(int value);
std::string value_text(uint64_t value);
std::string value_text(double value);
std::string value_text(const std::string& value);
std::string value_text(const Duration& value);
std::string value_text(const LrMultiplier& value);     // {pattern: "fc.*", multiplier: 10}
std::string value_text(const ImageSizeChange& value);  // {from: 30ep, size: 192}

// How messages and the documentation speak of a type.
struct ValueKind {
  const char* one;           // "a number"
  const char* many;          // "numbers"
  const char* example;       // "0.5"
  const char* list_example;  // "[0.5, 0.25]"
};
ValueKind kind_of(const bool&);
ValueKind kind_of(const int64_t&);
ValueKind kind_of(const int&);
ValueKind kind_of(const uint64_t&);
ValueKind kind_of(const double&);
ValueKind kind_of(const std::string&);
ValueKind kind_of(const Duration&);
ValueKind kind_of(const LrMultiplier&);
ValueKind kind_of(const ImageSizeChange&);

}  // namespace riffle
