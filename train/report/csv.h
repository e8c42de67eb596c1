// Comma-separated values as RFC 4180 describes them: lines end in CRLF; a field with a comma, a quote or a line break is
// quoted, and its quotes are doubled.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace riffle {

class CsvWriter {
 public:
  CsvWriter& field(const std::string& text);
  CsvWriter& field(const char* text) { return field(std::string(text)); }
  CsvWriter& field(int64_t value) { return field(std::to_string(value)); }
  CsvWriter& fraction(double value);                        // six decimals
  CsvWriter& fraction(const std::optional<double>& value);  // nothing: an empty field
  CsvWriter& number(double value);                          // six significant digits; "nan", "inf"
  void end_line();

  const std::string& text() const { return text_; }

 private:
  std::string text_;
  bool line_is_empty_ = true;
};

}  // namespace riffle
