// Ranges around the work of layers: that every layer has one, forward and backward; what they add up to by layer; and
// the steps that `riffle bench` times with them.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/cpu/cpu_backend.h"
#include "small_network.h"
#include "train/layer_times.h"
#include "train/step_bench.h"
#include "train/train_step.h"

namespace riffle {
namespace {

struct RangeNames {
  std::set<std::string> forward, backward;  // these without kBackwardRange

  explicit RangeNames(const std::vector<RangeTime>& ranges) {
    for (const RangeTime& range : ranges) {
      const size_t end = range.name.find(kBackwardRange);
      (end == std::string::npos ? forward : backward).insert(range.name.substr(0, end));
    }
  }
};

// Whether the layer has a range, or a part of the network that it belongs to or that belongs to it.
bool has_range(const std::set<std::string>& names, const std::string& layer) {
  const auto within = [](const std::string& inner, const std::string& outer) {
    return inner == outer || inner.rfind(outer + ".", 0) == 0;
  };
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return within(layer, name) || within(name, layer); });
}

std::vector<RangeTime> training_ranges(const ShuffleNetV2Config& config, std::vector<LayerRow>& layers) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, config, /*seed=*/1);
  layers = network.layer_table(32, 32);
  TrainStepOptions options;
  options.batch = 2;
  options.ema_decay = 0.9;
  options.nonfinite = NonFinite::kSkip;
  TrainStep step(*backend, network, options);
  const Tensor x = backend->empty({2, 32, 32, 3}), labels = backend->empty({2, 1, 1, 1}, DType::kI32);
  std::vector<float> pixels(static_cast<size_t>(x.elements()));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 7);
  backend->upload(pixels.data(), DType::kF32, x);
  const int32_t classes[] = {0, 3};
  backend->upload(classes, DType::kI32, labels);
  backend->time_ranges();
  step.begin(0.1);
  step.forward_backward(Variable(x, /*requires_grad=*/false), labels);
  step.finish();
  step.read_metrics();
  return backend->range_times();
}

TEST(LayerRanges, EveryLayerOfTheTableHasThemForwardAndBackward) {
  for (const Dialect dialect : {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack})
    for (const bool max_pool : {true, false}) {
      SCOPED_TRACE(join(name_of(dialect), max_pool ? "" : ", without max-pooling"));
      ShuffleNetV2Config config = small_network(dialect, /*dropout=*/0.2);
      config.stem_max_pool = max_pool;
      std::vector<LayerRow> layers;
      const RangeNames names(training_ranges(config, layers));
      for (const LayerRow& layer : layers) {
        const std::string name = layer.name == "maxpool" ? "conv1.0.max_pool" : layer.name;  // a node of the stem
        EXPECT_TRUE(has_range(names.forward, name)) << name;
        EXPECT_TRUE(has_range(names.backward, name)) << name << kBackwardRange;
      }
      for (const char* other : {"dropout", "loss", "optimizer", "weight average", "metrics"})
        EXPECT_EQ(names.forward.count(other), 1u) << other;
      EXPECT_EQ(names.backward.count("dropout"), 1u);
    }
}

// Each has the kernels of its own layer: a range that another lies in would count them twice.
TEST(LayerRanges, LieSideBySide) {
  std::vector<LayerRow> layers;
  const std::vector<RangeTime> ranges = training_ranges(small_network(Dialect::kTorchvision), layers);
  EXPECT_EQ(std::count_if(ranges.begin(), ranges.end(), [](const RangeTime& range) { return range.name == "conv1"; }),
            1);
  EXPECT_EQ(std::count_if(ranges.begin(), ranges.end(),
                          [](const RangeTime& range) { return range.name == "stage2.0.branch1 backward"; }),
            1);
}

TEST(LayerRanges, OnlyTheOutermostAreTimedAndOnlyWhenAsked) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  { const ProfileRange before(*backend, "before"); }
  {
    const ProfileRange open(*backend, "open");
    backend->time_ranges();
  }
  {
    const ProfileRange outer(*backend, "outer");
    const ProfileRange inner(*backend, "inner");
  }
  { const ProfileRange last(*backend, "last"); }
  const std::vector<RangeTime> ranges = backend->range_times();
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].name, "outer");
  EXPECT_EQ(ranges[1].name, "last");
  { const ProfileRange after(*backend, "after"); }
  EXPECT_TRUE(backend->range_times().empty());
}

