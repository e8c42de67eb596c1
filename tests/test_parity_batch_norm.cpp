// Parity of batch normalisation: statistics, running averages, the affine map and both gradients.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class BatchNormParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(BatchNormParity);

constexpr double kEps = 1e-5;

struct Problem {
  Shape x;
  double mean, deviation;  // of the data
  Layout x_layout, y_layout;
};

const std::vector<Problem>& problems() {
  static const std::vector<Problem> all{
      {{1, 1, 1, 7}, 0, 1, kPacked, kPacked},       {{2, 1, 1, 3}, 0, 1, kSlice, kPacked},
      {{1, 3, 5, 1}, 1, 2, kPacked, kSlice},        {{2, 7, 7, 58}, 0, 1, kPacked, kPacked},
      {{3, 5, 3, 29}, -2, 0.5, kSlice, kSlice},     {{1, 14, 14, 24}, 0, 1e-3, kLastPart, kFirstPart},
      {{2, 7, 7, 116}, 3, 1, kFirstPart, kPacked},  {{1, 9, 7, 232}, 0, 1, kPacked, kSlice},
      {{3, 11, 13, 58}, 1000, 1, kPacked, kPacked}, {{2, 9, 9, 24}, -1e4, 1, kSlice, kSlice},
  };
  return all;
}

std::vector<float> draw_normal(Case& test, int64_t size, double mean, double deviation) {
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = static_cast<float>(mean + deviation * test.random().normal());
  return values;
}

// The operands of apply and its gradients. mean and var are near the data's without being its statistics: the formulas
// hold for any. No element lies so near to the ReLU's kink that float32 could fall on the other side.
struct Operands {
  std::vector<float> x, dy, mean, var, gamma, beta;

  Operands(Case& test, const Problem& problem) {
    const int64_t channels = problem.x.c;
    x = test.rounded(draw_normal(test, problem.x.elements(), problem.mean, problem.deviation));
    dy = test.rounded(draw_normal(test, problem.x.elements(), 0.1, 1));
    mean = draw_normal(test, channels, problem.mean, 0.3 * problem.deviation);
    beta = draw_normal(test, channels, 0, 1);
    for (int64_t c = 0; c < channels; ++c) {
      const double variance = problem.deviation * problem.deviation;
      var.push_back(static_cast<float>(variance * test.random().uniform(0.5, 2)));
      gamma.push_back(static_cast<float>(test.random().uniform(0.5, 1.5) * (test.random().flip(0.3) ? -1 : 1)));
    }
    const DType dtype = test.dtype(Kind::kActivation);
    for (size_t i = 0; i < x.size(); ++i)
      while (std::abs(output(i)) < 0.01) {
        const double step = std::max(0.1 * problem.deviation, spacing(dtype, x[i]));
        x[i] = static_cast<float>(rounded_to(dtype, x[i] + step));
      }
  }

  size_t channel(size_t i) const { return i % mean.size(); }
  double inv_std(size_t i) const { return 1 / std::sqrt(var[channel(i)] + kEps); }
  double normalised(size_t i) const { return (double{x[i]} - mean[channel(i)]) * inv_std(i); }
  double output(size_t i) const { return normalised(i) * gamma[channel(i)] + beta[channel(i)]; }
  // (|x| + |mean|) / std: what an error of one rounding in x or mean becomes after normalisation.
  double sensitivity(size_t i) const { return (std::abs(x[i]) + std::abs(mean[channel(i)])) * inv_std(i); }
};

struct GradientBounds {
  std::vector<double> dx, dgamma, dbeta;
};

// Standard bounds: u per rounding, `pixels` roundings for a sum, and the sensitivity above for x - mean.
GradientBounds gradient_bounds(const Operands& a, bool relu, bool frozen, double accumulated) {
  const size_t channels = a.mean.size();
  const double pixels = static_cast<double>(a.x.size()) / static_cast<double>(channels), u = kRounding;
  std::vector<double> dgamma(channels), sum_g(channels), sum_gx(channels), error_gx(channels);
  const auto gradient = [&](size_t i) { return relu && a.output(i) <= 0 ? 0.0 : double{a.dy[i]}; };
  for (size_t i = 0; i < a.x.size(); ++i) {
    const size_t c = a.channel(i);
    const double g = gradient(i);
    dgamma[c] += g * a.normalised(i);
    sum_g[c] += std::abs(g);
    sum_gx[c] += std::abs(g * a.normalised(i));
    error_gx[c] += std::abs(g) * a.sensitivity(i);
  }
  GradientBounds bounds;
  for (size_t c = 0; c < channels; ++c) {
    bounds.dbeta.push_back(u * ((pixels + 2) * sum_g[c] + 2 * accumulated));
    bounds.dgamma.push_back(u * ((pixels + 6) * sum_gx[c] + 4 * error_gx[c] + 2 * accumulated));
  }
  for (size_t i = 0; i < a.x.size(); ++i) {
    const size_t c = a.channel(i);
    const double scale = std::abs(a.gamma[c]) * a.inv_std(i), xh = std::abs(a.normalised(i));
    double error = 8 * u * std::abs(gradient(i));
    if (!frozen) {
      error += (u * (pixels + 10) * sum_g[c] + xh * (bounds.dgamma[c] + 10 * u * std::abs(dgamma[c]))) / pixels;
      error += 4 * u * a.sensitivity(i) * std::abs(dgamma[c]) / pixels;
    }
    bounds.dx.push_back(scale * error);
  }
  return bounds;
}

