// Initialisation of each dialect.
#include "layers/initialise.h"

#include <cmath>
#include <vector>

#include "core/rng.h"

namespace riffle {
namespace {

// Fills a parameter with draw(); values are drawn in the published order of channels, so they do not depend on how
// they are stored.
template <class Draw>
void fill_random(Backend& backend, const Parameter& parameter, const Draw& draw) {
  std::vector<double> values(static_cast<size_t>(parameter.value.elements()));
  for (double& value : values) value = draw();
  values = to_stored_order(values, parameter.value.shape(), parameter.order);
  backend.upload(values.data(), DType::kF64, parameter.value);
}

// Standard normal cut off at +-2, rescaled to variance 1.
double truncated_normal(RandomStream& random) {
  constexpr double kDeviationOfTruncated = 0.87962566103423978;
  for (;;) {
    const double value = random.normal();
    if (std::abs(value) <= 2) return value / kDeviationOfTruncated;
  }
}

}  // namespace

void initialise_conv_bn(Backend& backend, Dialect dialect, bool first, uint64_t seed, uint64_t number, ConvBn& block) {
  RandomStream random(seed, RandomPurpose::kInitialise, number);
  const Parameter& weight = block.conv().weight();
  const double fan_in = static_cast<double>(block.conv().inputs_per_output());
  const bool depthwise = weight.kind == ParameterKind::kDepthwiseFilter;
  switch (dialect) {
    case Dialect::kTorchvision: {
      const double bound = 1 / std::sqrt(fan_in);
      fill_random(backend, weight, [&] { return random.uniform(-bound, bound); });
      return;
    }
    case Dialect::kMegvii: {
      const double group_inputs = depthwise ? 1 : static_cast<double>(weight.value.channels());
      const double deviation = first ? 0.01 : 1 / group_inputs;
      fill_random(backend, weight, [&] { return deviation * random.normal(); });
      backend.fill(1e-4, block.norm().bias().value);
      return;
    }
    case Dialect::kTensorpack: {
      const double tensorflow_fan_in = depthwise ? fan_in * static_cast<double>(weight.value.channels()) : fan_in;
      const double deviation = std::sqrt(2 / tensorflow_fan_in);
      fill_random(backend, weight, [&] { return deviation * truncated_normal(random); });
      return;
    }
  }
  fail("unknown dialect ", static_cast<int>(dialect));
}

void initialise_linear(Backend& backend, Dialect dialect, uint64_t seed, uint64_t number, Linear& linear) {
  RandomStream random(seed, RandomPurpose::kInitialise, number);
  const Parameter& weight = linear.weight();
  const double inputs = static_cast<double>(weight.value.channels());
  if (dialect == Dialect::kTorchvision) {
    const double bound = 1 / std::sqrt(inputs);
    fill_random(backend, weight, [&] { return random.uniform(-bound, bound); });
    if (linear.bias()) fill_random(backend, *linear.bias(), [&] { return random.uniform(-bound, bound); });
    return;
  }
  if (dialect == Dialect::kMegvii) {
    fill_random(backend, weight, [&] { return 0.01 * random.normal(); });
  } else {
    fill_random(backend, weight, [&] { return std::sqrt(2 / inputs) * truncated_normal(random); });
  }
  if (linear.bias()) backend.fill(0, linear.bias()->value);
}

}  // namespace riffle
