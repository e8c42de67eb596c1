// Runs of the trainer in this process, on tiny data.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "riffle_process.h"
#include "tiny_data.h"
#include "train/config_reader.h"
#include "train/trainer.h"

namespace riffle {

class TrainerRuns : public testing::Test {
 protected:
  static constexpr int64_t kStepsPerEpoch = 8;

  void SetUp() override { write_idx_data(path("idx")); }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string config_text() const { return tiny_config("idx:" + path("idx"), 1); }
  Config config(const std::vector<std::string>& overrides) const {
    return parse_config(config_text(), "test", overrides);
  }

  // What the run says, to its end or an error. before_step: called before each step with how many are finished.
  struct Result {
    bool finished = false;
    std::string out, error;
  };
  using BeforeStep = std::function<void(Trainer& trainer, Backend& backend)>;
  Result run(const std::string& name, const std::vector<std::string>& overrides, const BeforeStep& before_step = {}) {
    const auto backend = make_cpu_backend(1);
    const Config resolved = config(overrides);
    const TrainData data = open_train_data(resolved);
    std::ostringstream out;
    Progress progress(out, Progress::Style::kPlain, false);
    Trainer trainer(*backend, resolved, data, 1, progress);
    Result result;
    try {
      result.finished = trainer.run(RunFolder::reopen(path(name)), [&] {
        if (before_step) before_step(trainer, *backend);
        return false;
      });
    } catch (const Error& error) {
      result.error = error.what();
    }
    result.out = out.str();
    return result;
  }

  // Of a run's metrics.jsonl, those of one type.
  std::vector<nlohmann::json> records(const std::string& name, const std::string& type) const {
    std::vector<nlohmann::json> found;
    std::istringstream lines(text_of(path(name) + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json record = nlohmann::json::parse(line);
      if (record.at("type") == type) found.push_back(record);
    }
    return found;
  }

  TemporaryFolder folder_;
};

}  // namespace riffle
