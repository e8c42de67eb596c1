// Going on with a run: which checkpoint, and what has changed in the configuration since.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/checkpoint/safetensors.h"
#include "train/config.h"

namespace riffle {

struct ResumePoint {
  std::string path;
  CheckpointFile file;  // with a training state
  std::string config_yaml;

  int64_t step() const;
};

ResumePoint read_resume_point(const std::string& path);
// The newest checkpoint of a run folder that can be read; none where there is none at all. Those that cannot be read
// become warnings, and if none can, an error.
std::optional<ResumePoint> find_resume_point(const std::string& run_folder, std::vector<std::string>& warnings);

struct ConfigChange {
  std::string path, before, now;
  bool changes_training;  // else only how quickly, how often something is written, ...
};
std::vector<ConfigChange> config_changes(const Config& before, const Config& now);
// The changes as lines for people. Throws Error(kUsage) where one changes training and that is not `allowed`.
std::vector<std::string> check_config_changes(const ResumePoint& point, const Config& now, bool allowed);

// What is to be said where a run goes on on another device; empty where it gives the same bits.
std::string device_note(const ResumePoint& point, const std::string& device);

}  // namespace riffle
