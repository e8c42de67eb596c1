// A check for command line options that are whole numbers; CLI11's own calls "abc" a value out of range.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

namespace riffle {

// Accepts min to max, both included; the message quotes what was given and says what would be right.
CLI::Validator whole_number(int64_t min, int64_t max);

}  // namespace riffle
