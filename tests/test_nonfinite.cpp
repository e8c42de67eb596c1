// Steps whose gradients are not finite: they change nothing, or the run stops and says where the first NaN or Inf is.
#include <gtest/gtest.h>

#include "core/cpu/cpu_backend.h"
#include "guarded_steps.h"
#include "image_fixtures.h"

namespace riffle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(NonFiniteSteps, ASkippedStepChangesNothing) {
  const auto backend = make_cpu_backend(2);
  for (const int accumulate : {1, 2}) {
    for (const int64_t every : {1, 2}) {
      SCOPED_TRACE(join("accumulate ", accumulate, ", averages every ", every));
      TrainStepOptions options = GuardedRun::options(NonFinite::kSkip);
      options.optimizer.accumulate = accumulate;
      options.optimizer.clip_norm = 1;
      options.ema_every = every;
      if (every == 1) {
        expect_skipped_steps_change_nothing(*backend, options, "gg");
      } else {
        GuardedRun run(*backend, options);
        run.take("g");
        const std::vector<std::string> state = run.state();
        run.take("b");  // an update of the averages was due
        EXPECT_EQ(run.state() == state, true);
      }
    }
  }
}

TEST(NonFiniteSteps, NothingChangesAfterOneThatStops) {
  const auto backend = make_cpu_backend(1);
  expect_nothing_changes_after_a_bad_step(*backend, GuardedRun::options(NonFinite::kStop), "gg");
}

TEST(NonFiniteSteps, WithoutAGuardTheyAreApplied) {
  const auto backend = make_cpu_backend(1);
  GuardedRun run(*backend, GuardedRun::options(NonFinite::kApply));
  run.take("g");
  const std::vector<std::string> state = run.state();
  run.take("b");
  EXPECT_EQ(run.state() == state, false);
  EXPECT_GT(run.step().read_metrics().not_finite, 0);
}

// Found in the network as it was before the step: the layer, and whether it is a parameter of it that is wrong.
TEST(NonFiniteSteps, TheFirstLayerIsNamed) {
  const struct {
    const char *parameter, *found, *also;
  } cases[] = {
      {"stage3.0.branch2.0.weight", "the output of stage3.0.branch2",
       "parameter stage3.0.branch2.0.weight is not finite"},
      {"stage3.1.branch2.0.weight", "the output of stage3.1.branch2",
       "parameter stage3.1.branch2.0.weight is not finite"},
      {"fc.weight", "the output of fc (", "parameter fc.weight is not finite"},
      {"conv1.0.weight", "the output of conv1.0", "parameter conv1.0.weight is not finite"},
  };
  const auto backend = make_cpu_backend(1);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.parameter);
    GuardedRun run(*backend, GuardedRun::options(NonFinite::kStop));
    run.take("g");
    run.set_parameter(c.parameter, kInfinity);
    run.take("g");
    run.step().read_metrics();
    ASSERT_EQ(run.step().unapplied_steps(), (std::vector<int64_t>{1}));
    const std::string found = run.step().first_non_finite(1, 0.05, 0, run.x(), run.labels());
    expect_error([&] { fail(found); }, {c.found, "values are not finite, the first is", c.also});
  }
}

TEST(NonFiniteSteps, TheFirstTensorMayBeTheInputsOrTheLosss) {
  const auto backend = make_cpu_backend(1);
  GuardedRun run(*backend, GuardedRun::options(NonFinite::kStop));
  run.take("gb");
  const std::string of_pixels = run.step().first_non_finite(1, 0.05, 0, run.x(), run.labels());
  EXPECT_EQ(of_pixels.rfind("the output of conv1", 0), 0u) << of_pixels;
  EXPECT_EQ(of_pixels.find("parameter"), std::string::npos) << of_pixels;
  run.set_pixels(/*bad=*/false);
  EXPECT_EQ(run.step().first_non_finite(1, 0.05, 0, run.x(), run.labels()), "");
  BatchTargets targets(run.labels());
  targets.probabilities = backend->empty({GuardedRun::kBatch, 1, 1, GuardedRun::kClasses});
  backend->fill(static_cast<double>(kInfinity), targets.probabilities);
  const std::string of_loss = run.step().first_non_finite(1, 0.05, 0, run.x(), targets);
  EXPECT_EQ(of_loss.rfind("the loss (4 of 4 values", 0), 0u) << of_loss;
}

}  // namespace
}  // namespace riffle
