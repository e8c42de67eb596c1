// Matching classes by name.
#include "train/label_map.h"

#include <unordered_map>

#include "core/check.h"
#include "train/nearest.h"
#include "train/text.h"

namespace riffle {
LabelMap match_classes(const std::vector<std::string>& data_classes, const std::vector<std::string>& network_classes,
                       const std::string& data) {
  std::unordered_map<std::string, int32_t> index_of;
  for (size_t i = 0; i < network_classes.size(); ++i) {
    const bool added = index_of.emplace(network_classes[i], static_cast<int32_t>(i)).second;
    if (!added) fail("the network has two classes named '", network_classes[i], "'; labels cannot be matched by name");
  }

  LabelMap map;
  std::vector<std::string> unknown;
  bool same_order = data_classes.size() == network_classes.size();
  for (size_t label = 0; label < data_classes.size(); ++label) {
    const auto found = index_of.find(data_classes[label]);
    if (found == index_of.end()) {
      unknown.push_back(data_classes[label]);
      continue;
    }
    same_order = same_order && found->second == static_cast<int32_t>(label);
    map.to_network.push_back(found->second);
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
