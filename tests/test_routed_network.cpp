// A network that routes channels against one that shuffles them, as published: with the same published weights, the same
// results, in all dialects and modes.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>

#include "core/cpu/cpu_backend.h"
#include "core/rng.h"
#include "layers/shufflenet_v2.h"
#include "layers/softmax_cross_entropy.h"
#include "tests/reference/ref_backend.h"
#include "tests/tensor_values.h"
#include "train/checkpoint/module_io.h"

namespace riffle {
namespace {

using Named = std::map<std::string, std::vector<double>>;

const Dialect kDialects[] = {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack};

// A network with values unlike the initial ones, where a norm is nearly the identity, in published order.
TensorMap random_weights(Backend& backend, ShuffleNetV2& network) {
  RandomStream random(3, RandomPurpose::kTest);
  const auto draw = [&](const Tensor& to, double mean, double deviation) {
    std::vector<double> values(static_cast<size_t>(to.elements()));
    for (double& value : values) value = mean + deviation * random.normal();
    backend.upload(values.data(), DType::kF64, to);
  };
  network.for_each_parameter([&](const std::string&, Parameter& parameter) {
    if (parameter.kind == ParameterKind::kVector) draw(parameter.value, parameter.name == "weight" ? 1 : 0, 0.2);
  });
  network.for_each_buffer(
      [&](const std::string&, Buffer& buffer) { draw(buffer.value, buffer.name == "running_var" ? 1 : 0, 0.1); });
  TensorMap weights;
  export_module(backend, network, weights);
  return weights;
}

struct Problem {
  ShuffleNetV2Config config;
  int64_t images, height, width;
};

// The same network, weights, images and labels, with or without shuffles.
class TestedNetwork {
 public:
  TestedNetwork(Backend& backend, const Problem& problem, ShuffleExecution execution, uint64_t seed = 4)
      : backend_(backend), network_(backend, problem.config, 1, execution) {
    ShuffleNetV2 source(backend, problem.config, 5, ShuffleExecution::kPlain);
    import_module(backend, network_, random_weights(backend, source), "the test");
    RandomStream random(seed, RandomPurpose::kTest);
    images_ = backend.empty({problem.images, problem.height, problem.width, problem.config.input_channels});
    std::vector<double> pixels(static_cast<size_t>(images_.elements()));
    for (double& pixel : pixels) pixel = random.normal();
    backend.upload(pixels.data(), DType::kF64, images_);
    labels_ = backend.empty({problem.images, 1, 1, 1}, DType::kI32);
    std::vector<int32_t> labels;
    for (int64_t n = 0; n < problem.images; ++n)
      labels.push_back(static_cast<int32_t>(random.below(problem.config.classes)));
    backend.upload(labels.data(), DType::kI32, labels_);
  }

  ShuffleNetV2& network() { return network_; }

  std::vector<double> infer() {
    return host(backend_, network_.forward({backend_, nullptr, false, 1, 1}, Variable(images_, false)).value());
  }

  // Logits, losses, running statistics and the gradients of what is not frozen, in published order; twice, so that
  // gradients accumulate too.
  Named train(bool training = true) {
    Named results;
    network_.zero_grad();
    const Variable images(images_, /*requires_grad=*/false);
    for (const char* time : {"first ", "second "}) {
      Tape tape;
      const Context context{backend_, &tape, training, 1, 1};
      const Variable logits = network_.forward(context, images);
      results[std::string(time) + "logits"] = host(backend_, logits.value());
      results[std::string(time) + "loss"] = host(backend_, softmax_cross_entropy(context, logits, labels_, 0.1));
      tape.backward();
      network_.for_each_parameter([&](const std::string& name, Parameter& p) {
        EXPECT_EQ(p.grad_written, !p.frozen) << name;
        if (p.frozen) return;
        results[time + ("gradient of " + name)] = to_published_order(host(backend_, p.grad), p.value.shape(), p.order);
      });
    }
    network_.for_each_buffer([&](const std::string& name, Buffer& buffer) {
      results[name] = to_published_order(host(backend_, buffer.value), buffer.value.shape(), buffer.order);
    });
    return results;
  }

