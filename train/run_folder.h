// The folder of one training run; docs/logs.md says what is in it. Every write is
// checked, and files are replaced atomically, so that a run killed at any time leaves whole files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/checkpoint/file_io.h"

namespace riffle {

// Copies stand for the same folder and keep its lock: whoever may write after its caller is gone holds one.
class RunFolder {
 public:
  // Creates the folder. One that holds anything is an error, unless `overwrite`: then the files of an earlier run are
  // removed, and nothing else is.
  RunFolder(std::string path, bool overwrite);
  // Opens the folder of an earlier run, to go on with it, or creates one. What killed processes left half written is
  // removed. While it lives no other process can open it like this.
  static RunFolder reopen(std::string path);
  // Throws what the constructor would throw, as far as can be told without writing anything.
  static void check(const std::string& path, bool overwrite);

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Steps of the checkpoints in a folder that training can go on from, the newest first; and where they are.
  static std::vector<int64_t> checkpoint_steps(const std::string& folder);
  static std::string step_checkpoint(const std::string& folder, int64_t step);
  std::vector<int64_t> checkpoint_steps() const { return checkpoint_steps(path_); }
  std::string step_checkpoint(int64_t step) const { return step_checkpoint(path_, step); }
  // What a checkpoint is called once the run has gone on from one before it.
  static std::string superseded(const std::string& checkpoint) { return checkpoint + ".superseded"; }
  std::string checkpoint(const std::string& name) const { return file("checkpoints/" + name + ".safetensors"); }
  std::string config() const { return file("config.resolved.yaml"); }
  std::string metrics() const { return metrics(path_); }
  static std::string metrics(const std::string& folder) { return folder + "/metrics.jsonl"; }
  std::string metrics_csv() const { return file("metrics.csv"); }
  std::string environment() const { return file("environment.json"); }
  std::string curves() const { return file("curves.svg"); }

  void append_metrics(const nlohmann::json& record) const;  // one line, or, where it throws, none

 private:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}
  void create_and_lock();
  void remove_files_with(const std::string& part_of_name) const;

  std::string path_;
  std::shared_ptr<FileDescriptor> lock_;
};

// "runs/<stem of the configuration>-<YYYYmmdd-HHMMSS>", local time.
std::string default_run_folder(const std::string& config_path);

// Replaces a file atomically; what is not a file (a pipe, /dev/stderr) is written to instead.
void write_text_file(const std::string& path, const std::string& text);
// Throws what write_text_file() would throw, as far as can be told beforehand; the file stays as it is.
void check_text_file(const std::string& path);

}  // namespace riffle
