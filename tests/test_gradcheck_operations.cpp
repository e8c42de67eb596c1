// Gradient checks of the single operations: convolutions, pooling, shuffles, dropout and the loss.
#include <gtest/gtest-spi.h>

#include <cmath>

#include "layers/channel_shuffle.h"
#include "layers/channel_split.h"
#include "layers/concat.h"
#include "layers/conv2d.h"
#include "layers/depthwise_conv2d.h"
#include "layers/dropout.h"
#include "layers/linear.h"
#include "layers/pointwise_conv2d.h"
#include "layers/pooling.h"
#include "layers/relu.h"
#include "layers/softmax_cross_entropy.h"
#include "tests/gradcheck.h"

namespace riffle {
namespace {

using gradcheck::GradientCheck;
using gradcheck::Variables;

const Padding kSame{0, 1, 0, 1};

TEST(GradientOf, Conv2d) {
  struct Problem {
    Shape x;
    int64_t outputs, groups;
    Window window;
  };
  const Problem problems[] = {
      {{2, 5, 4, 3}, 4, 1, {3, 3, 1, Padding::all(1)}},
      {{1, 6, 7, 2}, 3, 1, {3, 3, 2, Padding::all(1)}},
      {{2, 4, 6, 1}, 2, 1, {3, 3, 2, kSame}},
      {{1, 5, 5, 6}, 9, 3, {3, 5, 1, {2, 0, 1, 3}}},
      {{1, 3, 3, 2}, 2, 2, {1, 1, 1, {}}},
  };
  for (const Problem& problem : problems)
    for (bool with_bias : {false, true}) {
      SCOPED_TRACE(problem.x);
      GradientCheck check;
      check.add_input(problem.x);
      const Window window = problem.window;
      Parameter& weight =
          check.add_parameter({problem.outputs, window.kernel_h, window.kernel_w, problem.x.c / problem.groups});
      Parameter* bias = with_bias ? &check.add_parameter(vector_shape(problem.outputs)) : nullptr;
      check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
        return {conv2d(context, "conv", in[0], weight, bias, window, problem.groups)};
      });
    }
}

TEST(GradientOf, DepthwiseConv2d) {
  for (bool sliced : {false, true})
    for (const Window& window : {Window{3, 3, 1, Padding::all(1)}, Window{3, 3, 2, Padding::all(1)},
                                 Window{3, 3, 2, kSame}, Window{3, 3, 1, {}}, Window{5, 5, 2, Padding::all(2)}}) {
      GradientCheck check;
      check.add_input({2, 5, 6, 3}, sliced);
      Parameter& weight = check.add_parameter({1, window.kernel_h, window.kernel_w, 3});
      check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
        return {depthwise_conv2d(context, "depthwise", in[0], weight, window)};
      });
    }
}

TEST(GradientOf, PointwiseConv2d) {
  for (bool sliced : {false, true})
    for (bool with_bias : {false, true}) {
      GradientCheck check;
      check.add_input({3, 2, 3, 5}, sliced);
      Parameter& weight = check.add_parameter({4, 1, 1, 5});
      Parameter* bias = with_bias ? &check.add_parameter(vector_shape(4)) : nullptr;
      check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
        return {pointwise_conv2d(context, "pointwise", in[0], weight, bias)};
      });
    }
}

TEST(GradientOf, Linear) {
  for (bool bias : {false, true}) {
    GradientCheck check;
    Linear linear(check.backend(), 7, 3, bias);
    check.add_input({4, 1, 1, 7});
    check.add_parameters(linear);
    check.expect_correct(
        [&](const Context& context, const Variables& in) -> Variables { return {linear.forward(context, in[0])}; });
  }
}

TEST(GradientOf, Relu) {
  for (bool sliced : {false, true}) {
    GradientCheck check;
    check.add_input({2, 3, 4, 5}, sliced, gradcheck::away_from_zero);
    check.expect_correct(
        [](const Context& context, const Variables& in) -> Variables { return {relu(context, "relu", in[0])}; });
  }
}

// Distinct values in random order: no maximum is near a tie.
TEST(GradientOf, MaxPool2d) {
  for (const Window& window : {Window{3, 3, 2, Padding::all(1)}, Window{3, 3, 2, kSame}, Window{2, 2, 2, {}},
                               Window{3, 3, 1, Padding::all(1)}}) {
    GradientCheck check;
    const Shape shape{2, 6, 4, 3};
    std::vector<double> values;
    for (int64_t rank : random_permutation(shape.elements(), 1, RandomPurpose::kTest, 0))
      values.push_back(0.1 * static_cast<double>(rank) - 7);
    check.add_input(shape, values);
    check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
      return {max_pool2d(context, "pool", in[0], window)};
    });
  }
}

