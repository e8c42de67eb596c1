// Arguments of a batch norm, for parity tests of the operations that fuse it with its neighbours, and their bounds. The
// parts have bounds of their own in other tests; here an error of the whole is measured against the largest element:
// float sums of up to 5,000 terms in shorter pieces, none of which hangs on a ReLU's sign.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/parity.h"

namespace riffle::parity {

constexpr double kNormEps = 1e-5;
constexpr double kFusedRoundings = 300;

inline std::vector<float> draw_uniform(Case& test, int64_t size, double low, double high) {
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = static_cast<float>(test.random().uniform(low, high));
  return values;
}

// A norm's input, whose outputs keep away from the ReLU's kink, and its vectors.
struct HostNorm {
  std::vector<float> x, mean, var, gamma, beta;

  HostNorm(Case& test, Shape shape)
      : x(test.rounded(draw_uniform(test, shape.elements(), -2, 2))),
        mean(draw_uniform(test, shape.c, -0.5, 0.5)),
        var(draw_uniform(test, shape.c, 0.5, 2)),
        gamma(draw_uniform(test, shape.c, 0.5, 1.5)),
        beta(draw_uniform(test, shape.c, -0.5, 0.5)) {
    for (size_t c = 0; c < gamma.size(); c += 3) gamma[c] = -gamma[c];
    for (size_t i = 0; i < x.size(); ++i)
      while (std::abs(output(i)) < 0.01)
        x[i] = static_cast<float>(rounded_to(test.dtype(Kind::kActivation), x[i] + 0.1));
  }

  size_t channel(size_t i) const { return i % mean.size(); }
  double scale(size_t c) const { return gamma[c] / std::sqrt(var[c] + kNormEps); }
  double centred(size_t i) const { return double{x[i]} - mean[channel(i)]; }
  double normalised(size_t i) const { return centred(i) / std::sqrt(var[channel(i)] + kNormEps); }
  double output(size_t i) const { return centred(i) * scale(channel(i)) + beta[channel(i)]; }
  // The gradient that gets through the ReLU, if there is one.
  double masked(size_t i, double dy, bool relu) const { return relu && output(i) <= 0 ? 0 : dy; }
};

struct NormArguments {
  Argument mean, var, gamma, beta;
  bool relu;

  NormArguments(Case& test, const HostNorm& norm, bool with_relu)
      : mean(test.vector(norm.mean)),
        var(test.vector(norm.var)),
        gamma(test.vector(norm.gamma)),
        beta(test.vector(norm.beta)),
        relu(with_relu) {}

  BatchNormState operator[](Side side) const {
    return {mean[side], var[side], gamma[side], beta[side], kNormEps, relu};
  }
};

// |x|, on the reference.
inline Tensor absolute(Backend& reference, const Tensor& x) {
  std::vector<double> values = host(reference, x);
  for (double& value : values) value = std::abs(value);
  const Tensor result = reference.empty(x.shape());
  reference.upload(values.data(), DType::kF64, result);
  return result;
}

// `magnitudes`: of each element the sum of |terms| that contain an activation which a backend may store on the way, and
// so round if it has 16 bits: the fused operations' intermediate results. Empty: there are none.
inline std::vector<double> fused_bounds(Case& test, const Argument& y, const std::vector<double>& magnitudes) {
  const std::vector<double> wanted = test.expected(y);
  double largest = 0;
  for (double value : wanted) largest = std::max(largest, std::abs(value));
  std::vector<double> bounds(wanted.size(), kFusedRoundings * kRounding * largest);
  for (size_t i = 0; i < magnitudes.size(); ++i) bounds[i] += test.intermediate_rounding() * magnitudes[i];
  return bounds;
}

inline void expect_close(Case& test, const Argument& y, const char* what, const std::vector<double>& magnitudes = {}) {
  SCOPED_TRACE(what);
  test.expect_within(y, fused_bounds(test, y, magnitudes));
}

// The statistics of y, which may be taken before or after y is rounded to be stored. With e the error of an element,
// that of the mean is at most the mean of |e|, and that of the variance 2 * deviation(y) * rms(e) + rms(e)^2.
inline void expect_statistics(Case& test, const Argument& y, const Argument& mean, const Argument& var,
                              std::vector<double> magnitudes = {}) {
  const std::vector<double> values = test.expected(y), vars = test.expected(var);
  const size_t channels = vars.size(), pixels = values.size() / channels;
  magnitudes.resize(values.size());
  std::vector<double> absolute_error(channels), squared_error(channels);
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = test.intermediate_rounding() * (magnitudes[i] + std::abs(values[i]));
    absolute_error[i % channels] += error / static_cast<double>(pixels);
    squared_error[i % channels] += error * error / static_cast<double>(pixels);
  }
  std::vector<double> mean_bounds = fused_bounds(test, mean, {}), var_bounds = fused_bounds(test, var, {});
  for (size_t c = 0; c < channels; ++c) {
    mean_bounds[c] += absolute_error[c];
    var_bounds[c] += 2 * std::sqrt(vars[c] * squared_error[c]) + squared_error[c];
  }
  SCOPED_TRACE("statistics");
  test.expect_within(mean, mean_bounds);
  test.expect_within(var, var_bounds);
}

}  // namespace riffle::parity
