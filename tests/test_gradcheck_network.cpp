// Gradient checks of what the network is made of: batch norm with batch and with frozen statistics, convolution blocks,
// units of all dialects, and a whole small ShuffleNetV2 down to its loss.
#include <cmath>

#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/conv_bn.h"
#include "layers/depthwise_conv2d.h"
#include "layers/pointwise_conv2d.h"
#include "layers/shuffle_unit.h"
#include "layers/shufflenet_v2.h"
#include "layers/softmax_cross_entropy.h"
#include "tests/gradcheck.h"

namespace riffle {
namespace {

using gradcheck::GradientCheck;
using gradcheck::Variables;

const Dialect kDialects[] = {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack};

// Running statistics unlike those of any batch, so that confusing the two shows.
void set_running_statistics(GradientCheck& check, Module& module) {
  module.for_each_buffer([&](const std::string&, Buffer& buffer) {
    for (int64_t c = 0; c < buffer.value.elements(); ++c)
      buffer.value.data<double>()[c] =
          buffer.name == "running_var" ? check.random().uniform(0.5, 2) : 0.3 * check.random().normal();
  });
}

TEST(GradientOf, BatchNorm2d) {
  for (bool training : {true, false})
    for (bool relu : {false, true})
      for (bool sliced : {false, true}) {
        SCOPED_TRACE(join(training ? "batch statistics" : "running statistics", relu ? ", relu" : ""));
        GradientCheck check(training);
        BatchNorm2d norm(check.backend(), 4);
        norm.name_tree("norm");
        check.add_input({3, 3, 2, 4}, sliced);
        check.add_parameters(norm);
        set_running_statistics(check, norm);
        check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
          return {norm.forward(context, in[0], relu)};
        });
      }
}

TEST(GradientOf, BatchNorm2dWithFrozenStatisticsInTraining) {
  GradientCheck check;
  BatchNorm2d norm(check.backend(), 3);
  norm.name_tree("norm");
  norm.freeze_statistics(true);
  check.add_input({2, 3, 3, 3});
  check.add_parameters(norm);
  set_running_statistics(check, norm);
  check.expect_correct(
      [&](const Context& context, const Variables& in) -> Variables { return {norm.forward(context, in[0], true)}; });
}

TEST(BatchNorm2d, FrozenParametersGetNoGradient) {
  GradientCheck check;
  BatchNorm2d norm(check.backend(), 3);
  norm.name_tree("norm");
  check.backend().fill(std::nan(""), norm.weight().grad);
  norm.weight().frozen = norm.bias().frozen = true;
  const Tensor value = check.backend().empty({2, 2, 2, 3});
  for (int64_t i = 0; i < value.elements(); ++i) value.data<double>()[i] = check.random().normal();
  const Variable x(value);
  Tape tape;
  const Variable y = norm.forward({check.backend(), &tape, true, 1, 1}, x, true);
  const Tensor dy = check.backend().empty(y.shape());
  check.backend().fill(1, dy);
  y.set_grad(dy);
  tape.backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(norm.weight().grad_written || norm.bias().grad_written);
  EXPECT_TRUE(std::isnan(norm.weight().grad.data<double>()[0]));
}

// running = 0.9 * running + 0.1 * batch, with the unbiased variance; evaluation and frozen layers leave them alone.
TEST(BatchNorm2d, RunningStatistics) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  BatchNorm2d norm(*backend, 1);
  norm.name_tree("norm");
  const double values[] = {1, 2, 3, 6};  // mean 3, unbiased variance 14/3
  const Tensor x = backend->empty({4, 1, 1, 1});
  backend->upload(values, DType::kF64, x);
  const auto running = [&](const std::string& wanted) {
    double value = 0;
    norm.for_each_buffer([&](const std::string& name, Buffer& buffer) {
      if (name == wanted) value = buffer.value.data<double>()[0];
    });
    return value;
  };
  norm.forward({*backend, nullptr, false, 1, 1}, Variable(x), false);
  norm.freeze_statistics(true);
  norm.forward({*backend, nullptr, true, 1, 1}, Variable(x), false);
  EXPECT_EQ(running("running_mean"), 0);
  EXPECT_EQ(running("running_var"), 1);
  norm.freeze_statistics(false);
  norm.forward({*backend, nullptr, true, 1, 1}, Variable(x), false);
  EXPECT_DOUBLE_EQ(running("running_mean"), 0.3);
  EXPECT_DOUBLE_EQ(running("running_var"), 0.9 + 0.1 * 14 / 3);
}

