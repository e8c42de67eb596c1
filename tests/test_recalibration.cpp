// Precise batch norm against two computations that share nothing with it: the stem's statistics from the definition, and
// those of every layer as the limit that ordinary running statistics reach in float64 when they see one batch for long.
#include "train/recalibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "core/cpu/cpu_backend.h"
#include "core/rng.h"
#include "tests/reference/ref_backend.h"
#include "tests/small_network.h"
#include "tests/tensor_values.h"
#include "tests/tiny_data.h"

namespace riffle {
namespace {

using Named = ValuesByName<double>;

constexpr int64_t kBatches = 2;
const Shape kImages{4, 12, 10, 3};

// Other scales and shifts than the initial ones, where every mean after a norm is 0.
void draw_norms(Backend& backend, ShuffleNetV2& network) {
  RandomStream random(3, RandomPurpose::kTest);
  network.for_each_parameter([&](const std::string&, Parameter& parameter) {
    if (parameter.kind != ParameterKind::kVector) return;
    std::vector<double> values(static_cast<size_t>(parameter.value.elements()));
    for (double& value : values)
      value = static_cast<float>((parameter.name == "weight" ? 1 : 0.1) + 0.2 * random.normal());
    backend.upload(values.data(), DType::kF64, parameter.value);
  });
  network.values_changed(backend);
}

std::vector<double> pixels_of(int64_t batch) {
  RandomStream random(11, RandomPurpose::kTest, static_cast<uint64_t>(batch));
  std::vector<double> values(static_cast<size_t>(kImages.n * kImages.h * kImages.w * kImages.c));
  for (double& value : values) value = static_cast<float>(0.3 * static_cast<double>(batch) + random.normal());
  return values;
}

Variable images_of(Backend& backend, int64_t batch) {
  const Tensor x = backend.empty(kImages);
  backend.upload(pixels_of(batch).data(), DType::kF64, x);
  return Variable(x, false);
}

Named recalibrated(Backend& backend, ShuffleNetV2& network) {
  int64_t next = 0;
  recalibrate(backend, network, kBatches, [&] { return images_of(backend, next++); });
  EXPECT_EQ(next, kBatches);
  return buffers_of(backend, network);
}

void expect_near(const Named& actual, const Named& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, values] : expected) {
    double largest = 0;
    for (double value : values) largest = std::max(largest, std::abs(value));
    for (size_t c = 0; c < values.size(); ++c)
      EXPECT_NEAR(actual.at(name)[c], values[c], tolerance * largest) << name << "[" << c << "]";
  }
}

// After 200 steps on one batch, 0.9^200 = 7e-10 of the initial statistics is left.
Named limits_of_running_statistics(Dialect dialect) {
  const std::unique_ptr<Backend> owner = make_reference_backend();
  Backend& backend = *owner;
  Named mean;
  for (int64_t batch = 0; batch < kBatches; ++batch) {
    ShuffleNetV2 network(backend, small_network(dialect), 1);
    draw_norms(backend, network);
    const Context context{backend, nullptr, /*training=*/true};
    const Variable images = images_of(backend, batch);
    for (int step = 0; step < 200; ++step) network.forward(context, images);
    for (const auto& [name, values] : buffers_of(backend, network)) {
      mean[name].resize(values.size());
      for (size_t c = 0; c < values.size(); ++c) mean[name][c] += values[c] / kBatches;
    }
  }
  return mean;
}

