// What a run does about steps that are not finite: what it says, saves, skips and counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <limits>

#include "train/checkpoint/numpy.h"
#include "trainer_runs.h"

namespace riffle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Sets the first value of a parameter before some of the steps, counted from 0, and what it was before the others.
class Saboteur {
 public:
  Saboteur(std::string name, std::vector<int64_t> steps) : name_(std::move(name)), steps_(std::move(steps)) {}

  void operator()(Trainer& trainer, Backend& backend) {
    const int64_t step = trainer.finished_steps();
    const bool due = std::find(steps_.begin(), steps_.end(), step) != steps_.end();
    if (due == active_) return;
    active_ = due;
    trainer.network().for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (name != name_) return;
      std::vector<float> values(static_cast<size_t>(parameter.value.elements()));
      backend.download(parameter.value, DType::kF32, values.data());
      if (due) before_ = values[0];
      values[0] = due ? kInfinity : before_;
      backend.upload(values.data(), DType::kF32, parameter.value);
      parameter.value_changed(backend);
    });
  }

 private:
  std::string name_;
  std::vector<int64_t> steps_;
  bool active_ = false;
  float before_ = 0;
};

// Sets one parameter's first values before step `step`, counted from 0.
class Setter {
 public:
  Setter(std::string name, int64_t step, std::vector<float> first)
      : name_(std::move(name)), step_(step), first_(std::move(first)) {}

  void operator()(Trainer& trainer, Backend& backend) const {
    if (trainer.finished_steps() != step_) return;
    trainer.network().for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (name != name_) return;
      std::vector<float> values(static_cast<size_t>(parameter.value.elements()));
      backend.download(parameter.value, DType::kF32, values.data());
      std::copy(first_.begin(), first_.end(), values.begin());
      backend.upload(values.data(), DType::kF32, parameter.value);
      parameter.value_changed(backend);
    });
  }

 private:
  std::string name_;
  int64_t step_;
  std::vector<float> first_;
};

// Data whose images can be read once.
class ReadOnce : public Dataset {
 public:
  explicit ReadOnce(std::unique_ptr<Dataset> data)
      : data_(std::move(data)), reads_(static_cast<size_t>(data_->size())) {}

  int64_t size() const override { return data_->size(); }
  int channels() const override { return data_->channels(); }
  const std::vector<std::string>& classes() const override { return data_->classes(); }
  int label(int64_t index) const override { return data_->label(index); }
  Image load(int64_t index) const override {
    if (reads_[static_cast<size_t>(index)]++ > 0) fail(name(index), " has gone");
    return data_->load(index);
  }
  std::string name(int64_t index) const override { return data_->name(index); }
  std::string description() const override { return data_->description(); }

 private:
  std::unique_ptr<Dataset> data_;
  mutable std::vector<std::atomic<int>> reads_;
};

using TrainerNonFinite = TrainerRuns;

// A log line comes every 3 steps: step 5, the bad one, is only noticed at step 6.
TEST_F(TrainerNonFinite, StopsNamingStepLayerAndBatch) {
  const Result result = run("run", {}, Saboteur("stage3.0.branch2.0.weight", {4, 5}));
  EXPECT_FALSE(result.finished);
  const std::string images_path = path("run") + "/nonfinite_batch.npz",
                    names_path = path("run") + "/nonfinite_batch.txt";
  expect_contains(
      result.error,
      {"the gradients of step 5 (epoch 1, learning rate 0.0", "loss scale 1)", "training has diverged",
       "is the output of stage3.0.branch2 (", "the parameter stage3.0.branch2.0.weight is not finite itself",
       "Batch 5 of the run", images_path, names_path, "schedule.lr", "train.nonfinite=skip", "train.limit_steps=5"});

  // The batch is what the network saw: batch 4 of epoch 0, as augmented.
  const Config used = config({});
  const TrainData data = open_train_data(used);
  Loader loader(*data.train, train_loader_options(used, 1));
  loader.start_epoch(0, 4);
  Batch batch;
  ASSERT_TRUE(loader.next(batch));
  const TensorMap saved = read_npz(images_path);
  const HostTensor& images = saved.at("images");
  EXPECT_EQ(images.shape, (std::vector<int64_t>{8, 32, 32, 1}));
  EXPECT_EQ(std::vector<uint8_t>(batch.images, batch.images + 8 * 32 * 32) ==
                std::vector<uint8_t>(images.bytes.begin(), images.bytes.end()),
            true);
  ASSERT_EQ(saved.at("indices").bytes.size(), 8 * sizeof(int64_t));
  EXPECT_EQ(std::memcmp(saved.at("indices").bytes.data(), batch.indices, 8 * sizeof(int64_t)), 0);
  ASSERT_EQ(saved.at("labels").bytes.size(), 8 * sizeof(int32_t));
  EXPECT_EQ(std::memcmp(saved.at("labels").bytes.data(), batch.labels, 8 * sizeof(int32_t)), 0);
  const std::string names = text_of(names_path);
  EXPECT_EQ(std::count(names.begin(), names.end(), '\n'), 8);
  EXPECT_EQ(names.rfind(data.train->name(batch.indices[0]) + "\n", 0), 0u) << names;
}

