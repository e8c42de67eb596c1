// Whole numbers on the command line.
#include "train/whole_number.h"

#include "core/check.h"
#include "train/config_values.h"

namespace riffle {

CLI::Validator whole_number(int64_t min, int64_t max) {
  const auto check = [min, max](std::string& text) -> std::string {
    int64_t value = 0;
    if (!parse_value(text, value) || value < min || value > max) {
      return join("'", text, "' is not a whole number from ", min, " to ", max);
    }
    text = std::to_string(value);  // CLI11 would read 010 as 8, and 1e3 not at all
    return "";
  };
  return CLI::Validator(check, "");
}

}  // namespace riffle
