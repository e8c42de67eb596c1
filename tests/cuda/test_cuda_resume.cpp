// k steps, a stop, and the rest are the same as all steps at once, bit for bit, on the emulated device.
#include "emulated_runs.h"

namespace riffle {
namespace {

class CudaResume : public EmulatedRuns {
 protected:
  // Runs that stop use graphs, which are captured anew in each part, and loaders of 1, 3 and 2 threads; the one that
  // does not stop launches every kernel. Returns what that one left.
  RunOutcome expect_exact(DType dtype, const std::vector<std::string>& overrides,
                          const std::vector<std::vector<int64_t>>& all_stops) {
    std::vector<std::string> launched = overrides;
    launched.emplace_back("train.cuda_graphs=false");
    const uint64_t launches_before = emulation::graph_launches();
    RunOutcome undisturbed = run_in_parts(emulated(dtype), config(launched), path("undisturbed"), {});
    EXPECT_EQ(emulation::graph_launches(), launches_before);
    EXPECT_EQ(undisturbed.log.back().at("type"), "val");
    for (const std::vector<int64_t>& stops : all_stops) {
      SCOPED_TRACE(join("stopped after step ", stops.front()));
      expect_same(run_in_parts(emulated(dtype), config(overrides), path("run"), stops, {1, 3, 2}), undisturbed);
    }
    return undisturbed;
  }
};

// Among the stops: in a log window, at a log line, before the graph is captured and after, before an evaluation.
TEST_F(CudaResume, IsExactWithAugmentationAveragesAndGraphs) {
  const uint64_t before = emulation::graph_launches();
  expect_exact(DType::kF32, {"ema.decay=0.9", "train.duration=12it"}, {{1}, {3}, {8}, {2, 4, 9, 11}, {0, 7}});
  EXPECT_GT(emulation::graph_launches(), before + 20) << "parts of more than two steps use graphs";
}

TEST_F(CudaResume, IsExactWithAccumulationAndClipping) {
  expect_exact(DType::kF32,
               {"ema.decay=0.99", "optimizer.accumulate=3", "optimizer.clip_norm=1", "checkpoint.every=1it",
                "augment.mixup=0.2", "augment.cutmix=1"},
               {{1}, {2}, {3}});
}

TEST_F(CudaResume, IsExactInBf16) {
  expect_exact(DType::kBF16, {"ema.decay=0.9", "train.precision=bf16", "train.duration=12it"}, {{1}, {6, 10}});
}

// The first scale, 65536, makes gradients overflow; what is left of it and the steps since then go on.
TEST_F(CudaResume, IsExactInFp16WithItsLossScale) {
  const std::vector<std::string> overrides{"ema.decay=0.9", "train.precision=fp16", "train.duration=12it"};
  const RunOutcome outcome = expect_exact(DType::kF16, overrides, {{1}, {6, 10}});
  EXPECT_LT(outcome.state.at("loss_scale").at("value"), 65536);
  EXPECT_GT(outcome.state.at("loss_scale").at("steps"), 1);
}

}  // namespace
}  // namespace riffle
