// YAML -> Config. Strict: an unknown, duplicate or ill-typed key, or a value out of range, is an Error(kUsage) with
// file, line, column, the key's full path and the nearest right key.
#pragma once

#include <string>
#include <vector>

#include "train/config.h"
#include "train/config_checks.h"

namespace riffle {

// Fields that are right one by one. Whether they go together is checked when all are known: a checkpoint may give some.
struct SourcedConfig {
  Config config;
  ConfigSources sources;  // which fields were set, and where
};
// Throws Error(kUsage) where fields do not go together.
Config checked(const SourcedConfig& read);

// `overrides`: "schedule.lr=0.1", "model.stage_channels=[48,96,192]"; applied in order, errors name the override.
Config read_config(const std::string& path, const std::vector<std::string>& overrides);
SourcedConfig read_sourced_config(const std::string& path, const std::vector<std::string>& overrides);
// The same from text; `name` stands for the file in messages.
Config parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& overrides);
SourcedConfig parse_sourced_config(const std::string& text, const std::string& name,
                                   const std::vector<std::string>& overrides);
// Only the data section, from a checkpoint of any version: keys that this version does not know are passed over.
DataSection parse_data_section(const std::string& text, const std::string& name);
// All sections, likewise.
Config parse_known_fields(const std::string& text, const std::string& name);
// The whole configuration as YAML that parse_config() reads back to the same Config.
std::string to_yaml(const Config& config);

}  // namespace riffle