template <class Body>
void for_each_problem(const Body& body) {
  for (const Problem& problem : problems()) {
    SCOPED_TRACE(join("x ", problem.x, ", mean ", problem.mean, ", deviation ", problem.deviation, ", x pitch +",
                      problem.x_layout.left + problem.x_layout.right));
    body(problem);
  }
}

TEST_P(BatchNormParity, Statistics) {
  for_each_problem([&](const Problem& problem) {
    Case test(backend());
    const std::vector<float> data = draw_normal(test, problem.x.elements(), problem.mean, problem.deviation);
    const Argument x = test.input(problem.x, problem.x_layout, data);
    const Argument mean = test.parameter_output(vector_shape(problem.x.c));
    const Argument var = test.parameter_output(vector_shape(problem.x.c));
    test.run([&](Backend& b, Side side) { b.batch_norm_statistics(x[side], mean[side], var[side]); });
    test.expect_sum(mean, problem.x.pixels());
    // A mean that is off by d makes the second moment about it larger by d * d; nothing else may depend on the mean.
    std::vector<double> bounds = test.expected(var);
    const std::vector<double> means = test.expected(mean);
    const double terms = static_cast<double>(problem.x.pixels() + 4);
    for (size_t c = 0; c < bounds.size(); ++c) {
      const double deviation = std::sqrt(bounds[c]), offset = terms * kRounding * (std::abs(means[c]) + deviation);
      bounds[c] = terms * kRounding * bounds[c] + offset * offset;
    }
    test.expect_within(var, bounds);
  });
}

// The first pixel must not be the yardstick for the others: far off, it would cost their squares all digits.
TEST_P(BatchNormParity, AnOutlierCostsNoDigits) {
  Case test(backend());
  const Shape shape{4, 9, 9, 29};
  std::vector<float> data = draw_normal(test, shape.elements(), 0, 1);
  std::fill_n(data.begin(), shape.c, 1000.0f);
  const Argument x = test.input(shape, kPacked, data);
  const Argument mean = test.parameter_output(vector_shape(29)), var = test.parameter_output(vector_shape(29));
  test.run([&](Backend& b, Side side) { b.batch_norm_statistics(x[side], mean[side], var[side]); });
  std::vector<double> bounds = test.expected(var);
  for (double& bound : bounds) bound *= static_cast<double>(shape.pixels()) * kRounding;
  test.expect_within(var, bounds);
}

TEST_P(BatchNormParity, ConstantInputHasExactStatistics) {
  Case test(backend());
  const Shape shape{2, 7, 7, 29};
  const Argument x = test.input(shape, kSlice, std::vector<float>(static_cast<size_t>(shape.elements()), 1234.5f));
  const Argument mean = test.parameter_output(vector_shape(29)), var = test.parameter_output(vector_shape(29));
  test.run([&](Backend& b, Side side) { b.batch_norm_statistics(x[side], mean[side], var[side]); });
  test.expect_equal(mean);
  test.expect_equal(var);
}

TEST_P(BatchNormParity, UpdateRunning) {
  for (int64_t pixels : {1, 2, 98})
    for (double momentum : {0.1, 1.0}) {
      SCOPED_TRACE(join(pixels, " pixels, momentum ", momentum));
      Case test(backend());
      const Argument mean = test.vector(29), var = test.vector(draw_normal(test, 29, 9, 1));
      const std::vector<float> mean_before = draw_normal(test, 29, 0, 1), var_before = draw_normal(test, 29, 9, 1);
      const Argument running_mean = test.parameter_in_place(vector_shape(29), mean_before);
      const Argument running_var = test.parameter_in_place(vector_shape(29), var_before);
      test.run([&](Backend& b, Side side) {
        b.batch_norm_update_running(mean[side], var[side], pixels, momentum, running_mean[side], running_var[side]);
      });
      test.expect_sum(running_mean, 4);
      test.expect_sum(running_var, 6);
    }
}

struct ApplyVariant {
  bool relu, in_place;
  size_t parts;
};

