// Look-up in the table of classes.
#include "data/imagenet_classes.h"

#include <algorithm>
#include <unordered_map>

namespace riffle {
namespace {

// Full names and the first of each; "" where ambiguous.
std::unordered_map<std::string, std::string> index_names() {
  std::unordered_map<std::string, std::string> wnid_of;
  for (const ImageNetClass& each : imagenet_classes()) {
    const std::string names = each.names;
    for (const std::string& name : {names, names.substr(0, names.find(','))}) {
      const auto [place, added] = wnid_of.emplace(name, each.wnid);
      if (!added && place->second != each.wnid) place->second = "";
    }
  }
  return wnid_of;
}

}  // namespace

const std::vector<ImageNetClass>& imagenet_classes() {
  static const std::vector<ImageNetClass> classes{
#include "data/imagenet_classes.inc"
  };
  return classes;
}

std::vector<std::string> imagenet_wnids() {
  std::vector<std::string> wnids;
  for (const ImageNetClass& each : imagenet_classes()) wnids.emplace_back(each.wnid);
  return wnids;
}

const char* imagenet_names(const std::string& wnid) {
  const std::vector<ImageNetClass>& classes = imagenet_classes();
  const auto found = std::lower_bound(classes.begin(), classes.end(), wnid,
                                      [](const ImageNetClass& each, const std::string& id) { return each.wnid < id; });
  return found != classes.end() && wnid == found->wnid ? found->names : nullptr;
}

std::string imagenet_wnid(const std::string& name) {
  if (imagenet_names(name) != nullptr) return name;
  static const std::unordered_map<std::string, std::string> wnid_of = index_names();
  const auto found = wnid_of.find(name);
  return found == wnid_of.end() ? "" : found->second;
}

}  // namespace riffle
