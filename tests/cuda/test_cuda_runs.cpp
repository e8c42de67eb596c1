// Whole runs on the emulated device: the same bits in every run, with and without CUDA graphs, whatever mixes or resizes
// the images; and the CPU's loss curve.
#include "core/cpu/cpu_backend.h"
#include "emulated_runs.h"

namespace riffle {
namespace {

class CudaRuns : public EmulatedRuns {
 protected:
  RunOutcome run(const BackendMaker& make, const std::vector<std::string>& overrides) {
    return run_in_parts(make, config(overrides), path("run"), {});
  }
  // Returns how often graphs were launched.
  uint64_t expect_graphs_to_change_no_bit(DType dtype, std::vector<std::string> overrides) {
    const uint64_t before = emulation::graph_launches();
    const RunOutcome captured = run(emulated(dtype), overrides);
    const uint64_t launches = emulation::graph_launches() - before;
    overrides.emplace_back("train.cuda_graphs=false");
    expect_same(run(emulated(dtype), overrides), captured);
    return launches;
  }
};

// Each batch takes mixup or CutMix, at random. An epoch of 8 steps begins with two ordinary ones, since the evaluation
// before it took the graph's memory.
TEST_F(CudaRuns, MixedBatchesAreReplayed) {
  EXPECT_EQ(expect_graphs_to_change_no_bit(DType::kF32, {"augment.mixup=0.4", "augment.cutmix=1"}), 12u);
}

// In f16, where a step may be computed again from the same inputs.
TEST_F(CudaRuns, MixedBatchesInFp16AreReplayed) {
  EXPECT_GT(
      expect_graphs_to_change_no_bit(DType::kF16, {"train.precision=fp16", "augment.mixup=0.4", "augment.cutmix=1"}),
      10u);
}

// 6 replays of an epoch whose first two steps are ordinary, 6 after the change, and 8 of the third epoch, before which
// nothing changes.
TEST_F(CudaRuns, AnotherImageSizeIsCapturedAnew) {
  const std::vector<std::string> sizes{"train.duration=3ep", "eval.every_epochs=3",
                                       "augment.transforms=[{random_resized_crop: {}}]",
                                       "augment.sizes=[{from: 1ep, size: 24}]"};
  EXPECT_EQ(expect_graphs_to_change_no_bit(DType::kF32, sizes), 20u);
}

// Queued work in every order that streams and events allow, and threads of a block in every order.
TEST_F(CudaRuns, DeterministicRunsAreTheSameInEveryLegalOrder) {
  const emulation::Options before = emulation::options();
  const std::vector<std::string> overrides{"train.duration=10it", "train.deterministic=true", "ema.decay=0.9",
                                           "optimizer.clip_norm=1"};
  const RunOutcome expected = run(emulated(DType::kF32, /*deterministic=*/true), overrides);
  struct Order {
    emulation::WorkOrder work;
    emulation::ThreadOrder threads;
  };
  const std::vector<Order> orders{{before.work, before.threads},
                                  {emulation::WorkOrder::kEager, emulation::ThreadOrder::kReverse},
                                  {emulation::WorkOrder::kReversed, emulation::ThreadOrder::kReverse},
                                  {emulation::WorkOrder::kRandom, emulation::ThreadOrder::kRandom}};
  for (size_t i = 0; i < orders.size(); ++i) {
    SCOPED_TRACE(join("order ", i));
    emulation::options().work = orders[i].work;
    emulation::options().threads = orders[i].threads;
    expect_same(run(emulated(DType::kF32, /*deterministic=*/true), overrides), expected);
  }
  emulation::options() = before;
}

// From the same weights, on the same batches. At a higher rate, or with fewer pixels for the last norms, the curves part
// wherever rounding makes a ReLU let one more pixel through.
TEST_F(CudaRuns, TheLossCurveOfAHundredStepsIsTheCpus) {
  const std::vector<std::string> overrides{
      "train.duration=100it",    "train.batch=16",       "model.stage_repeats=[1, 1, 1]",
      "train.log_every_steps=1", "eval.every_epochs=50", "schedule.lr=0.001",
      "checkpoint.every=0"};
  const RunOutcome cpu = run([] { return make_cpu_backend(2); }, overrides);
  const RunOutcome gpu = run(emulated(DType::kF32), overrides);
  ASSERT_EQ(cpu.log.size(), 101u);
  ASSERT_EQ(gpu.log.size(), 101u);
  for (size_t step = 0; step < 100; ++step) {
    const double expected = cpu.log[step].at("loss"), got = gpu.log[step].at("loss");
    EXPECT_NEAR(got, expected, 1e-3 * expected) << "step " << step + 1;
  }
  EXPECT_LT(cpu.log[99].at("loss").get<double>(), 0.8 * cpu.log[0].at("loss").get<double>());
}

}  // namespace
}  // namespace riffle
