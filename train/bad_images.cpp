// Lines about unreadable images.
#include "train/bad_images.h"

#include <algorithm>

#include "core/check.h"

namespace riffle {

std::vector<std::string> describe_bad_images(const std::vector<Loader::BadImage>& images,
                                             const std::string& what_happened) {
  constexpr size_t kShown = 5;
  if (images.empty()) return {};
  std::vector<std::string> lines{join("warning: ", images.size(),
                                      images.size() == 1 ? " unreadable image was " : " unreadable images were ",
                                      what_happened, ":")};
  for (size_t i = 0; i < std::min(images.size(), kShown); ++i) lines.push_back("  " + images[i].reason);
  if (images.size() > kShown) lines.push_back(join("  and ", images.size() - kShown, " more"));
  return lines;
}

}  // namespace riffle
