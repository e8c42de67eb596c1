// "Did you mean": the right word nearest to a wrong one.
#pragma once

#include <string>
#include <vector>

namespace riffle {

// The candidate closest to `word` by edit distance, or "" if none is near enough to suggest.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace riffle
