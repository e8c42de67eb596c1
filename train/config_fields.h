// Every configuration field, described once: path, where it lives, what it accepts and what it means. Reading, writing,
// "did you mean" and the check of docs/configuration.md all go through this table.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "train/config.h"

namespace riffle {

// Which values of its type a field accepts; in a list, each element must be one.
struct Constraint {
  double min = -std::numeric_limits<double>::infinity(), max = std::numeric_limits<double>::infinity();
  bool min_included = true, max_included = true;
  std::vector<double> also{};          // accepted besides the interval
  std::vector<std::string> choices{};  // of a string; empty: any

  bool admits(double value) const;
  bool admits(const std::string& value) const;
  std::string text() const;  // ">= 0 and < 1", "-1, or >= 0 and < 1", "one of linear, cosine"; "" if anything goes
};

using FieldPointer =
    std::variant<bool*, int*, int64_t*, uint64_t*, double*, std::string*, Duration*, std::vector<int64_t>*,
                 std::vector<double>*, std::vector<std::string>*, std::vector<Duration>*, std::vector<LrMultiplier>*,
                 std::vector<ImageSizeChange>*, Interval*, std::vector<TransformStep>*>;

struct Field {
  std::string path;    // "schedule.lr"
  FieldPointer value;  // into the Config that the table was made for
  Constraint constraint;
  std::string meaning;  // as docs/configuration.md gives it

  std::string accepted() const;    // "a number >= 0 and < 1"
  std::string value_text() const;  // as YAML, on one line
};

// In the order of the structs. `config` must outlive the table.
std::vector<Field> fields_of(Config& config);

// "schedule.lr" -> "schedule" and "lr".
std::string section_of(const std::string& path);
std::string leaf_of(const std::string& path);
// The sections, in the order of the fields.
std::vector<std::string> sections_of(const std::vector<Field>& fields);

}  // namespace riffle
