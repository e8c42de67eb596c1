// Parity of whole networks: logits, every parameter's gradient and the running statistics of a training step, in all
// dialects, on every backend against RefBackend; and batch norm folded into convolutions against the same unfolded.
#include <map>

#include "layers/shufflenet_v2.h"
#include "layers/softmax_cross_entropy.h"
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

using Named = std::map<std::string, std::vector<double>>;

// The project's limits for float32 against the truth, relative to the norm of each tensor.
constexpr double kLogitsTolerance = 1e-4, kGradientTolerance = 1e-3;

class NetworkParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(NetworkParity);

ShuffleNetV2Config small_network(Dialect dialect) {
  ShuffleNetV2Config config;
  config.dialect = dialect;
  config.stage_channels = {20, 36};
  config.stage_repeats = {2, 3};
  config.stem_channels = 9;
  config.head_channels = 40;
  config.classes = 7;
  config.stem_stride = 1;
  config.dropout = 0.2;
  return config;
}

std::vector<double> host(Backend& backend, const Tensor& x) {
  std::vector<double> values(static_cast<size_t>(x.elements()));
  backend.download(x, DType::kF64, values.data());
  return values;
}

// The same small network, images and labels on any backend.
class NetworkRun {
 public:
  NetworkRun(Backend& backend, Dialect dialect) : backend_(backend), network_(backend, small_network(dialect), 1) {
    RandomStream random(1, RandomPurpose::kTest);
    const auto draw = [&](const Tensor& to, double mean, double deviation) {
      std::vector<float> values(static_cast<size_t>(to.elements()));
      for (float& value : values) value = static_cast<float>(mean + deviation * random.normal());
      backend_.upload(values.data(), DType::kF32, to);
    };
    // Other values than the initial ones, where a norm is nearly the identity.
    network_.for_each_parameter([&](const std::string&, Parameter& parameter) {
      if (parameter.kind != ParameterKind::kVector) return;
      draw(parameter.value, parameter.name == "weight" ? 1 : 0, 0.2);
    });
    network_.for_each_buffer(
        [&](const std::string&, Buffer& buffer) { draw(buffer.value, buffer.name == "running_var" ? 1 : 0, 0.1); });
    images_ = backend.empty({5, 33, 30, 3});
    draw(images_, 0, 1);
    labels_ = backend.empty({5, 1, 1, 1}, DType::kI32);
    const int32_t labels[] = {6, 0, 3, 3, 1};
    backend.upload(labels, DType::kI32, labels_);
  }

  ShuffleNetV2& network() { return network_; }

  std::vector<double> infer() {
    return host(backend_, network_.forward({backend_, nullptr, false, 1, 1}, Variable(images_, false)).value());
  }

  Named train() {
    Tape tape;
    const Context context{backend_, &tape, true, 1, 1};
    const Variable logits = network_.forward(context, Variable(images_, false));
    Named results{{"logits", host(backend_, logits.value())}};
    results["loss"] = host(backend_, softmax_cross_entropy(context, logits, labels_, 0.1));
    tape.backward();
    network_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
      results["gradient of " + name] = host(backend_, parameter.grad);
    });
    network_.for_each_buffer(
        [&](const std::string& name, Buffer& buffer) { results[name] = host(backend_, buffer.value); });
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

void expect_near(const std::string& name, const std::vector<double>& got, const std::vector<double>& wanted,
                 double tolerance, double scale) {
  ASSERT_EQ(got.size(), wanted.size()) << name;
  std::vector<double> difference = got;
  for (size_t i = 0; i < got.size(); ++i) difference[i] -= wanted[i];
  EXPECT_LE(norm(difference), tolerance * scale) << name << ", whose norm is " << norm(wanted);
}

const Dialect kDialects[] = {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack};

TEST_P(NetworkParity, TrainingStep) {
  for (Dialect dialect : kDialects) {
    SCOPED_TRACE(name_of(dialect));
    const std::unique_ptr<Backend> reference = make_reference_backend();
    const Named wanted = NetworkRun(*reference, dialect).train(), got = NetworkRun(backend(), dialect).train();
    ASSERT_EQ(got.size(), wanted.size());
    // A shift before a batch norm has gradient 0, and float32 leaves a remainder that is small against other gradients.
    double typical = 0;
    size_t gradients = 0;
    for (const auto& [name, values] : wanted)
      if (name.rfind("gradient of ", 0) == 0) typical += norm(values), ++gradients;
    typical /= static_cast<double>(gradients);
    for (const auto& [name, values] : wanted) {
      const bool is_gradient = name.rfind("gradient of ", 0) == 0;
      const double scale = is_gradient ? std::max(norm(values), 0.01 * typical) : norm(values);
      expect_near(name, got.at(name), values, is_gradient ? kGradientTolerance : kLogitsTolerance, scale);
    }
  }
}

TEST_P(NetworkParity, InferenceAndFolding) {
  for (Dialect dialect : kDialects) {
    SCOPED_TRACE(name_of(dialect));
    const std::unique_ptr<Backend> reference = make_reference_backend();
    NetworkRun exact(*reference, dialect), test(backend(), dialect);
    const std::vector<double> wanted = exact.infer();
    expect_near("logits", test.infer(), wanted, kLogitsTolerance, norm(wanted));
    exact.network().fold_batch_norm(*reference);
    expect_near("folded logits of the reference", exact.infer(), wanted, 1e-12, norm(wanted));
    for (int time = 0; time < 2; ++time) {  // folding twice changes nothing
      test.network().fold_batch_norm(backend());
      expect_near("folded logits", test.infer(), wanted, kLogitsTolerance, norm(wanted));
    }
  }
}

TEST_P(NetworkParity, AFoldedNetworkRefusesToTrain) {
  NetworkRun run(backend(), Dialect::kTorchvision);
  run.network().fold_batch_norm(backend());
  EXPECT_THROW(run.train(), Error);
}

}  // namespace
}  // namespace riffle