TEST(GradientOf, ConvBn) {
  const auto make = [](Backend& backend, int kind) -> std::unique_ptr<Convolution> {
    if (kind == 0) return make_conv2d(backend, 3, 4, 3, 2, 1, Dialect::kTensorpack);
    if (kind == 1) return make_depthwise_conv2d(backend, 3, 2, Dialect::kMegvii);
    return make_pointwise_conv2d(backend, 3, 4);
  };
  for (int kind : {0, 1, 2})
    for (bool training : {true, false})
      for (bool relu : {true, false}) {
        GradientCheck check(training);
        ConvBnSequence block;
        block.append(check.backend(), make(check.backend(), kind), relu);
        block.name_tree("block");
        check.add_input({3, 4, 6, 3});
        check.add_parameters(block);
        set_running_statistics(check, block);
        check.expect_correct(
            [&](const Context& context, const Variables& in) -> Variables { return {block.forward(context, in[0])}; });
      }
}

TEST(GradientOf, ShuffleUnit) {
  for (Dialect dialect : kDialects)
    for (int64_t stride : {1, 2})
      for (bool training : {true, false}) {
        SCOPED_TRACE(join(name_of(dialect), ", stride ", stride, training ? ", training" : ", frozen statistics"));
        GradientCheck check(training);
        const int64_t inputs = stride == 1 ? 8 : 3;
        ShuffleUnit unit(check.backend(), inputs, 8, stride, dialect);
        unit.name_tree("unit");
        check.set_tolerance(1e-6);
        check.add_input({2, 4, 5, inputs});
        check.add_parameters(unit);
        set_running_statistics(check, unit);
        check.expect_correct(
            [&](const Context& context, const Variables& in) -> Variables { return {unit.forward(context, in[0])}; });
      }
}

// All of it, from pixels to the loss: a few elements of every parameter.
TEST(GradientOf, ShuffleNetV2) {
  for (Dialect dialect : kDialects)
    for (bool training : {true, false}) {
      SCOPED_TRACE(join(name_of(dialect), training ? ", training" : ", frozen statistics"));
      GradientCheck check(training);
      ShuffleNetV2Config config;
      config.dialect = dialect;
      config.stage_channels = {8, 12};
      config.stage_repeats = {2, 2};
      config.stem_channels = 4;
      config.head_channels = 10;
      config.classes = 5;
      config.input_channels = 1;
      config.stem_stride = 1;
      config.dropout = 0.2;
      ShuffleNetV2 network(check.backend(), config, 1);
      check.sample_elements(5);
      check.set_tolerance(1e-6);
      check.add_input({3, 16, 17, 1});
      check.add_parameters(network);
      set_running_statistics(check, network);
      const Tensor labels = check.backend().empty({3, 1, 1, 1}, DType::kI32);
      const int32_t classes[] = {4, 0, 2};
      check.backend().upload(classes, DType::kI32, labels);
      check.expect_correct([&](const Context& context, const Variables& in) {
        const Variable logits = network.forward(context, in[0]);
        const Tensor losses = softmax_cross_entropy(context, logits, labels, 0.1);
        return (losses.data<double>()[0] + losses.data<double>()[1] + losses.data<double>()[2]) / 3;
      });
    }
}

}  // namespace
}  // namespace riffle
