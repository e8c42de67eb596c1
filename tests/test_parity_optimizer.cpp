// Parity of the multi-tensor updates: SGD, the gradient norm and the moving average.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class OptimizerParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(OptimizerParity);

// Sizes from a BN vector to more than one thread's share.
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all{{1, 1, 1, 1},   {1, 1, 1, 24}, {24, 3, 3, 3}, {1, 3, 3, 58},
                                      {58, 1, 1, 58}, {1, 1, 1, 7},  {29, 1, 1, 1}, {464, 1, 1, 232}};
  return all;
}

// One rounding unit for each of the few operations of an update, on terms no larger than `magnitude`.
std::vector<double> elementwise_bounds(const std::vector<double>& magnitude) {
  std::vector<double> bounds = magnitude;
  for (double& bound : bounds) bound *= 8 * kRounding;
  return bounds;
}

TEST_P(OptimizerParity, SgdStep) {
  for (bool nesterov : {false, true})
    for (double momentum : {0.0, 0.9}) {
      SCOPED_TRACE(join(nesterov ? "Nesterov" : "plain", ", momentum ", momentum));
      const SgdStep step{0.3, momentum, 0.25, nesterov};
      Case test(backend());
      std::vector<Argument> weights, grads, velocities;
      std::vector<std::vector<double>> velocity_bounds, weight_bounds;
      std::vector<ParameterUpdate> settings;
      for (size_t i = 0; i < shapes().size(); ++i) {
        const Shape& shape = shapes()[i];
        const std::vector<float> w = test.draw(shape), g = test.draw(shape), v = test.draw(shape);
        weights.push_back(test.in_place(shape, kPacked, w));
        grads.push_back(test.input(shape, kPacked, g));
        velocities.push_back(test.in_place(shape, kPacked, v));
        settings.push_back({{}, {}, {}, i % 3 == 0 ? 0 : 4e-2, i % 2 == 0 ? 1.0 : 0.1});
        std::vector<double> velocity_size, weight_size;
        for (size_t j = 0; j < w.size(); ++j) {
          const double gradient = std::abs(g[j]) * step.grad_scale + settings[i].weight_decay * std::abs(w[j]);
          velocity_size.push_back(momentum * std::abs(v[j]) + gradient);
          weight_size.push_back(std::abs(w[j]) +
                                step.lr * settings[i].lr_multiplier * (gradient + velocity_size.back()));
        }
        velocity_bounds.push_back(elementwise_bounds(velocity_size));
        weight_bounds.push_back(elementwise_bounds(weight_size));
      }
      test.run(
          [&](Backend& b, Side side) {
            std::vector<ParameterUpdate> updates = settings;
            for (size_t i = 0; i < updates.size(); ++i) {
              updates[i].weight = weights[i][side];
              updates[i].grad = grads[i][side];
              updates[i].momentum = velocities[i][side];
            }
            b.sgd_step(updates, step);
          },
          false);
      for (size_t i = 0; i < shapes().size(); ++i) {
        SCOPED_TRACE(shapes()[i]);
        test.expect_within(velocities[i], velocity_bounds[i]);
        test.expect_within(weights[i], weight_bounds[i]);
      }
    }
}

TEST_P(OptimizerParity, EmaUpdate) {
  for (double decay : {0.0, 0.9, 0.9999}) {
    SCOPED_TRACE(join("decay ", decay));
    Case test(backend());
    std::vector<Argument> averages, values;
    std::vector<std::vector<double>> bounds;
    for (const Shape& shape : shapes()) {
      const std::vector<float> average = test.draw(shape), value = test.draw(shape);
      averages.push_back(test.in_place(shape, kPacked, average));
      values.push_back(test.input(shape, kPacked, value));
      // decay itself is rounded to float, by up to one unit; so is 1 - decay, by the same amount.
      bounds.emplace_back();
      for (size_t i = 0; i < value.size(); ++i)
        bounds.back().push_back(kRounding * (3 * std::abs(average[i]) + 3 * std::abs(value[i])));
    }
    test.run(
        [&](Backend& b, Side side) {
          std::vector<Tensor> to, from;
          for (const Argument& average : averages) to.push_back(average[side]);
          for (const Argument& value : values) from.push_back(value[side]);
          b.ema_update(to, from, decay);
        },
        false);
    for (size_t i = 0; i < averages.size(); ++i) test.expect_within(averages[i], bounds[i]);
  }
}

TEST_P(OptimizerParity, SquaredNorm) {
  Case test(backend());
  std::vector<Argument> arguments;
  arguments.reserve(shapes().size());
  for (const Shape& shape : shapes()) arguments.push_back(test.input(shape));
  double got = 0, expected = 0;
  test.run(
      [&](Backend& b, Side side) {
        std::vector<Tensor> tensors;
        tensors.reserve(arguments.size());
        for (const Argument& argument : arguments) tensors.push_back(argument[side]);
        (side == Side::kTest ? got : expected) = b.squared_norm(tensors);
      },
      false);
  int64_t terms = 0;
  for (const Shape& shape : shapes()) terms += shape.elements();
  // Both sums are in double: each may round once a term.
  EXPECT_NEAR(got, expected, 2 * static_cast<double>(terms) * std::numeric_limits<double>::epsilon() / 2 * expected);
}

TEST_P(OptimizerParity, SquaredNormShowsNonFiniteValues) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor good = backend().empty({29, 1, 1, 58}), poisoned = backend().empty({1, 1, 1, 7});
    backend().fill(1, good);
    backend().fill(1, poisoned);
    EXPECT_EQ(backend().squared_norm({good, poisoned}), 29 * 58 + 7);
    backend().fill(bad, poisoned.channel_slice(6, 1));
    EXPECT_FALSE(std::isfinite(backend().squared_norm({good, poisoned})));
  }
  EXPECT_EQ(backend().squared_norm({}), 0);
}

// 1e30 squared overflows float32 but not double.
TEST_P(OptimizerParity, SquaredNormIsTakenInDouble) {
  const Tensor huge = backend().empty({1, 1, 1, 4});
  backend().fill(1e30f, huge);
  const double value = 1e30f;
  EXPECT_DOUBLE_EQ(backend().squared_norm({huge}), 4 * value * value);
}

}  // namespace
}  // namespace riffle
