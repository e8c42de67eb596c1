// Numbers as people read them: "1,366,792", "92.13%", "4m12s".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace riffle {

std::string format_count(int64_t value);                   // thousands separated by commas
std::string format_fixed(double value, int decimals);      // "0.512"
std::string format_significant(double value, int digits);  // "0.0001875", "1.2e-07"
std::string format_percent(double fraction);               // 0.9213 -> "92.13%"
std::string format_duration(double seconds);               // "48s", "4m12s", "3h05m", "2d04h"
std::string format_bytes(double bytes);                    // "5.2 MiB"
// "8GiB", "1.5 MiB", "4096" -> bytes. Throws kUsage errors that quote the text and say what is accepted.
int64_t parse_bytes(const std::string& text);
// Control characters become '?': a name may come from a file of anybody's, and a terminal obeys them.
std::string printable(std::string text);
// Rows of the same number of cells as lines: columns to the left, from number `first_number` on to the right.
std::string aligned_table(const std::vector<std::vector<std::string>>& rows, size_t first_number);
// "'a', 'b', 'c', 'd', 'e', ...": the first few, each shortened, control characters as '?'.
std::string format_names(const std::vector<std::string>& names);

}  // namespace riffle