// Mixed batches, several a step, in the second epoch: both go wrong, and the first is named.
TEST_F(TrainerNonFinite, NamesTheFirstBatchOfAStep) {
  const Result result = run("run", {"optimizer.accumulate=2", "augment.mixup=1", "train.log_every_steps=1"},
                            Saboteur("stage2.0.branch2.0.weight", {5}));
  expect_contains(result.error,
                  {"the gradients of step 6 (epoch 2", "output of stage2.0.branch2", "Batch 11 of the run"});
}

// What is wrong in step 5 is right again when the step is computed again.
TEST_F(TrainerNonFinite, ABatchIsSavedWhereNothingIsFound) {
  const Result result =
      run("run", {"optimizer.accumulate=2", "train.log_every_steps=4"}, Saboteur("stage3.0.branch2.0.weight", {2}));
  expect_contains(result.error, {"the gradients of step 3 (epoch 1", "Computed again, every tensor is finite",
                                 "Batch 5 of the run is saved in " + path("run") + "/nonfinite_batch.npz"});
  EXPECT_EQ(read_npz(path("run") + "/nonfinite_batch.npz").at("labels").elements(), 8);
}

// Logits near the largest number: those of classes 0 and 1 are further apart than it.
TEST_F(TrainerNonFinite, ALossThatIsNotFiniteIsExplainedAndItsBatchSaved) {
  const Result result = run("run", {}, Setter("fc.bias", 4, {3e38f, -3e38f}));
  EXPECT_FALSE(result.finished);
  expect_contains(
      result.error,
      {"the loss of step 5 (epoch 1, learning rate 0.0", "loss scale 1)", "is not finite, though the gradients are",
       "with the weights after step 6", "The first tensor that is not finite is the loss (",
       "Batch 5 of the run is saved in " + path("run") + "/nonfinite_batch.npz", "schedule.lr", "train.limit_steps=5"});
  EXPECT_EQ(read_npz(path("run") + "/nonfinite_batch.npz").at("labels").elements(), 8);
  EXPECT_EQ(result.error.find("train.nonfinite=skip"), std::string::npos) << "that would not help";
}

// Though the network is well again: the second batch of a step, as only that one has an image of class 1.
TEST_F(TrainerNonFinite, TheBatchOfALossIsKnownWithoutARecomputation) {
  const std::vector<std::string> overrides{"train.batch=2", "optimizer.accumulate=2", "train.log_every_steps=16",
                                           "schedule.lr=1e-30"};
  const Config used = config(overrides);
  const TrainData data = open_train_data(used);
  Loader loader(*data.train, train_loader_options(used, 1));
  loader.start_epoch(0);
  std::vector<bool> has_class;
  for (Batch batch; loader.next(batch);)
    has_class.push_back(std::count(batch.labels, batch.labels + batch.count, 1) > 0);
  int64_t step = 1;
  while (has_class.at(static_cast<size_t>(2 * step)) || !has_class.at(static_cast<size_t>(2 * step + 1))) ++step;

  const Setter break_it("fc.bias", step, {3e38f, -3e38f}), mend_it("fc.bias", step + 1, {0, 0});
  const Result result = run("run", overrides, [&](Trainer& trainer, Backend& backend) {
    break_it(trainer, backend);
    mend_it(trainer, backend);
  });
  expect_contains(result.error,
                  {join("the loss of step ", step + 1, " ("), "with the weights after step 16. Then every tensor is",
                   join("Batch ", 2 * step + 2, " of the run is saved in ")});
}

// What went wrong is said in any case.
TEST_F(TrainerNonFinite, ABatchThatCannotBeSavedHidesNothing) {
  std::filesystem::create_directories(path("run/nonfinite_batch.npz"));
  const Result result = run("run", {}, Saboteur("stage3.0.branch2.0.weight", {4, 5}));
  expect_contains(result.error, {"the gradients of step 5 (epoch 1, learning rate 0.0", "training has diverged",
                                 "is the output of stage3.0.branch2 (",
                                 "Batch 5 of the run could not be saved: cannot write " +
                                     path("run/nonfinite_batch.npz") + ": it is a folder",
                                 "train.limit_steps=5"});
}

