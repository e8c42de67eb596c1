// Whole runs of the trainer on the emulated device, small enough for a second each.
#pragma once

#include "cuda/emulation/control.h"
#include "cuda/make_cuda_backend.h"
#include "resumed_runs.h"

namespace riffle {

class EmulatedRuns : public testing::Test {
 protected:
  // 8 steps an epoch; a log line every 3 steps.
  void SetUp() override {
    write_idx(path("idx"), "train", 32, 16, 1);
    write_idx(path("idx"), "t10k", 6, 16, 2);
    emulation::clear_reports();
  }
  void TearDown() override { EXPECT_EQ(emulation::report_count(), 0); }

  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string config(const std::vector<std::string>& overrides) const {
    std::vector<std::string> all{"augment.size=16", "eval.crop=16", "train.batch=4", "eval.batch=6",
                                 "log.tensorboard=false"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return to_yaml(parse_config(tiny_config("idx:" + path("idx"), 1), "tiny", all));
  }

  TemporaryFolder folder_;
};

inline BackendMaker emulated(DType dtype, bool deterministic = false) {
  return [dtype, deterministic] {
    CudaOptions options;
    options.dtype = dtype;
    options.deterministic = deterministic;
    options.poison = true;
    return make_cuda_backend(options);
  };
}

}  // namespace riffle
