// What no single field can say: which values of a configuration go together.
#pragma once

#include <initializer_list>
#include <map>
#include <string>

#include "train/config.h"

namespace riffle {

// Where each field was last set: "configs/x.yaml:12:3" or "override 'schedule.lr=3'".
class ConfigSources {
 public:
  explicit ConfigSources(std::string file_name);
  void set(const std::string& path, const std::string& where);
  // Of the first of `paths` that was set; the file where all have their defaults.
  std::string of(std::initializer_list<const char*> paths) const;
  bool has(const std::string& path) const { return where_.count(path) > 0; }

 private:
  std::string file_name_;
  std::map<std::string, std::string> where_;
};

// Throws Error(kUsage) that starts with the place to change.
void check_config(const Config& config, const ConfigSources& sources);

}  // namespace riffle