TEST_F(TrainerNonFinite, ABatchThatCannotBeLoadedAgainHidesNothing) {
  const auto backend = make_cpu_backend(1);
  const Config used = config({"train.limit_steps=6", "data.max_bad_images=0"});  // no image of another epoch is read
  TrainData data = open_train_data(used);
  data.train = std::make_unique<ReadOnce>(std::move(data.train));
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, false);
  Trainer trainer(*backend, used, data, 1, progress);
  Saboteur saboteur("stage3.0.branch2.0.weight", {4, 5});
  expect_error(
      [&] {
        trainer.run(RunFolder::reopen(path("run")), [&] {
          saboteur(trainer, *backend);
          return false;
        });
      },
      {"the gradients of step 5 (epoch 1", "training has diverged", "It could not be computed again: ", "has gone",
       "Batch 5 of the run could not be saved: ", "train.limit_steps=5"});
}

TEST_F(TrainerNonFinite, SkipsWithinTheLimitAndSaysSo) {
  const std::vector<std::string> skip{"train.nonfinite=skip", "train.max_skipped_steps=3", "train.log_every_steps=1"};
  const Result within = run("within", skip, Saboteur("conv5.0.weight", {2, 9, 10}));
  EXPECT_EQ(within.error, "");
  EXPECT_TRUE(within.finished);
  expect_contains(within.out, {"warning: step 3 was skipped: its gradients are not finite (learning rate 0.0",
                               "warning: step 11 was skipped", "3 so far, the limit is 3 (train.max_skipped_steps)"});
  const std::vector<nlohmann::json> log = records("within", "train");
  ASSERT_EQ(log.size(), 13u);
  for (const nlohmann::json& record : log) {
    EXPECT_TRUE(record.at("loss").is_number()) << record;
    EXPECT_TRUE(record.at("grad_norm").is_number()) << record;
  }

  const Result beyond = run("beyond", skip, Saboteur("conv5.0.weight", {2, 9, 10, 11}));
  EXPECT_FALSE(beyond.finished);
  expect_contains(beyond.error, {"4 steps had gradients that are not finite, the last at step 12",
                                 "train.max_skipped_steps, 3", "train.nonfinite=stop"});
}

// The weights that a run has left with steps skipped are those of a run without them, but for the learning rate.
TEST_F(TrainerNonFinite, ASkippedStepLeavesTheWeights) {
  std::string before, after;
  const auto weights = [&](Trainer& trainer, Backend& backend) {
    std::string all;
    trainer.network().for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (name == "conv5.0.weight") return;  // not finite then
      std::vector<float> values(static_cast<size_t>(parameter.value.elements()));
      backend.download(parameter.value, DType::kF32, values.data());
      all.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    });
    return all;
  };
  Saboteur saboteur("conv5.0.weight", {4});
  run("run", {"train.nonfinite=skip"}, [&](Trainer& trainer, Backend& backend) {
    if (trainer.finished_steps() == 4) before = weights(trainer, backend);
    if (trainer.finished_steps() == 5) after = weights(trainer, backend);
    saboteur(trainer, backend);
  });
  EXPECT_FALSE(before.empty());
  EXPECT_EQ(before == after, true);
}

// The log shows the norm of the last step of a window, even where that was skipped.
TEST_F(TrainerNonFinite, AWindowWithASkippedStepIsLogged) {
  const Result result = run("run", {"train.nonfinite=skip", "train.duration=6it"}, Saboteur("conv5.0.weight", {5}));
  EXPECT_TRUE(result.finished) << result.error;
  const std::vector<nlohmann::json> log = records("run", "train");
  EXPECT_EQ(log.back().at("step"), 6);
  EXPECT_TRUE(log.back().at("loss").is_number());
  EXPECT_TRUE(log.back().at("grad_norm").is_null());
}

// A dry run writes nothing, this included.
TEST_F(TrainerNonFinite, ADryRunStopsToo) {
  const auto backend = make_cpu_backend(1);
  const Config used = config({});
  const TrainData data = open_train_data(used);
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, false);
  Trainer trainer(*backend, used, data, 1, progress);
  trainer.network().for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (name == "fc.bias") backend->fill(static_cast<double>(kInfinity), parameter.value);
  });
  expect_error([&] { trainer.try_steps(2); },
               {"the gradients of step 1", "the parameter fc.bias is not finite itself"});
}

}  // namespace
}  // namespace riffle
