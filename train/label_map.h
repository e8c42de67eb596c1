// Class indices of a data set -> class indices of a network, matched by name. A label that silently means another class
// is the most expensive mistake an evaluation can make.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace riffle {

struct LabelMap {
  std::vector<int32_t> to_network;  // index: label in the data; value: class of the network
  std::string note;                 // for people; empty where names and order are the same

  bool identity() const { return note.empty(); }
};

// Every class of the data must be one of the network's; order may differ, and the data may have fewer. A class of
// ImageNet may have its WordNet id as its name on one side and what people call it on the other
// (data/imagenet_classes.h). `data` is its description, for messages. Throws naming the classes that the network does not know.
LabelMap match_classes(const std::vector<std::string>& data_classes, const std::vector<std::string>& network_classes,
                       const std::string& data);

}  // namespace riffle
