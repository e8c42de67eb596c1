// `include: base.yaml`, or a list of files, in a configuration: those are read first, in their order, and the keys of the
// including file come after, so that the later of two values wins. Paths are relative to the file that names them.
#pragma once

#include <string>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "train/config_document.h"

namespace riffle {

constexpr const char* kIncludeKey = "include";

struct ConfigDocument {
  Origin origin;
  YAML::Node root;
};

// The document of `text` last, those that it includes before it, in the order in which they are to be read. `name` is the
// file of the text. Throws Error(kUsage) that starts with the place of the include for a file that cannot be read or that
// includes itself.
std::vector<ConfigDocument> with_includes(const std::string& text, const std::string& name);

}  // namespace riffle
