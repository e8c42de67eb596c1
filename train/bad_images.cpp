// Lines about unreadable and truncated images.
#include "train/bad_images.h"

#include <algorithm>

#include "core/check.h"

namespace riffle {
namespace {

std::vector<std::string> describe(const char* kind, const std::vector<std::string>& images,
                                  const std::string& what_happened) {
  constexpr size_t kShown = 5;
  if (images.empty()) return {};
  std::vector<std::string> lines{join("warning: ", images.size(), " ", kind,
                                      images.size() == 1 ? " image was " : " images were ", what_happened, ":")};
  for (size_t i = 0; i < std::min(images.size(), kShown); ++i) lines.push_back("  " + images[i]);
  if (images.size() > kShown) lines.push_back(join("  and ", images.size() - kShown, " more"));
  return lines;
}

}  // namespace

std::vector<std::string> describe_bad_images(const std::vector<Loader::BadImage>& images,
                                             const std::string& what_happened) {
  std::vector<std::string> reasons;
  for (const Loader::BadImage& image : images) reasons.push_back(image.reason);
  return riffle::describe("unreadable", reasons, what_happened);
}

std::vector<std::string> TruncatedImageLog::describe(const std::vector<int64_t>& indices) {
  std::vector<std::string> names;
  for (const int64_t index : indices)
    if (known_.insert(index).second) names.push_back(dataset_.name_in_errors(index));
  return riffle::describe("truncated", names, "used as far as the file goes (data.truncated)");
}

}  // namespace riffle
