// Parameters and multiply-accumulates of the published networks, against figures taken from the original code. A wrong
// stage width, unit count or branch split shows here before any weights are at hand.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <ostream>
#include <string>

#include "core/cpu/cpu_backend.h"
#include "layers/shufflenet_v2.h"

namespace riffle {
namespace {

struct Published {
  const char* width;
  Dialect dialect;
  int64_t parameters;
  double mega_macs;  // at 224x224, convolutions and classifier; two decimals
};

void PrintTo(const Published& p, std::ostream* out) {
  *out << name_of(p.dialect) << ' ' << p.width;
}

std::string name_of_case(const testing::TestParamInfo<Published>& info) {
  std::string name = join(name_of(info.param.dialect), "_", info.param.width);
  for (char& c : name) {
    if (c == '.') c = '_';
  }
  return name;
}

class PublishedCounts : public testing::TestWithParam<Published> {};

TEST_P(PublishedCounts, ParametersAndMacs) {
  const Published& published = GetParam();
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, ShuffleNetV2Config::published(published.width, published.dialect), /*seed=*/1);
  EXPECT_EQ(network.parameter_count(), published.parameters);

  int64_t registered = 0;
  network.for_each_parameter([&](const std::string&, Parameter& p) { registered += p.value.elements(); });
  EXPECT_EQ(registered, published.parameters);

  int64_t parameters = 0, macs = 0;
  for (const LayerRow& row : network.layer_table(224, 224)) {
    parameters += row.parameters;
    macs += row.macs;
  }
  EXPECT_EQ(parameters, published.parameters) << "sum of the layer table";
  EXPECT_EQ(std::llround(static_cast<double>(macs) / 1e4), std::llround(published.mega_macs * 100)) << macs << " MACs";
}

INSTANTIATE_TEST_SUITE_P(Networks, PublishedCounts,
                         testing::Values(Published{"0.5x", Dialect::kTorchvision, 1366792, 40.48},
                                         Published{"1.0x", Dialect::kTorchvision, 2278604, 144.91},
                                         Published{"1.5x", Dialect::kTorchvision, 3503624, 295.76},
                                         Published{"2.0x", Dialect::kTorchvision, 7393996, 583.25},
                                         Published{"0.5x", Dialect::kMegvii, 1365792, 40.48},
                                         Published{"1.0x", Dialect::kMegvii, 2278760, 145.81},
                                         Published{"1.5x", Dialect::kMegvii, 3506720, 298.97},
                                         Published{"2.0x", Dialect::kMegvii, 7402600, 590.78},
                                         // Megvii's network with a classifier bias.
                                         Published{"0.5x", Dialect::kTensorpack, 1366792, 40.48},
                                         Published{"1.0x", Dialect::kTensorpack, 2279760, 145.81}),
                         name_of_case);

}  // namespace
}  // namespace riffle