void check_apply(Backend& backend, const Problem& problem, const ApplyVariant& variant) {
  SCOPED_TRACE(join(variant.relu ? "with" : "without", " relu", variant.in_place ? ", in place" : "", ", ",
                    variant.parts, " parts"));
  Case test(backend);
  const Operands a(test, problem);
  Parts y;
  if (variant.in_place) {
    y.arguments.push_back(test.in_place(problem.x, problem.x_layout, a.x));
  } else if (variant.parts == 1) {
    y.arguments.push_back(test.output(problem.x, problem.y_layout));
  } else {
    y = test.output_parts(problem.x, variant.parts);
  }
  const Argument x = variant.in_place ? y.arguments[0] : test.input(problem.x, problem.x_layout, a.x);
  const Argument mean = test.vector(a.mean), var = test.vector(a.var);
  const Argument gamma = test.vector(a.gamma), beta = test.vector(a.beta);
  test.run(
      [&](Backend& b, Side side) {
        b.batch_norm_apply(x[side], mean[side], var[side], gamma[side], beta[side], kEps, variant.relu, y[side]);
      },
      false);
  std::vector<double> bounds;
  for (size_t i = 0; i < a.x.size(); ++i) {
    const size_t c = a.channel(i);
    bounds.push_back(6 * kRounding * (a.sensitivity(i) * std::abs(a.gamma[c]) + std::abs(a.beta[c])));
  }
  test.expect_within(y, bounds);
}

TEST_P(BatchNormParity, Apply) {
  for_each_problem([&](const Problem& problem) {
    for (bool relu : {false, true}) {
      check_apply(backend(), problem, {relu, /*in_place=*/true, 1});
      for (size_t parts : {1, 2, 3, 5}) check_apply(backend(), problem, {relu, /*in_place=*/false, parts});
    }
  });
}

TEST_P(BatchNormParity, NanStaysVisibleBehindRelu) {
  for (int64_t channels : {1, 7, 58}) {
    Case test(backend());
    const Shape shape{1, 2, 3, channels};
    std::vector<float> values = test.draw(shape);
    values.back() = std::numeric_limits<float>::quiet_NaN();
    const Argument x = test.input(shape, kPacked, values), y = test.output(shape);
    const Argument mean = test.vector(channels), gamma = test.vector(channels), beta = test.vector(channels);
    const Argument var = test.vector(std::vector<float>(static_cast<size_t>(channels), 1));
    test.run(
        [&](Backend& b, Side side) {
          b.batch_norm_apply(x[side], mean[side], var[side], gamma[side], beta[side], kEps, true, y[side]);
        },
        false);
    EXPECT_TRUE(std::isnan(test.got(y).back())) << channels << " channels";
  }
}

struct Variant {
  bool relu, in_place;
  Write write;
  size_t parts;  // of dy; 1 if in place
};

void check_backward(Backend& backend, const Problem& problem, const Variant& variant, bool frozen) {
  SCOPED_TRACE(join(variant.relu ? "with" : "without", " relu", variant.in_place ? ", in place" : "",
                    variant.write == Write::kAccumulate ? ", accumulating" : "", ", ", variant.parts, " parts"));
  Case test(backend);
  const Operands a(test, problem);
  const Argument x = test.input(problem.x, problem.x_layout, a.x);
  const Argument dx =
      variant.in_place ? test.in_place(problem.x, problem.y_layout, a.dy) : test.output(problem.x, problem.x_layout);
  Parts dy;
  if (variant.in_place) {
    dy.arguments.push_back(dx);
  } else if (variant.parts == 1) {
    dy.arguments.push_back(test.input(problem.x, problem.y_layout, a.dy));
  } else {
    dy = test.input_parts(problem.x, variant.parts, a.dy);
  }
  const Argument mean = test.vector(a.mean), var = test.vector(a.var);
  const Argument gamma = test.vector(a.gamma), beta = test.vector(a.beta);
  const Argument dgamma = test.parameter_output(vector_shape(problem.x.c), variant.write);
  const Argument dbeta = test.parameter_output(vector_shape(problem.x.c), variant.write);
  test.run(
      [&](Backend& b, Side side) {
        const auto backward = frozen ? &Backend::batch_norm_backward_frozen : &Backend::batch_norm_backward;
        (b.*backward)(x[side], dy[side], mean[side], var[side], gamma[side], beta[side], kEps, variant.relu,
                      variant.write, dx[side], dgamma[side], dbeta[side]);
      },
      false);
  constexpr double kLargestStart = 5;  // what kAccumulate adds to is a normal number
  const double accumulated = variant.write == Write::kAccumulate ? kLargestStart : 0;
  const GradientBounds bounds = gradient_bounds(a, variant.relu, frozen, accumulated);
  test.expect_within(dgamma, bounds.dgamma);
  test.expect_within(dbeta, bounds.dbeta);
  test.expect_within(dx, bounds.dx);
}

TEST_P(BatchNormParity, Backward) {
  for_each_problem([&](const Problem& problem) {
    for (bool frozen : {false, true})
      for (bool relu : {false, true})
        for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
          SCOPED_TRACE(frozen ? "frozen statistics" : "batch statistics");
          check_backward(backend(), problem, {relu, /*in_place=*/true, write, 1}, frozen);
          for (size_t parts : {1, 2, 4, 5})
            check_backward(backend(), problem, {relu, /*in_place=*/false, write, parts}, frozen);
        }
  });
}

}  // namespace
}  // namespace riffle