TEST(LayerTimes, ABackwardPassBelongsToItsForwardPass) {
  const std::vector<LayerTime> rows = layer_times({{"conv1", 1},
                                                   {"stage2.0.branch1", 2},
                                                   {"fc", 3},
                                                   {"loss", 4},
                                                   {"fc backward", 5},
                                                   {"stage2.exit backward", 6},
                                                   {"stage2.0.branch1.1 backward", 7},
                                                   {"stage2.0.branch1.0 backward", 8},
                                                   {"conv1.0.max_pool backward", 9},
                                                   {"conv1", 10}},
                                                  2);
  ASSERT_EQ(rows.size(), 5u);
  const auto expect_row = [&](size_t i, const std::string& name, double forward_ms, double backward_ms) {
    EXPECT_EQ(rows[i].name, name);
    EXPECT_EQ(rows[i].forward_ms, forward_ms) << name;
    EXPECT_EQ(rows[i].backward_ms, backward_ms) << name;
  };
  expect_row(0, "conv1", 5.5, 4.5);
  expect_row(1, "stage2.0.branch1", 1, 7.5);
  expect_row(2, "fc", 1.5, 2.5);
  expect_row(3, "loss", 2, 0);
  expect_row(4, "stage2.exit", 0, 3);
}

TEST(LayerTimes, MediansAreOfEachRow) {
  const std::vector<LayerTime> rows =
      median_layer_times({{{"a", 1, 6}, {"b", 5, 0}}, {{"a", 3, 4}, {"b", 9, 0}}, {{"a", 2, 5}, {"c", 1, 1}}});
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].forward_ms, 2);
  EXPECT_EQ(rows[0].backward_ms, 5);
  EXPECT_EQ(rows[1].forward_ms, 5);
  EXPECT_EQ(rows[2].name, "c");
  EXPECT_EQ(rows[2].forward_ms, 0);
}

StepBenchOptions small_bench() {
  StepBenchOptions options;
  options.width = "0.5x";
  options.batch = 2;
  options.size = 32;
  options.steps = 4;
  options.repeats = 3;
  return options;
}

// A read waits for the device, and a peer's benchmark that we are compared with waits once a repeat.
TEST(StepBench, ReadsMetricsOnceARepeat) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  const StepBenchOptions options = small_bench();
  backend->time_ranges();
  bench_steps(*backend, options);
  int64_t steps = 0, reads = 0, steps_before_read = 0;
  for (const RangeTime& range : backend->range_times()) {
    if (range.name == "loss") ++steps, ++steps_before_read;
    if (range.name != "read metrics") continue;
    EXPECT_EQ(steps_before_read, reads == 0 ? 3 : options.steps);  // warming up first
    ++reads;
    steps_before_read = 0;
  }
  EXPECT_EQ(steps, 3 + options.repeats * options.steps);
  EXPECT_EQ(reads, 1 + options.repeats);
}

TEST(StepBench, LayersAddUpToAStep) {
  for (const char* mode : {"train", "infer"}) {
    SCOPED_TRACE(mode);
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    StepBenchOptions options = small_bench();
    options.mode = mode;
    EXPECT_TRUE(bench_steps(*backend, options).layers.empty());
    options.layers = true;
    const StepBenchResult result = bench_steps(*backend, options);
    EXPECT_NEAR(result.step_ms * result.images_per_s, 1e3 * 2, 1e-6);
    EXPECT_GT(result.covered, 0.5);
    EXPECT_LE(result.covered, 1);
    bool any_backward = false;
    for (const LayerTime& layer : result.layers) {
      any_backward |= layer.backward_ms > 0;
      const bool once_a_repeat = layer.name == "read metrics";
      EXPECT_TRUE(once_a_repeat || layer.forward_ms > 0 || layer.backward_ms > 0) << layer.name;
    }
    EXPECT_EQ(any_backward, options.mode == "train");
  }
}

}  // namespace
}  // namespace riffle
