// Parity of networks whose first parts are frozen. The gradients of what trains are those of a network whose frozen norms
// use their running statistics and which is differentiated all through: on the same device in every precision, and in
// float32 those of the plain composition on the reference. Nothing of the frozen parts changes.
#include <map>

#include "layers/shufflenet_v2.h"
#include "layers/softmax_cross_entropy.h"
#include "tests/parity.h"
#include "tests/small_network.h"
#include "tests/step_scalars.h"
#include "train/checkpoint/module_io.h"

namespace riffle {
namespace {

using namespace parity;

using Named = std::map<std::string, std::vector<double>>;

// As for whole networks: test_parity_network.cpp.
constexpr double kGradientTolerance = 1e-3, kLossScaleForF16 = 1024;
constexpr double kSumRounding = 1e-6;

class FrozenParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(FrozenParity);

// Published order, so that networks that store it otherwise compare.
std::vector<double> published(Backend& backend, const Tensor& tensor, const StoredOrder& order) {
  return to_published_order(host(backend, tensor), tensor.shape(), order);
}

Named state(Backend& backend, ShuffleNetV2& network) {
  Named values;
  network.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    values[name] = published(backend, parameter.value, parameter.order);
  });
  network.for_each_buffer(
      [&](const std::string& name, Buffer& buffer) { values[name] = published(backend, buffer.value, buffer.order); });
  return values;
}

// The same values by name in any network, neither of them the initial ones; filters are rounded to `dtype`.
void set_values(Backend& backend, DType dtype, ShuffleNetV2& network) {
  uint64_t number = 0;
  const auto set = [&](const Tensor& to, const StoredOrder& order, double mean, double deviation, bool round) {
    RandomStream random(1, RandomPurpose::kTest, number++);
    std::vector<double> values(static_cast<size_t>(to.elements()));
    for (double& value : values) {
      value = static_cast<float>(mean + deviation * random.normal());
      if (round) value = rounded_to(dtype, value);
    }
    values = to_stored_order(values, to.shape(), order);
    backend.upload(values.data(), DType::kF64, to);
  };
  network.for_each_parameter([&](const std::string&, Parameter& parameter) {
    const bool vector = parameter.kind == ParameterKind::kVector;
    const double fan_in =
        static_cast<double>(parameter.value.elements()) /
        static_cast<double>(parameter.kind == ParameterKind::kDepthwiseFilter ? parameter.value.channels()
                                                                              : parameter.value.shape().n);
    set(parameter.value, parameter.order, vector && parameter.name == "weight" ? 1 : 0,
        vector ? 0.2 : std::sqrt(2 / fan_in), !vector);
  });
  network.for_each_buffer([&](const std::string&, Buffer& buffer) {
    set(buffer.value, buffer.order, buffer.name == "running_var" ? 1 : 0, 0.1, false);
  });
  network.values_changed(backend);
}

// Gradients by name, of what has one.
Named gradients(Backend& backend, DType dtype, ShuffleNetV2& network) {
  const Tensor images = backend.empty({5, 33, 30, 3}), labels = backend.empty({5, 1, 1, 1}, DType::kI32);
  RandomStream random(2, RandomPurpose::kTest);
  std::vector<double> pixels(static_cast<size_t>(images.elements()));
  for (double& pixel : pixels) pixel = rounded_to(dtype, static_cast<float>(random.normal()));
  backend.upload(pixels.data(), DType::kF64, images);
  const int32_t classes[] = {6, 0, 3, 3, 1};
  backend.upload(classes, DType::kI32, labels);
  Tape tape;
  const Context context{backend, &tape, true, 1, 1};
  const Variable logits = network.forward(context, Variable(images, false));
  HostStepScalars scalars;
  scalars.loss_scale = kLossScaleForF16;
  softmax_cross_entropy(context, logits, labels, 0.1, 1, step_scalars(backend, scalars));
  tape.backward();
  Named named;
  network.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (!parameter.grad_written) return;
    std::vector<double>& gradient = named[name] = published(backend, parameter.grad, parameter.order);
    for (double& value : gradient) value /= kLossScaleForF16;
  });
  return named;
}

double norm(const std::vector<double>& x) {
  double squares = 0;
  for (double value : x) squares += value * value;
  return std::sqrt(squares);
}

double distance(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return norm(a);
}

// Of the frozen parts only the norms are frozen, and everything is differentiated.
void freeze_norms_only(ShuffleNetV2& network, int64_t frozen) {
  network.for_each_module([&](const std::string& name, Module& module) {
    auto* batch_norm = dynamic_cast<BatchNorm2d*>(&module);
    if (batch_norm) batch_norm->freeze_statistics(network.part_of(name) < frozen);
  });
}

Named gradients_through_frozen_norms(Backend& backend, DType dtype, Dialect dialect, int64_t frozen,
                                     ShuffleExecution execution) {
  ShuffleNetV2 network(backend, small_network(dialect), 1, execution);
  set_values(backend, dtype, network);
  freeze_norms_only(network, frozen);
  return gradients(backend, dtype, network);
}

void expect_near(const Named& got, const Named& wanted, double tolerance) {
  double typical = 0;
  for (const auto& [name, values] : got) typical += norm(wanted.at(name)) / static_cast<double>(got.size());
  for (const auto& [name, values] : got) {
    const std::vector<double>& exact = wanted.at(name);
    ASSERT_EQ(values.size(), exact.size()) << name;
    EXPECT_LE(distance(values, exact), tolerance * std::max(norm(exact), 0.01 * typical)) << name;
  }
}

TEST_P(FrozenParity, WhatTrainsHasTheGradientsOfThePlainComposition) {
  for (Dialect dialect : {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack}) {
    for (int64_t frozen : {1, 2, 4}) {
      SCOPED_TRACE(join(name_of(dialect), ", ", frozen, " parts frozen"));
      ShuffleNetV2 network(backend(), small_network(dialect), 1);
      set_values(backend(), backend().dtype(), network);
      network.freeze_parts(backend(), frozen);
      const Named before = state(backend(), network);
      const Named got = gradients(backend(), backend().dtype(), network);
      const Named after = state(backend(), network);
      const auto through_norms = [&](Backend& b, ShuffleExecution execution) {
        return gradients_through_frozen_norms(b, backend().dtype(), dialect, frozen, execution);
      };
      for (const auto& [name, values] : before) {
        const bool is_frozen = network.part_of(name) < frozen;
        const bool statistic = name.find(".running_") != std::string::npos;
        // Without an update only running statistics can change.
        EXPECT_EQ(after.at(name) == values, is_frozen || !statistic) << name;
        if (!statistic) {
          EXPECT_EQ(got.count(name), is_frozen ? 0u : 1u) << name;
        }
      }
      // On this backend the forward pass is the same operation for operation, so in any precision gradients agree
      // but for the rounding of their sums.
      expect_near(got, through_norms(backend(), ShuffleExecution::kRouted), kSumRounding);
      if (backend().dtype() != DType::kF32) continue;
      const std::unique_ptr<Backend> reference = make_reference_backend();
      expect_near(got, through_norms(*reference, ShuffleExecution::kPlain), kGradientTolerance);
    }
  }
}

}  // namespace
}  // namespace riffle
