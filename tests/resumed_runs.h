// Runs of the trainer that stop and go on, compared with one that never stopped: every bit of the last checkpoint and
// every figure of the log that is not a time.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "riffle_process.h"
#include "tiny_data.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config_reader.h"
#include "train/resume.h"
#include "train/trainer.h"

namespace riffle {

using BackendMaker = std::function<std::unique_ptr<Backend>()>;

// What a run leaves, but for times.
struct RunOutcome {
  TensorMap tensors;
  nlohmann::json state;
  std::vector<nlohmann::json> log;
  std::string best;  // the file
};

inline nlohmann::json without(nlohmann::json json, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) json.erase(key);
  return json;
}

inline RunOutcome outcome_of(const std::string& folder) {
  CheckpointFile last = read_safetensors(folder + "/checkpoints/last.safetensors");
  RunOutcome outcome{std::move(last.tensors), last.metadata.at(kTrainingStateKey), {}, {}};
  outcome.state = without(outcome.state, {"training_seconds", "evaluation_seconds", "device"});
  outcome.state["window"] = without(outcome.state["window"], {"seconds", "wait_ms", "ready_batches"});
  std::istringstream lines(text_of(folder + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    outcome.log.push_back(without(
        nlohmann::json::parse(line),
        {"images_per_s", "ema_images_per_s", "data_wait_ms", "data_queue", "device_peak_bytes", "process_peak_bytes"}));
  }
  for (const auto& [name, tensor] : read_safetensors(folder + "/checkpoints/best.safetensors").tensors)
    outcome.best += name + std::string(tensor.bytes.begin(), tensor.bytes.end());
  return outcome;
}

inline void expect_same(const RunOutcome& got, const RunOutcome& expected) {
  ASSERT_EQ(got.tensors.size(), expected.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) {
    ASSERT_EQ(got.tensors.count(name), 1u) << name;
    EXPECT_EQ(got.tensors.at(name).bytes == tensor.bytes, true) << name;
  }
  EXPECT_EQ(got.state, expected.state);
  EXPECT_EQ(got.log, expected.log);
  EXPECT_EQ(got.best == expected.best, true);
}

// Each part runs in a trainer and on a device of its own, as in a process of its own, until step stops[i] is done, the
// last one to the end. loader_threads: of the parts in turn.
inline RunOutcome run_in_parts(const BackendMaker& make, const std::string& config_text, const std::string& folder,
                               std::vector<int64_t> stops, const std::vector<int>& loader_threads = {1}) {
  std::filesystem::remove_all(folder);
  stops.push_back(INT64_MAX);
  for (size_t part = 0; part < stops.size(); ++part) {
    Config config = parse_config(config_text, "test", {});
    config.data.loader_threads = loader_threads[part % loader_threads.size()];
    const std::unique_ptr<Backend> backend = make();
    const TrainData data = open_train_data(config);
    std::ostringstream out;
    Progress progress(out, Progress::Style::kPlain, false);
    Trainer trainer(*backend, config, data, 1, progress);
    std::vector<std::string> warnings;
    if (part > 0) {
      const std::optional<ResumePoint> point = find_resume_point(folder, warnings);
      if (point) {
        EXPECT_TRUE(check_config_changes(*point, config, false).size() <= 1) << "loader_threads";
        trainer.resume(point->file, point->path);
      }
      EXPECT_EQ(trainer.finished_steps(), stops[part - 1]) << out.str();
    }
    EXPECT_TRUE(warnings.empty());
    const RunFolder run_folder = RunFolder::reopen(folder);
    const bool finished = trainer.run(run_folder, [&] { return trainer.finished_steps() >= stops[part]; });
    EXPECT_EQ(finished, part + 1 == stops.size()) << out.str();
  }
  return outcome_of(folder);
}

}  // namespace riffle
