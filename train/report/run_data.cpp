// Reading run folders.
#include "train/report/run_data.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "core/check.h"
#include "train/checkpoint/file_io.h"
#include "train/text.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::string text_of(const std::string& path) {
  const std::vector<uint8_t> bytes = file_contents(path);
  return {bytes.begin(), bytes.end()};
}

bool is_metrics_line(const json& line) {
  return line.is_object() && line.contains("type") && line["type"].is_string() && line.contains("step") &&
         line["step"].is_number() && line.contains("epoch") && line["epoch"].is_number();
}

// A resumed run begins before the end of what it had written; that part is replaced.
void append(std::vector<json>& lines, json line) {
  while (!lines.empty() && lines.back()["step"].get<double>() >= line["step"].get<double>()) lines.pop_back();
  lines.push_back(std::move(line));
}

void read_metrics(const std::string& path, RunData& run) {
  std::istringstream in(text_of(path));
  int64_t number = 0, skipped = 0, first_skipped = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (text.empty()) continue;
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!is_metrics_line(line)) {
      if (skipped++ == 0) first_skipped = number;
      continue;
    }
    const auto type = line["type"].get<std::string>();
    if (type == "train")
      append(run.train, std::move(line));
    else if (type == "val")
      append(run.val, std::move(line));
    else if (type == "recalibrated")
      append(run.recalibrated, std::move(line));
  }
  if (skipped > 0) {
    run.notes.push_back(join(path, ": ", skipped, skipped == 1 ? " line is" : " lines are",
                             " not a whole record and was left out, the first is line ", first_skipped,
                             " (a run that is killed may leave half a line)"));
  }
}

void flatten(const YAML::Node& node, const std::string& key, Settings& settings) {
  if (node.IsMap()) {
    for (const auto& entry : node) {
      const auto name = entry.first.as<std::string>();
      flatten(entry.second, key.empty() ? name : join(key, ".", name), settings);
    }
    return;
  }
  YAML::Emitter emitter;
  emitter.SetSeqFormat(YAML::Flow);
  emitter.SetMapFormat(YAML::Flow);
  emitter << node;
  settings.emplace_back(key, node.IsScalar() ? node.Scalar() : emitter.c_str());
}

void flatten(const json& value, const std::string& key, Settings& settings) {
  if (value.is_object()) {
    for (const auto& [name, member] : value.items())
      flatten(member, key.empty() ? name : join(key, ".", name), settings);
  } else if (value.is_array()) {
    std::string words;
    for (const json& member : value) {
      words += (words.empty() ? "" : " ") + (member.is_string() ? member.get<std::string>() : member.dump());
    }
    settings.emplace_back(key, words);
  } else if (!value.is_null()) {
    settings.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  }
}

void read_config(const std::string& path, RunData& run) {
  run.config_yaml = text_of(path);
  try {
    flatten(YAML::Load(run.config_yaml), "", run.settings);
  } catch (const YAML::Exception& error) {
    run.notes.push_back(path + " is not YAML: " + error.what());
  }
}

void read_environment(const std::string& path, RunData& run) {
  const json environment = json::parse(text_of(path), nullptr, /*allow_exceptions=*/false);
  if (environment.is_discarded())
    run.notes.push_back(path + " is not JSON and was left out");
  else
    flatten(environment, "", run.environment);
}

}  // namespace

double metric(const json& line, const std::string& key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : std::nan("");
}

RunData read_run(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail("cannot read the run ", path, ": there is no such folder");
  if (!fs::is_directory(path, ignored)) {
    fail("cannot read the run ", path, ": it is a file; name the folder that riffle train -o wrote");
  }
  RunData run;
  run.path = path;
  const fs::path normal = fs::absolute(path).lexically_normal();
  run.name = (normal.has_filename() ? normal : normal.parent_path()).filename().string();
  if (!is_file(path + "/metrics.jsonl")) {
    fail("cannot read the run ", path, ": it has no metrics.jsonl, which riffle train writes from its first step on");
  }
  read_metrics(path + "/metrics.jsonl", run);
  if (is_file(path + "/config.resolved.yaml")) read_config(path + "/config.resolved.yaml", run);
  if (is_file(path + "/environment.json")) read_environment(path + "/environment.json", run);
  if (is_file(path + "/samples.png")) run.samples = path + "/samples.png";
  if (is_file(path + "/filters.png")) run.filters = path + "/filters.png";
  if (is_file(path + "/evaluation/evaluation.json")) run.evaluation = path + "/evaluation";
  return run;
}

}  // namespace riffle
