// Parity of the multi-tensor updates: SGD, the gradient norm and the moving average.
#include "tests/parity.h"
#include "tests/step_scalars.h"

namespace riffle {
namespace {

using namespace parity;

constexpr double kMultipliers[] = {1, 0.1, 10, 0};  // of the learning rate; 0 leaves the weight, not the momentum

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

// Whether operations on activations read another value than the optimiser's.
bool keeps_copies(const Backend& b) {
  return b.dtype() != b.parameter_dtype();
}

// `copy` is exactly what rounding the weight gives.
void expect_rounded_copy(Case& test, const Argument& weight, const Argument& copy) {
  std::vector<double> rounded = test.got(weight);
  for (double& value : rounded) value = rounded_to(test.dtype(Kind::kActivation), value);
  EXPECT_EQ(test.got(copy), rounded);
}

TEST_P(OptimizerParity, SgdStep) {
  for (bool nesterov : {false, true})
    for (double momentum : {0.0, 0.9}) {
      SCOPED_TRACE(join(nesterov ? "Nesterov" : "plain", ", momentum ", momentum));
      HostStepScalars step;
      step.lr = 0.3;
      step.grad_scale = 0.25;
      Case test(backend());
      std::vector<Argument> weights, grads, velocities, copies;
      std::vector<std::vector<double>> velocity_bounds, weight_bounds;
      std::vector<ParameterUpdate> settings;
      for (size_t i = 0; i < shapes().size(); ++i) {
        const Shape& shape = shapes()[i];
        const std::vector<float> w = test.draw(shape), g = test.draw(shape), v = test.draw(shape);
        weights.push_back(test.parameter_in_place(shape, w));
        grads.push_back(test.parameter(shape, g));
        velocities.push_back(test.parameter_in_place(shape, v));
        copies.push_back(test.output(shape));
        settings.push_back({{}, {}, {}, i % 3 == 0 ? 0 : 4e-2, kMultipliers[i % 4]});
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
              if (keeps_copies(b) && i % 2 == 0) updates[i].compute_value = copies[i][side];
            }
            b.sgd_step(updates, {momentum, nesterov}, step_scalars(b, step));
          },
          false);
      for (size_t i = 0; i < shapes().size(); ++i) {
        SCOPED_TRACE(shapes()[i]);
        test.expect_within(velocities[i], velocity_bounds[i]);
        test.expect_within(weights[i], weight_bounds[i]);
        if (keeps_copies(backend()) && i % 2 == 0) expect_rounded_copy(test, weights[i], copies[i]);
      }
    }
}

// Gradients that are not finite must not get through where the step is skipped.
TEST_P(OptimizerParity, ASkippedStepChangesNothing) {
  Case test(backend());
  const Shape shape{29, 1, 1, 58};
  const std::vector<float> values = test.draw(shape);
  std::vector<float> bad = values;
  bad[3] = std::numeric_limits<float>::quiet_NaN();
  bad[57] = std::numeric_limits<float>::infinity();
  const Argument weight = test.parameter_in_place(shape, values), momentum = test.parameter_in_place(shape, values);
  const Argument average = test.parameter_in_place(shape, values), gradient = test.parameter(shape, bad);
  const Argument copy = test.in_place(shape, kPacked, values), new_values = test.parameter(shape, bad);
  HostStepScalars step{0.1, 0.9, 1, 1, /*apply=*/0};
  test.run(
      [&](Backend& b, Side side) {
        const Tensor scalars = step_scalars(b, step);
        const Tensor rounded_weight = keeps_copies(b) ? copy[side] : Tensor{};
        b.sgd_step({{weight[side], gradient[side], momentum[side], 0.1, 1, rounded_weight}}, {0.9, true}, scalars);
        b.ema_update({average[side]}, {new_values[side]}, scalars);
      },
      false);
  for (const Argument& unchanged : {weight, momentum, average}) {
    test.expect_equal(unchanged);
    EXPECT_EQ(test.got(unchanged), std::vector<double>(values.begin(), values.end()));
  }
  const std::vector<float> rounded = test.rounded(values);
  EXPECT_EQ(test.got(copy), std::vector<double>(rounded.begin(), rounded.end()));
}

TEST_P(OptimizerParity, ScaleGradients) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (double loss_scale : {1.0, 1024.0})
    for (double max_norm : {0.0, 0.5, 1e6})
      for (double squared : {0.0, 7.5e4, infinity, std::nan("")})
        for (bool skip : {false, true}) {
          SCOPED_TRACE(join("loss scale ", loss_scale, ", at most ", max_norm, ", squared norm ", squared));
          const HostStepScalars before{0.25, 0.75, loss_scale, -1, -1};
          const auto run = [&](Backend& b) {
            const Tensor norm = b.empty(vector_shape(1), DType::kF64), scalars = step_scalars(b, before);
            b.upload(&squared, DType::kF64, norm);
            b.scale_gradients(norm, max_norm, skip, scalars);
            std::vector<double> values(kStepScalars);
            b.download(scalars, DType::kF64, values.data());
            return values;
          };
          Case test(backend());
          const std::vector<double> got = run(backend()), wanted = run(test.reference());
          for (StepScalar kept : {kLearningRate, kEmaDecay, kLossScale}) EXPECT_EQ(got[kept], wanted[kept]);
          EXPECT_EQ(got[kApply], wanted[kApply]);
          EXPECT_EQ(got[kApply], skip && !std::isfinite(squared) ? 0 : 1);
          if (!std::isfinite(squared)) continue;
          EXPECT_NEAR(got[kGradScale], wanted[kGradScale], 4 * kRounding * wanted[kGradScale]);
        }
}

