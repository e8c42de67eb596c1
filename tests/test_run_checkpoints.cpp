// Checkpoints of a run where a disk does not take them all, and where later ones than the present are left over.
#include "train/run_checkpoints.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/cpu/cpu_backend.h"
#include "riffle_process.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

ShuffleNetV2Config tiny_network() {
  ShuffleNetV2Config config;
  config.stage_channels = {8, 16, 24};
  config.stage_repeats = {1, 1, 1};
  config.stem_channels = 8;
  config.head_channels = 16;
  config.classes = 2;
  return config;
}

class RunCheckpointsTest : public testing::Test {
 protected:
  RunCheckpointsTest()
      : backend_(make_cpu_backend(1)), network_(*backend_, tiny_network(), 1), step_(*backend_, network_, {}) {}

  CheckpointMetadata metadata() const {
    CheckpointMetadata metadata;
    metadata.model = tiny_network();
    metadata.classes = {"cat", "dog"};
    return metadata;
  }
  TrainingState state_at(int64_t step) const {
    TrainingState state;
    state.step = step;
    state.steps_per_epoch = 10;
    return state;
  }
  void submit_state(RunCheckpoints& checkpoints, int64_t step) {
    checkpoints.stage_state(network_, nullptr, step_, state_at(step), nullptr);
    checkpoints.submit();
  }
  nlohmann::json metadata_of(const std::string& path) const { return read_safetensors(path).metadata; }

  TemporaryFolder temporary_;
  RunFolder folder_{temporary_.path() + "/run", false};
  std::unique_ptr<Backend> backend_;
  ShuffleNetV2 network_;
  TrainStep step_;
  const MetricSums sums_{/*images=*/200, /*top1_correct=*/150, /*top5_correct=*/190};
};

// A folder where the file should be stands for a disk that takes nothing.
TEST_F(RunCheckpointsTest, TheBestWeightsThatFailedAreWrittenWithTheNextState) {
  const std::string best = folder_.checkpoint("best");
  fs::create_directories(best + "/in the way");
  RunCheckpoints checkpoints(*backend_, folder_, metadata(), {});
  checkpoints.stage_best(network_, /*averaged=*/true, state_at(20), sums_);
  checkpoints.submit();
  expect_error([&] { checkpoints.finish(); }, {"could not be saved", best});
  EXPECT_EQ(checkpoints.take_failures().size(), 1u);
  fs::remove_all(best);
  submit_state(checkpoints, 25);
  checkpoints.finish();
  EXPECT_TRUE(checkpoints.take_failures().empty());
  const nlohmann::json stored = metadata_of(best);
  EXPECT_EQ(stored.at("training").at("step"), 20);
  EXPECT_EQ(stored.at("training").at("epoch"), 2);
  EXPECT_EQ(stored.at("metrics").at("top1_percent"), 75);
  EXPECT_EQ(stored.at("metrics").at("top5_percent"), 95);
  EXPECT_EQ(stored.at("weights"), "ema");
  EXPECT_EQ(metadata_of(folder_.step_checkpoint(25)).at("weights"), "raw");
}

// The state speaks of the best weights, so that it is not written without them.
TEST_F(RunCheckpointsTest, AStateIsNotWrittenWithoutItsBestWeights) {
  const std::string best = folder_.checkpoint("best");
  fs::create_directories(best + "/in the way");
  RunCheckpoints checkpoints(*backend_, folder_, metadata(), {});
  checkpoints.stage_best(network_, false, state_at(20), sums_);
  submit_state(checkpoints, 20);
  expect_error([&] { checkpoints.finish(); }, {best});
  EXPECT_TRUE(folder_.checkpoint_steps().empty());
}

