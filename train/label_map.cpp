// Matching classes by name.
#include "train/label_map.h"

#include <unordered_map>

#include "core/check.h"
#include "data/imagenet_classes.h"
#include "train/nearest.h"
#include "train/text.h"

namespace riffle {
namespace {

// Class names -> indices. A class of ImageNet is also found by its other names: WordNet id, or what people call it.
class ClassIndex {
 public:
  explicit ClassIndex(const std::vector<std::string>& classes) {
    for (size_t i = 0; i < classes.size(); ++i) {
      const auto index = static_cast<int32_t>(i);
      const bool added = by_name_.emplace(classes[i], index).second;
      if (!added) fail("the network has two classes named '", classes[i], "'; labels cannot be matched by name");
      const std::string wnid = imagenet_wnid(classes[i]);
      if (wnid.empty()) continue;
      const auto [place, first] = by_wnid_.emplace(wnid, index);
      if (!first) place->second = kAmbiguous;
    }
  }

  // -1 where the network has no such class.
  int32_t find(const std::string& name) const {
    const auto found = by_name_.find(name);
    if (found != by_name_.end()) return found->second;
    const auto same = by_wnid_.find(imagenet_wnid(name));
    return same == by_wnid_.end() ? -1 : same->second;
  }

 private:
  static constexpr int32_t kAmbiguous = -1;
  std::unordered_map<std::string, int32_t> by_name_, by_wnid_;
};

}  // namespace

LabelMap match_classes(const std::vector<std::string>& data_classes, const std::vector<std::string>& network_classes,
                       const std::string& data) {
  const ClassIndex network(network_classes);
  LabelMap map;
  std::vector<std::string> unknown;
  bool same_order = data_classes.size() == network_classes.size();
  for (size_t label = 0; label < data_classes.size(); ++label) {
    const int32_t index = network.find(data_classes[label]);
    if (index < 0) {
      unknown.push_back(data_classes[label]);
      continue;
    }
    same_order = same_order && index == static_cast<int32_t>(label);
    map.to_network.push_back(index);
  }
  if (!unknown.empty()) {
    const std::string suggestion = nearest(unknown.front(), network_classes);
    fail(data, ": ", unknown.size(), " of its ", data_classes.size(), " classes are unknown to the network, which has ",
         network_classes.size(), " (", format_names(network_classes), "): ", format_names(unknown),
         suggestion.empty() ? "" : "; did you mean '" + suggestion + "'?");
  }
  if (!same_order) {
    map.note = join("labels matched by class name: the data has ", data_classes.size(), " of the network's ",
                    network_classes.size(), " classes",
                    data_classes.size() == network_classes.size() ? ", in another order" : "");
  }
  return map;
}

}  // namespace riffle
