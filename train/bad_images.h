// Unreadable and truncated images, as lines for people.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "data/loader.h"

namespace riffle {

// "warning: 2 unreadable images were <what happened>:" and the reasons of the first few; nothing where there are none.
std::vector<std::string> describe_bad_images(const std::vector<Loader::BadImage>& images,
                                             const std::string& what_happened);

// Truncated images that a data set accepts, each named once.
class TruncatedImageLog {
 public:
  explicit TruncatedImageLog(const Dataset& dataset) : dataset_(dataset) {}
  // As above, of those among `indices` that no earlier call had.
  std::vector<std::string> describe(const std::vector<int64_t>& indices);

 private:
  const Dataset& dataset_;
  std::unordered_set<int64_t> known_;
};

}  // namespace riffle
