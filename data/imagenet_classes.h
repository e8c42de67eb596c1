// The 1000 classes of ILSVRC 2012 in the order in which networks are trained on them: sorted by WordNet id, as their
// folders are. Checkpoints hold the ids as class names, so that labels are matched to folders; people see the names.
#pragma once

#include <string>
#include <vector>

namespace riffle {

struct ImageNetClass {
  const char* wnid;   // "n01440764"
  const char* names;  // "tench, Tinca tinca"
};

const std::vector<ImageNetClass>& imagenet_classes();
std::vector<std::string> imagenet_wnids();

// "tench, Tinca tinca" for "n01440764"; null if `name` is no id of these.
const char* imagenet_names(const std::string& wnid);
// "n01440764" for itself, for "tench, Tinca tinca" and for "tench"; "" for other names and where two classes have it
// ("crane").
std::string imagenet_wnid(const std::string& name);

}  // namespace riffle
