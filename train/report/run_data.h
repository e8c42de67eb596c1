// What a report shows of one run folder, read from the files that `riffle train` and `riffle eval --report` write.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace riffle {

// "key.path" -> value, in the file's order.
using Settings = std::vector<std::pair<std::string, std::string>>;

struct RunData {
  std::string path, name;                    // name: the folder's
  std::vector<nlohmann::json> train, val;    // lines of metrics.jsonl, by rising step
  std::vector<nlohmann::json> recalibrated;  // likewise, of networks with batch norm's statistics estimated anew
  std::string config_yaml;                   // config.resolved.yaml; "": absent
  Settings settings;                         // of it
  Settings environment;                      // of environment.json; empty: absent
  std::string samples, filters;              // samples.png and filters.png; "": absent
  std::string evaluation;                    // the folder RUN/evaluation, if it holds evaluation.json; else ""
  std::vector<std::string> notes;            // what was skipped, for people
};

// Throws where the folder is missing or has no metrics.jsonl. Lines that are not JSON (the last one of a run that was
// killed) are skipped with a note. Where a resumed run repeated steps, the later lines count.
RunData read_run(const std::string& path);

// The value of `key` of a metrics line as a number; NaN where it is absent or null.
double metric(const nlohmann::json& line, const std::string& key);

}  // namespace riffle