TEST_P(OptimizerParity, OnceHaltedNoStepAppliesUntilTheFlagIsCleared) {
  const std::unique_ptr<Backend> reference = make_reference_backend();
  for (Backend* b : {&backend(), reference.get()}) {
    const Tensor norm = b->empty(vector_shape(1), DType::kF64), scalars = step_scalars(*b, {});
    const auto applies_with = [&](double squared) {
      b->upload(&squared, DType::kF64, norm);
      b->scale_gradients(norm, 0, /*skip_not_finite=*/true, scalars);
      EXPECT_EQ(host(*b, scalars)[kHalted], 1 - host(*b, scalars)[kApply]);
      return host(*b, scalars)[kApply] == 1;
    };
    EXPECT_TRUE(applies_with(1));
    EXPECT_FALSE(applies_with(std::nan("")));
    EXPECT_FALSE(applies_with(1));
    const double cleared = 0;
    b->upload(&cleared, DType::kF64, scalars.channel_slice(kHalted, 1));
    EXPECT_TRUE(applies_with(1));
  }
}

TEST_P(OptimizerParity, KeepOrRestore) {
  for (double apply : {0.0, 1.0}) {
    SCOPED_TRACE(join("apply ", apply));
    Case test(backend());
    std::vector<Argument> values, kept;
    for (const Shape& shape : shapes()) {
      values.push_back(test.parameter_in_place(shape, test.draw(shape)));
      kept.push_back(test.parameter_in_place(shape, test.draw(shape)));
    }
    HostStepScalars scalars;
    scalars.apply = apply;
    const std::vector<double> before = test.got(apply == 1 ? values[0] : kept[0]);
    test.run(
        [&](Backend& b, Side side) {
          std::vector<Tensor> v, k;
          for (size_t i = 0; i < values.size(); ++i) {
            v.push_back(values[i][side]);
            k.push_back(kept[i][side]);
          }
          b.keep_or_restore(v, k, step_scalars(b, scalars));
        },
        false);
    for (size_t i = 0; i < values.size(); ++i) {
      test.expect_equal(values[i]);
      test.expect_equal(kept[i]);
      EXPECT_EQ(test.got(values[i]), test.got(kept[i]));
    }
    EXPECT_EQ(test.got(values[0]), before);
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
      averages.push_back(test.parameter_in_place(shape, average));
      values.push_back(test.parameter(shape, value));
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
          b.ema_update(to, from, step_scalars(b, {0, decay}));
        },
        false);
    for (size_t i = 0; i < averages.size(); ++i) test.expect_within(averages[i], bounds[i]);
  }
}

TEST_P(OptimizerParity, SquaredNorm) {
  Case test(backend());
  std::vector<Argument> arguments;
  arguments.reserve(shapes().size());
  for (const Shape& shape : shapes()) arguments.push_back(test.parameter(shape));
  double got = 0, expected = 0;
  test.run(
      [&](Backend& b, Side side) {
        std::vector<Tensor> tensors;
        tensors.reserve(arguments.size());
        for (const Argument& argument : arguments) tensors.push_back(argument[side]);
        (side == Side::kTest ? got : expected) = squared_norm(b, tensors);
      },
      false);
  int64_t terms = 0;
  for (const Shape& shape : shapes()) terms += shape.elements();
  // Both sums are in double: each may round once a term.
  EXPECT_NEAR(got, expected, 2 * static_cast<double>(terms) * std::numeric_limits<double>::epsilon() / 2 * expected);
}

TEST_P(OptimizerParity, SquaredNormShowsNonFiniteValues) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor good = backend().empty_parameter({29, 1, 1, 58}), poisoned = backend().empty_parameter({1, 1, 1, 7});
    backend().fill(1, good);
    backend().fill(1, poisoned);
    EXPECT_EQ(squared_norm(backend(), {good, poisoned}), 29 * 58 + 7);
    backend().fill(bad, poisoned.channel_slice(6, 1));
    EXPECT_FALSE(std::isfinite(squared_norm(backend(), {good, poisoned})));
  }
  EXPECT_EQ(squared_norm(backend(), {}), 0);
}

// 1e30 squared overflows float32 but not double.
TEST_P(OptimizerParity, SquaredNormIsTakenInDouble) {
  const Tensor huge = backend().empty_parameter({1, 1, 1, 4});
  backend().fill(1e30f, huge);
  const double value = 1e30f;
  EXPECT_DOUBLE_EQ(squared_norm(backend(), {huge}), 4 * value * value);
}

}  // namespace
}  // namespace riffle
