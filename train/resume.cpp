// Going on with a run.
#include "train/resume.h"

#include <algorithm>
#include <regex>

#include "core/check.h"
#include "train/checkpoint/metadata.h"
#include "train/config_fields.h"
#include "train/config_reader.h"
#include "train/run_folder.h"
#include "train/text.h"
#include "train/training_state.h"

namespace riffle {
namespace {

// Keys that leave every weight as it would have been.
const std::vector<std::string>& harmless_keys() {
  static const std::vector<std::string> keys{"data.loader_threads",     "data.prefetch",
                                             "data.index_cache",        "data.cache_bytes",
                                             "data.max_bad_images",     "eval.batch",
                                             "eval.every_epochs",       "train.log_every_steps",
                                             "train.cuda_graphs",       "train.nonfinite",
                                             "train.limit_steps",       "train.max_skipped_steps",
                                             "early_stopping.patience", "early_stopping.min_delta",
                                             "checkpoint.every",        "checkpoint.keep",
                                             "checkpoint.keep_every",   "log.histograms",
                                             "log.tensorboard"};
  return keys;
}

std::string without_threads(const std::string& device) {
  static const std::regex threads("[0-9]+ threads?, ");
  return std::regex_replace(device, threads, "");
}

}  // namespace

int64_t ResumePoint::step() const {
  return training_state_from_json(file.metadata, path).step;
}

ResumePoint read_resume_point(const std::string& path) {
  ResumePoint point{path, read_safetensors(path), ""};
  training_state_from_json(point.file.metadata, path);
  point.config_yaml = metadata_from_json(point.file.metadata, path).config_yaml;
  return point;
}

std::optional<ResumePoint> find_resume_point(const std::string& run_folder, std::vector<std::string>& warnings) {
  const std::vector<int64_t> steps = RunFolder::checkpoint_steps(run_folder);
  for (const int64_t step : steps) {
    const std::string path = RunFolder::step_checkpoint(run_folder, step);
    try {
      return read_resume_point(path);
    } catch (const Error& error) {
      warnings.push_back(join(error.what(), step == steps.back() ? "" : "; the checkpoint before it is tried"));
    }
  }
  if (steps.empty()) return std::nullopt;
  std::string reasons;
  for (const std::string& warning : warnings) reasons += "\n  " + warning;
  fail("none of the ", steps.size(), " checkpoints in ", run_folder,
       " can be read; start anew with --overwrite:", reasons);
}

std::vector<ConfigChange> config_changes(const Config& before, const Config& now) {
  Config old_copy = before, new_copy = now;  // the table points into what it may write
  const std::vector<Field> old_fields = fields_of(old_copy), new_fields = fields_of(new_copy);
  std::vector<ConfigChange> changes;
  for (size_t i = 0; i < new_fields.size(); ++i) {
    const std::string old_text = old_fields[i].value_text(), new_text = new_fields[i].value_text();
    if (old_text == new_text) continue;
    const std::vector<std::string>& harmless = harmless_keys();
    const bool is_harmless = std::find(harmless.begin(), harmless.end(), new_fields[i].path) != harmless.end();
    changes.push_back({new_fields[i].path, old_text, new_text, !is_harmless});
  }
  return changes;
}

std::vector<std::string> check_config_changes(const ResumePoint& point, const Config& now, bool allowed) {
  std::vector<std::string> lines;
  std::string forbidden;
  for (const ConfigChange& change : config_changes(parse_known_fields(point.config_yaml, point.path), now)) {
    const std::string line = change.path + ": " + change.before + " -> " + change.now;
    lines.push_back(line);
    if (change.changes_training) forbidden += "\n  " + line;
  }
  if (!allowed && !forbidden.empty()) {
    fail_usage("the configuration is not the one that ", point.path,
               " was trained with, and training would differ:", forbidden,
               "\nGo on with the old values, or accept the new ones with --allow-config-change");
  }
  return lines;
}

std::string device_note(const ResumePoint& point, const std::string& device) {
  const std::string before = training_state_from_json(point.file.metadata, point.path).device;
  if (without_threads(before) == without_threads(device)) return "";
  return "the run was on another device before (" + before +
         "): it goes on exactly where it was, but rounds differently from here on";
}

}  // namespace riffle