// As when an error ends a run while its thread writes: the folder's object goes first, its checkpoints after it.
TEST_F(RunCheckpointsTest, TheFolderNeedNotOutliveThem) {
  const std::string path = temporary_.path() + "/a folder with a name too long to be stored inside a string object";
  auto folder = std::make_unique<RunFolder>(path, false);
  RunCheckpoints checkpoints(*backend_, *folder, metadata(), {});
  folder.reset();
  submit_state(checkpoints, 7);
  checkpoints.finish();
  EXPECT_EQ(RunFolder::checkpoint_steps(path), std::vector<int64_t>{7});
}

TEST_F(RunCheckpointsTest, KeepsTheNewestAndEverySoMany) {
  RunCheckpoints checkpoints(*backend_, folder_, metadata(), {/*last=*/2, /*every_steps=*/20});
  for (const int64_t step : {20, 30, 50, 70}) submit_state(checkpoints, step);
  checkpoints.finish();
  EXPECT_EQ(folder_.checkpoint_steps(), (std::vector<int64_t>{70, 50, 20}));
  EXPECT_EQ(fs::read_symlink(folder_.checkpoint("last")), "step-00000070.safetensors");
}

// A run that goes on after step 30: what it had of later steps, damaged or not, is neither lost nor in its way.
TEST_F(RunCheckpointsTest, LaterOnesAreSetAside) {
  {
    RunCheckpoints checkpoints(*backend_, folder_, metadata(), {/*last=*/9, /*every_steps=*/0});
    for (const int64_t step : {20, 30, 50}) submit_state(checkpoints, step);
    checkpoints.stage_best(network_, /*averaged=*/false, state_at(50), sums_);
    checkpoints.submit();
    checkpoints.finish();
    EXPECT_TRUE(checkpoints.set_aside_after(50).empty());
  }
  std::ofstream(folder_.step_checkpoint(70)) << "damaged";
  const std::vector<std::string> all{folder_.step_checkpoint(70), folder_.step_checkpoint(50),
                                     folder_.checkpoint("best")};
  RunCheckpoints checkpoints(*backend_, folder_, metadata(), {});
  const std::vector<std::string> lines = checkpoints.set_aside_after(30);
  ASSERT_EQ(lines.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    expect_contains(lines[i], {fs::path(all[i]).filename(), "a step after 30", ".superseded"});
    EXPECT_FALSE(fs::exists(all[i])) << all[i];
    EXPECT_TRUE(fs::exists(RunFolder::superseded(all[i]))) << all[i];
  }
  EXPECT_EQ(folder_.checkpoint_steps(), (std::vector<int64_t>{30, 20}));
  EXPECT_EQ(fs::read_symlink(folder_.checkpoint("last")), "step-00000030.safetensors");
}

TEST_F(RunCheckpointsTest, TheBestOfAnEarlierStepStays) {
  RunCheckpoints checkpoints(*backend_, folder_, metadata(), {});
  checkpoints.stage_best(network_, /*averaged=*/false, state_at(10), sums_);
  for (const int64_t step : {10, 20}) submit_state(checkpoints, step);
  checkpoints.finish();
  EXPECT_EQ(checkpoints.set_aside_after(10).size(), 1u);
  EXPECT_TRUE(fs::exists(folder_.checkpoint("best")));
}

// As on a file system without symbolic links: the state is saved all the same, old ones go, and it is said once.
TEST_F(RunCheckpointsTest, AMissingLinkIsNoFailedSave) {
  fs::create_directories(folder_.checkpoint("last") + ".tmp-link/in the way");
  RunCheckpoints checkpoints(*backend_, folder_, metadata(), {/*last=*/1, /*every_steps=*/0});
  for (const int64_t step : {10, 20, 30}) submit_state(checkpoints, step);
  checkpoints.finish();
  EXPECT_EQ(folder_.checkpoint_steps(), std::vector<int64_t>{30});
  const std::vector<std::string> failures = checkpoints.take_failures();
  ASSERT_EQ(failures.size(), 1u);
  expect_contains(failures[0], {"cannot link", "last.safetensors"});
}

}  // namespace
}  // namespace riffle
