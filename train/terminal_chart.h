// A curve in a terminal, as columns of blocks.
#pragma once

#include <string>
#include <vector>

namespace riffle {

// One column a value, from 0 at the bottom to the largest at the top; `rows` lines from top to bottom. What is above 0
// shows. utf8: with blocks in eighths of a row; else with the characters . : and #, for thirds.
std::vector<std::string> column_chart(const std::vector<double>& values, size_t rows, bool utf8);

}  // namespace riffle