TEST(GradientOf, GlobalAvgPool) {
  for (bool sliced : {false, true}) {
    GradientCheck check;
    check.add_input({3, 5, 4, 7}, sliced);
    check.expect_correct([](const Context& context, const Variables& in) -> Variables {
      return {global_avg_pool(context, "pool", in[0])};
    });
  }
}

TEST(GradientOf, ChannelShuffle) {
  for (int64_t groups : {1, 2, 3, 6, 12}) {
    GradientCheck check;
    check.add_input({2, 2, 3, 12}, groups == 3);
    check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
      return {channel_shuffle(context, "shuffle", in[0], groups)};
    });
  }
}

TEST(GradientOf, ConcatShuffle) {
  GradientCheck check;
  check.add_input({2, 2, 3, 5});
  check.add_input({2, 2, 3, 5}, true);
  check.expect_correct([](const Context& context, const Variables& in) -> Variables {
    return {concat_shuffle(context, "shuffle", in[0], in[1])};
  });
}

TEST(GradientOf, ShuffleSplit) {
  GradientCheck check;
  check.add_input({2, 2, 3, 10});
  check.expect_correct([](const Context& context, const Variables& in) -> Variables {
    const auto [even, odd] = shuffle_split(context, "split", in[0]);
    return {even, odd};
  });
}

TEST(GradientOf, Concat) {
  GradientCheck check;
  check.add_input({2, 3, 2, 5}, true);
  check.add_input({2, 3, 2, 3});
  check.expect_correct([](const Context& context, const Variables& in) -> Variables {
    return {concat(context, "concat", in[0], in[1])};
  });
}

TEST(GradientOf, ConcatOfAVariableWithItself) {
  GradientCheck check;
  check.add_input({2, 3, 2, 4});
  check.expect_correct([](const Context& context, const Variables& in) -> Variables {
    return {concat(context, "concat", in[0], in[0]), concat_shuffle(context, "shuffle", in[0], in[0])};
  });
}

TEST(GradientOf, ChannelSplit) {
  GradientCheck check;
  check.add_input({2, 3, 2, 7});
  Parameter &left = check.add_parameter({2, 1, 1, 3}), &right = check.add_parameter({1, 3, 3, 4});
  check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
    const auto [a, b] = channel_split(context, "split", in[0], 3);
    return {pointwise_conv2d(context, "left", a, left, nullptr),
            depthwise_conv2d(context, "right", b, right, {3, 3, 1, Padding::all(1)})};
  });
}

TEST(GradientOf, PartsOfASplitAsOutputs) {
  GradientCheck check;
  check.add_input({2, 3, 2, 7});
  check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
    const auto [a, b] = channel_split(context, "split", in[0], 3);
    return {a, b};
  });
}

// The part that nothing depends on has gradient zero, not whatever its memory held.
TEST(GradientOf, ASplitWithOnePartUnused) {
  for (bool first : {false, true}) {
    GradientCheck check;
    check.add_input({2, 3, 2, 8});
    Parameter& weight = check.add_parameter({2, 1, 1, 4});
    check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
      const auto [a, b] = channel_split(context, "split", in[0], 4);
      const auto [even, odd] = shuffle_split(context, "shuffle", in[0]);
      return {pointwise_conv2d(context, "use", first ? a : b, weight, nullptr), first ? even : odd};
    });
  }
}

// Both uses of a part, and of the whole beside its parts, must add up.
TEST(GradientOf, ASplitWhosePartsAreReused) {
  GradientCheck check;
  check.add_input({2, 3, 2, 6});
  Parameter &first = check.add_parameter({2, 1, 1, 3}), &second = check.add_parameter({4, 1, 1, 3});
  Parameter& whole = check.add_parameter({2, 1, 1, 6});
  check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
    const auto [a, b] = channel_split(context, "split", in[0], 3);
    return {pointwise_conv2d(context, "1", a, first, nullptr), pointwise_conv2d(context, "2", a, second, nullptr),
            concat_shuffle(context, "3", a, b), concat(context, "4", b, a),
            pointwise_conv2d(context, "5", in[0], whole, nullptr)};
  });
}

TEST(GradientOf, Dropout) {
  GradientCheck check;
  check.add_input({3, 1, 1, 40});
  check.expect_correct([](const Context& context, const Variables& in) -> Variables {
    return {dropout(context, "dropout", in[0], 0.3, 2)};
  });
}