 private:
  Backend& backend_;
  ShuffleNetV2 network_;
  Tensor images_, labels_;
};

double norm(const std::vector<double>& x) {
  double squares = 0;
  for (double value : x) squares += value * value;
  return std::sqrt(squares);
}

void expect_near(const std::string& name, std::vector<double> got, const std::vector<double>& wanted, double bound) {
  ASSERT_EQ(got.size(), wanted.size()) << name;
  for (size_t i = 0; i < got.size(); ++i) got[i] -= wanted[i];
  EXPECT_LE(norm(got), bound) << name << ", whose norm is " << norm(wanted);
}

bool is_near(std::vector<double> got, const std::vector<double>& wanted, double bound) {
  for (size_t i = 0; i < got.size(); ++i) got[i] -= wanted[i];
  return norm(got) <= bound;
}

// Bounds relative to the norm of each tensor; of gradients that cancel (a shift before a norm), to that of a typical one.
std::map<std::string, double> bounds_of(const Named& wanted, double tolerance) {
  double typical = 0;
  for (const auto& [name, values] : wanted) typical += norm(values) / static_cast<double>(wanted.size());
  std::map<std::string, double> bounds;
  for (const auto& [name, values] : wanted) bounds[name] = tolerance * std::max(norm(values), 0.01 * typical);
  return bounds;
}

bool is_gradient(const std::string& name) {
  return name.find("gradient of") != std::string::npos;
}

Problem tiny(Dialect dialect) {
  ShuffleNetV2Config config;
  config.dialect = dialect;
  config.stage_channels = {20, 36};
  config.stage_repeats = {3, 4};
  config.stem_channels = 9;
  config.head_channels = 40;
  config.classes = 7;
  config.stem_stride = 1;
  config.dropout = 0.2;
  return {config, 5, 33, 38};
}

Problem half_width(Dialect dialect) {
  ShuffleNetV2Config config = ShuffleNetV2Config::published("0.5x", dialect);
  config.classes = 10;
  return {config, 4, 64, 61};
}

struct Case {
  Dialect dialect;
  bool reference;  // RefBackend in float64, else the CPU