class Recalibration : public testing::TestWithParam<Dialect> {};
INSTANTIATE_TEST_SUITE_P(Dialects, Recalibration,
                         testing::Values(Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

TEST_P(Recalibration, StatisticsAreTheMeansOfTheBatches) {
  const Named expected = limits_of_running_statistics(GetParam());
  CpuBackend cpu(2, /*poison=*/true, Products::kF32);
  ShuffleNetV2 network(cpu, small_network(GetParam(), /*dropout=*/0.5), 1);
  draw_norms(cpu, network);
  const Named parameters = parameters_of(cpu, network);
  expect_near(recalibrated(cpu, network), expected, 1e-4);
  EXPECT_EQ(parameters_of(cpu, network), parameters);

  const std::unique_ptr<Backend> float64 = make_reference_backend();
  ShuffleNetV2 exact(*float64, small_network(GetParam()), 1);
  draw_norms(*float64, exact);
  expect_near(recalibrated(*float64, exact), expected, 1e-6);
}

// Convolution, mean and unbiased variance of the stem (3x3, stride 1, padding 1), written out.
TEST(RecalibrationOfTheStem, FollowsTheDefinition) {
  CpuBackend backend(1, /*poison=*/true, Products::kF32);
  ShuffleNetV2 network(backend, small_network(Dialect::kTorchvision), 1);
  const std::vector<double> filter = parameters_of(backend, network).at("conv1.0.weight");  // (K,3,3,C)
  const int64_t channels = small_network(Dialect::kTorchvision).stem_channels,
                pixels = kImages.n * kImages.h * kImages.w;
  std::vector<double> mean(static_cast<size_t>(channels)), var(static_cast<size_t>(channels));
  for (int64_t batch = 0; batch < kBatches; ++batch) {
    const std::vector<double> x = pixels_of(batch);
    for (int64_t k = 0; k < channels; ++k) {
      double sum = 0, squares = 0;
      for (int64_t p = 0; p < pixels; ++p) {
        const int64_t n = p / (kImages.h * kImages.w), row = p / kImages.w % kImages.h, column = p % kImages.w;
        double y = 0;
        for (int64_t r = 0; r < 3; ++r) {
          for (int64_t s = 0; s < 3; ++s) {
            const int64_t h = row + r - 1, w = column + s - 1;
            if (h < 0 || h >= kImages.h || w < 0 || w >= kImages.w) continue;
            for (int64_t c = 0; c < 3; ++c)
              y += filter[static_cast<size_t>(((k * 3 + r) * 3 + s) * 3 + c)] *
                   x[static_cast<size_t>(((n * kImages.h + h) * kImages.w + w) * 3 + c)];
          }
        }
        sum += y;
        squares += y * y;
      }
      const auto count = static_cast<double>(pixels);
      mean[static_cast<size_t>(k)] += sum / count / kBatches;
      var[static_cast<size_t>(k)] += (squares - sum * sum / count) / (count - 1) / kBatches;
    }
  }
  Named actual = recalibrated(backend, network);
  expect_near({{"mean", actual.at("conv1.1.running_mean")}, {"var", actual.at("conv1.1.running_var")}},
              {{"mean", mean}, {"var", var}}, 1e-5);
}

TEST(RecalibrationOfFrozenParts, LeavesTheirStatistics) {
  CpuBackend backend(1, /*poison=*/true, Products::kF32);
  ShuffleNetV2 network(backend, small_network(Dialect::kMegvii), 1);
  network.freeze_parts(backend, 2);
  const Named before = buffers_of(backend, network), after = recalibrated(backend, network);
  for (const auto& [name, values] : before) EXPECT_EQ(after.at(name) == values, network.part_of(name) < 2) << name;
}

TEST(RandomSubset, HasEachImageOnceInAnOrderOfItsSeed) {
  TemporaryFolder folder;
  write_image_folder(folder.path(), 40, 8, 1);
  const std::unique_ptr<Dataset> data = open_image_folder(folder.path(), 3);
  const RandomSubset subset(*data, 40, 5), again(*data, 40, 5), other(*data, 40, 6), few(*data, 7, 5);
  std::set<std::string> names;
  std::vector<std::string> order, same, differs;
  int64_t runs = 1;
  for (int64_t i = 0; i < 40; ++i) {
    names.insert(subset.name(i));
    order.push_back(subset.name(i));
    same.push_back(again.name(i));
    differs.push_back(other.name(i));
    if (i > 0 && subset.label(i) != subset.label(i - 1)) ++runs;
    EXPECT_NE(subset.name(i).find(subset.classes()[static_cast<size_t>(subset.label(i))]), std::string::npos);
  }
  EXPECT_EQ(names.size(), 40u);
  EXPECT_EQ(order, same);
  EXPECT_NE(order, differs);
  EXPECT_GT(runs, 15);  // by class there are 4
  EXPECT_EQ(few.size(), 7);
  EXPECT_EQ(few.description().rfind("7 random images of ", 0), 0u) << few.description();
}

}  // namespace
}  // namespace riffle