TEST(GradientOf, SoftmaxCrossEntropy) {
  for (double smoothing : {0.0, 0.1})
    for (double grad_scale : {1.0, 0.25}) {
      GradientCheck check;
      check.add_input({5, 1, 1, 7});
      const Tensor labels = check.backend().empty({5, 1, 1, 1}, DType::kI32);
      const int32_t classes[] = {0, 6, 3, 3, 1};
      check.backend().upload(classes, DType::kI32, labels);
      check.expect_correct([&](const Context& context, const Variables& in) {
        const Tensor losses = softmax_cross_entropy(context, in[0], labels, smoothing, grad_scale);
        double sum = 0;
        for (int64_t n = 0; n < 5; ++n) sum += losses.data<double>()[n];
        return grad_scale * sum / 5;
      });
    }
}

TEST(GradientOf, SoftCrossEntropy) {
  for (double grad_scale : {1.0, 0.25}) {
    GradientCheck check;
    check.add_input({5, 1, 1, 7});
    const Tensor targets = check.backend().empty_parameter({5, 1, 1, 7});
    std::vector<double> values(35);
    for (size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 0 ? 0 : check.random().uniform(0, 0.4);
    check.backend().upload(values.data(), DType::kF64, targets);
    check.expect_correct([&](const Context& context, const Variables& in) {
      const Tensor losses = soft_cross_entropy(context, in[0], targets, grad_scale);
      double sum = 0;
      for (int64_t n = 0; n < 5; ++n) sum += losses.data<double>()[n];
      return grad_scale * sum / 5;
    });
  }
}

// --- the check itself
// -------------------------------------------------------------------------------------------------

// y = 2x with a backward function of the caller's.
using Backward = std::function<void(Backend& backend, const GradSlot& x, const Tensor& dy)>;

bool passes(const Backward& backward) {
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    GradientCheck check;
    check.add_input({1, 2, 2, 3});
    check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
      const Tensor y = context.backend.empty(in[0].shape());
      context.backend.copy(in[0].value(), Write::kOverwrite, y);
      context.backend.copy(in[0].value(), Write::kAccumulate, y);
      const Variable output(y);
      if (context.tape)
        context.tape->record(
            "double", output.slot(),
            [&backend = context.backend, x = in[0].slot(), backward](const Tensor& dy) { backward(backend, x, dy); });
      return {output};
    });
  }
  return failures.size() == 0;
}

Tensor scaled(Backend& backend, const Tensor& dy, double factor) {
  Tensor dx = backend.empty(dy.shape());
  for (int64_t i = 0; i < dx.elements(); ++i) dx.data<double>()[i] = factor * dy.data<double>()[i];
  return dx;
}

TEST(GradientCheckItself, TellsRightFromWrong) {
  EXPECT_TRUE(passes([](Backend& b, const GradSlot& x, const Tensor& dy) { give_grad(b, x, scaled(b, dy, 2)); }));
  EXPECT_FALSE(
      passes([](Backend& b, const GradSlot& x, const Tensor& dy) { give_grad(b, x, scaled(b, dy, 2.00001)); }));
  EXPECT_FALSE(passes([](Backend&, const GradSlot&, const Tensor&) {})) << "no gradient at all";
  EXPECT_FALSE(passes([](Backend& b, const GradSlot& x, const Tensor& dy) { x.set_grad(scaled(b, dy, 2)); }))
      << "existing gradients overwritten";
  EXPECT_FALSE(passes([](Backend& b, const GradSlot& x, const Tensor& dy) {
    const Tensor dx = scaled(b, dy, 2);
    dx.data<double>()[5] = b.empty(dy.shape()).data<double>()[5];
    give_grad(b, x, dx);
  })) << "an element left unwritten";
}

// Nothing is computed for, or written into, what is frozen or needs no gradient.
TEST(GradientOf, FrozenParametersStayUntouched) {
  GradientCheck check;
  Backend& backend = check.backend();
  Parameter &weight = check.add_parameter({2, 3, 3, 3}), &bias = check.add_parameter(vector_shape(2));
  weight.frozen = bias.frozen = true;
  const Tensor value = backend.empty({1, 4, 4, 3});
  backend.fill(1, value);
  const Variable x(value, false);
  Tape tape;
  const Variable y = conv2d({backend, &tape, true, 1, 1}, "conv", x, weight, &bias, {3, 3, 1, Padding::all(1)}, 1);
  const Tensor dy = backend.empty(y.shape());
  backend.fill(1, dy);
  y.set_grad(dy);
  tape.backward();
  EXPECT_FALSE(x.grad().defined());
  EXPECT_TRUE(std::isnan(weight.grad.data<double>()[0]));
  EXPECT_TRUE(std::isnan(bias.grad.data<double>()[0]));
  EXPECT_FALSE(weight.grad_written || bias.grad_written);
}

}  // namespace
}  // namespace riffle
