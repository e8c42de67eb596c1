// Unreadable images, as lines for people.
#pragma once

#include <string>
#include <vector>

#include "data/loader.h"

namespace riffle {

// "warning: 2 unreadable images were <what happened>:" and the reasons of the first few; nothing where there are none.
std::vector<std::string> describe_bad_images(const std::vector<Loader::BadImage>& images,
                                             const std::string& what_happened);

}  // namespace riffle
