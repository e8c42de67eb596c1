// Comma-separated values.
#include "train/report/csv.h"

#include <cmath>

#include "train/text.h"

namespace riffle {

CsvWriter& CsvWriter::field(const std::string& text) {
  if (!line_is_empty_) text_ += ',';
  line_is_empty_ = false;
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    text_ += text;
    return *this;
  }
  text_ += '"';
  for (const char symbol : text) {
    if (symbol == '"') text_ += '"';
    text_ += symbol;
  }
  text_ += '"';
  return *this;
}

CsvWriter& CsvWriter::fraction(double value) {
  return field(format_fixed(value, 6));
}

CsvWriter& CsvWriter::fraction(const std::optional<double>& value) {
  return value ? fraction(*value) : field("");
}

CsvWriter& CsvWriter::number(double value) {
  // A NaN's sign means nothing, but printf() shows it.
  return field(std::isnan(value) ? "nan" : format_significant(value, 6));
}

void CsvWriter::end_line() {
  text_ += "\r\n";
  line_is_empty_ = true;
}

}  // namespace riffle