  std::unique_ptr<Backend> backend() const {
    return reference ? make_reference_backend() : make_cpu_backend(2, /*poison=*/true);
  }
  double tolerance() const { return reference ? 1e-10 : 1e-4; }
};

class RoutedNetwork : public ::testing::TestWithParam<Case> {};

void expect_same_training(const Problem& problem, const std::function<void(ShuffleNetV2&)>& prepare,
                          bool training = true) {
  const Case& test = RoutedNetwork::GetParam();
  const std::unique_ptr<Backend> backend = test.backend();
  // Values are continuous; gradients jump where a rounding turns a ReLU or a maximum over, which in f32 happens for some
  // images. A mistake shows for all of them: gradients must agree for one of a few sets of images, to the same bound.
  const uint64_t last_seed = test.reference ? 4 : 11;
  for (uint64_t seed = 4; seed <= last_seed; ++seed) {
    TestedNetwork plain(*backend, problem, ShuffleExecution::kPlain, seed),
        routed(*backend, problem, ShuffleExecution::kRouted, seed);
    prepare(plain.network());
    prepare(routed.network());
    const Named wanted = plain.train(training), got = routed.train(training);
    ASSERT_EQ(got.size(), wanted.size());
    bool gradients_agree = true;
    for (const auto& [name, bound] : bounds_of(wanted, test.tolerance())) {
      ASSERT_EQ(got.at(name).size(), wanted.at(name).size()) << name;
      const bool must_agree = !is_gradient(name) || seed == last_seed;
      if (must_agree) expect_near(name, got.at(name), wanted.at(name), bound);
      gradients_agree = gradients_agree && is_near(got.at(name), wanted.at(name), bound);
    }
    if (gradients_agree || ::testing::Test::HasFailure()) return;
  }
}

TEST_P(RoutedNetwork, TrainsLikeThePlainOne) {
  for (const Problem& problem : {tiny(GetParam().dialect), half_width(GetParam().dialect)})
    expect_same_training(problem, [](ShuffleNetV2&) {});
}

TEST_P(RoutedNetwork, DifferentiatesLikeThePlainOneInEvaluation) {
  expect_same_training(
      tiny(GetParam().dialect), [](ShuffleNetV2&) {}, /*training=*/false);
}

// Frozen layers are not fused.
TEST_P(RoutedNetwork, TrainsFrozenLayersLikeThePlainOne) {
  const auto freeze_norms = [](ShuffleNetV2& network) {
    network.for_each_module([](const std::string& name, Module& module) {
      auto* batch_norm = dynamic_cast<BatchNorm2d*>(&module);
      if (batch_norm && name.find("stage2") == 0) batch_norm->freeze_statistics(true);
    });
  };
  const auto freeze_filters = [](ShuffleNetV2& network) {
    int number = 0;
    network.for_each_parameter([&](const std::string&, Parameter& parameter) {
      if (parameter.kind != ParameterKind::kVector) parameter.frozen = number++ % 3 == 0;
    });
  };
  const auto freeze_vectors = [](ShuffleNetV2& network) {
    network.for_each_parameter([](const std::string& name, Parameter& parameter) {
      if (parameter.kind == ParameterKind::kVector && name.find("stage3") == 0) parameter.frozen = true;
    });
  };
  const std::function<void(ShuffleNetV2&)> all[] = {freeze_norms, freeze_filters, freeze_vectors};
  for (const auto& freeze : all) expect_same_training(tiny(GetParam().dialect), freeze);
}

TEST_P(RoutedNetwork, InfersLikeThePlainOne) {
  for (const Problem& problem : {tiny(GetParam().dialect), half_width(GetParam().dialect)}) {
    const std::unique_ptr<Backend> backend = GetParam().backend();
    TestedNetwork plain(*backend, problem, ShuffleExecution::kPlain),
        routed(*backend, problem, ShuffleExecution::kRouted);
    const std::vector<double> wanted = plain.infer();
    const double bound = GetParam().tolerance() * norm(wanted);
    expect_near("logits", routed.infer(), wanted, bound);
    for (TestedNetwork* run : {&plain, &routed}) run->network().fold_batch_norm(*backend);
    expect_near("folded logits", routed.infer(), wanted, bound);
    expect_near("folded logits of the plain network", plain.infer(), wanted, bound);
  }
}

TEST_P(RoutedNetwork, ExportsThePublishedOrder) {
  const std::unique_ptr<Backend> backend = GetParam().backend();
  const Problem problem = half_width(GetParam().dialect);
  ShuffleNetV2 source(*backend, problem.config, 5, ShuffleExecution::kPlain);
  const TensorMap weights = random_weights(*backend, source);
  ShuffleNetV2 routed(*backend, problem.config, 1);
  import_module(*backend, routed, weights, "the test");
  TensorMap exported;
  export_module(*backend, routed, exported);
  ASSERT_EQ(exported.size(), weights.size());
  size_t reordered = 0;
  for (const auto& [name, tensor] : weights) EXPECT_EQ(exported.at(name).bytes, tensor.bytes) << name;
  routed.for_each_parameter([&](const std::string&, Parameter& p) { reordered += p.order.c.empty() ? 0 : 1; });
  EXPECT_GT(reordered, 50u);
}

// What a seed initialises does not depend on how the network runs.
TEST_P(RoutedNetwork, StartsFromTheSameValues) {
  const std::unique_ptr<Backend> backend = GetParam().backend();
  TensorMap plain, routed;
  for (ShuffleExecution execution : {ShuffleExecution::kPlain, ShuffleExecution::kRouted}) {
    ShuffleNetV2 network(*backend, tiny(GetParam().dialect).config, 9, execution);
    export_module(*backend, network, execution == ShuffleExecution::kPlain ? plain : routed);
  }
  ASSERT_GT(plain.size(), 50u);
  for (const auto& [name, tensor] : plain) EXPECT_EQ(routed.at(name).bytes, tensor.bytes) << name;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (Dialect dialect : kDialects)
    for (bool reference : {true, false}) all.push_back({dialect, reference});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Networks, RoutedNetwork, ::testing::ValuesIn(cases()), [](const auto& parameter) {
  return std::string(name_of(parameter.param.dialect)) + (parameter.param.reference ? "_reference" : "_cpu");
});

}  // namespace
}  // namespace riffle
