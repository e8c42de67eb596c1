// Steps whose gradients are not finite, on the emulated device: in a CUDA graph and out of it, and with a loss scale.
#include <gtest/gtest.h>

#include "cuda/emulation/control.h"
#include "cuda/make_cuda_backend.h"
#include "guarded_steps.h"

namespace riffle {
namespace {

std::unique_ptr<Backend> cuda(DType dtype) {
  CudaOptions options;
  options.dtype = dtype;
  options.poison = true;
  return make_cuda_backend(options);
}

TrainStepOptions options_for(NonFinite nonfinite, DType dtype, bool graphs) {
  TrainStepOptions options = GuardedRun::options(nonfinite);
  options.scale_loss = dtype == DType::kF16;
  options.cuda_graphs = graphs;
  return options;
}

class CudaNonFinite : public testing::Test {
 protected:
  void SetUp() override { emulation::clear_reports(); }
  void TearDown() override { EXPECT_EQ(emulation::report_count(), 0); }
};

TEST_F(CudaNonFinite, ASkippedStepChangesNothing) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    for (const bool graphs : {false, true}) {
      SCOPED_TRACE(join(name_of(dtype), graphs ? " in a graph" : ""));
      const auto gpu = cuda(dtype);
      expect_skipped_steps_change_nothing(*gpu, options_for(NonFinite::kSkip, dtype, graphs), "ggg");
    }
  }
}

TEST_F(CudaNonFinite, NothingChangesAfterOneThatStops) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    SCOPED_TRACE(name_of(dtype));
    const auto gpu = cuda(dtype);
    expect_nothing_changes_after_a_bad_step(*gpu, options_for(NonFinite::kStop, dtype, /*graphs=*/true), "ggg");
  }
}

// A smaller scale helps: the step is taken, as if it had begun with that scale. Running statistics see it once.
TEST_F(CudaNonFinite, ARepeatedStepIsTheOneWithASmallerScale) {
  for (const bool graphs : {false, true}) {
    SCOPED_TRACE(graphs);
    const auto gpu = cuda(DType::kF16);
    const TrainStepOptions options = options_for(NonFinite::kStop, DType::kF16, graphs);
    GuardedRun repeating(*gpu, options), direct(*gpu, options);
    const auto begin = [&](GuardedRun& run, double scale) {
      run.begin_with_loss_scale(scale);
      run.take("ggg", /*lr=*/0);
    };
    begin(repeating, 16777216.0 * 65536);
    const LossScale reached = repeating.step().loss_scale();
    EXPECT_LT(reached.value, 16777216.0 * 65536);
    begin(direct, reached.value);
    EXPECT_EQ(direct.step().loss_scale().value, reached.value);
    EXPECT_EQ(repeating.state() == direct.state(), true);
    repeating.step().read_metrics();
    EXPECT_TRUE(repeating.step().unapplied_steps().empty());
  }
}

// Every scale is tried, in vain; a step that is skipped does not leave the smallest one behind.
TEST_F(CudaNonFinite, ScalesThatDidNotHelpAreForgotten) {
  const auto gpu = cuda(DType::kF16);
  GuardedRun run(*gpu, options_for(NonFinite::kSkip, DType::kF16, /*graphs=*/false));
  run.take("g");
  const double before = run.step().loss_scale().value;
  run.take("b");
  EXPECT_TRUE(run.step().known_unapplied());
  EXPECT_EQ(run.step().loss_scale().value, before);
  run.take("g");
  EXPECT_FALSE(run.step().known_unapplied());
}

TEST_F(CudaNonFinite, TheFirstLayerIsNamed) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    SCOPED_TRACE(name_of(dtype));
    const auto gpu = cuda(dtype);
    GuardedRun run(*gpu, options_for(NonFinite::kStop, dtype, /*graphs=*/true));
    run.take("ggg");
    run.set_parameter("stage3.1.branch2.0.weight", std::numeric_limits<float>::infinity());
    run.take("g");
    run.step().read_metrics();
    ASSERT_EQ(run.step().unapplied_steps(), (std::vector<int64_t>{3}));
    const std::string found = run.step().first_non_finite(3, 0.05, 0, run.x(), run.labels());
    EXPECT_EQ(found.rfind("the output of stage3.1.branch2", 0), 0u) << found;
    EXPECT_NE(found.find("parameter stage3.1.branch2.0.weight is not finite"), std::string::npos) << found;
  }
}

}  // namespace
}  // namespace riffle
