// The text of a configuration as a YAML tree, and how messages name a place in it: what all readers of one share.
#pragma once

#include <string>
#include <vector>

#include <yaml-cpp/yaml.h>

namespace riffle {

// Where a piece of YAML comes from, for messages: a file, or an override (whose own lines would mean nothing).
class Origin {
 public:
  static Origin file(const std::string& name) { return Origin(name, true); }
  static Origin override_argument(const std::string& argument) { return Origin("override '" + argument + "'", false); }

  const std::string& name() const { return name_; }
  std::string at(const YAML::Mark& mark) const;  // "configs/x.yaml:12:3"

 private:
  Origin(std::string name, bool has_lines);
  std::string name_;
  bool has_lines_;
};

// The one document of `text`; null if it is empty.
YAML::Node load_yaml(const std::string& text, const Origin& origin);
// The text of a file that may be a configuration; throws Error(kUsage) for what cannot be one, such as a checkpoint.
std::string read_config_text(const std::string& path);

// For messages: "a, b, c"; and what a node is ("'0.5'", "a list").
std::string listed(const std::vector<std::string>& words);
std::string shown(const YAML::Node& node);

}  // namespace riffle
