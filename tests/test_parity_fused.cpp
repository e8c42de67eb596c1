// Parity of a pointwise convolution fused with the norm after it (its gradient) or before it (folded into its filters),
// and of convolutions that report their result's statistics.
#include "tests/norm_arguments.h"

namespace riffle {
namespace {

using namespace parity;

class FusedParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(FusedParity);

const Write kOver = Write::kOverwrite, kAdd = Write::kAccumulate;

struct PointwiseProblem {
  Shape x;
  int64_t outputs;
  Layout x_layout;

  Shape y() const { return x.with_channels(outputs); }
  Shape filter() const { return {outputs, 1, 1, x.c}; }
};

struct BackwardVariant {
  bool relu, with_dx, with_sums;
  Write write_dx, write_params;
  size_t parts;
};

// As norm_depthwise_backward leaves them: sums over the pixels of the masked gradient, and of that times x - mean.
std::vector<float> norm_sums(const HostNorm& norm, const std::vector<float>& dz, bool relu) {
  const size_t channels = norm.mean.size();
  std::vector<double> sums(2 * channels);
  for (size_t i = 0; i < dz.size(); ++i) {
    const double gradient = norm.masked(i, dz[i], relu);
    sums[norm.channel(i)] += gradient;
    sums[channels + norm.channel(i)] += gradient * norm.centred(i);
  }
  return std::vector<float>(sums.begin(), sums.end());
}

void check_pointwise_backward(Backend& backend, const PointwiseProblem& problem, const BackwardVariant& v) {
  SCOPED_TRACE(join(problem.x, " -> ", problem.outputs, v.relu ? ", relu" : "", v.with_dx ? "" : ", without dx",
                    v.with_sums ? ", sums given" : "", v.write_dx == kAdd ? ", dx accumulates" : "",
                    v.write_params == kAdd ? ", parameters accumulate" : "", ", ", v.parts, " parts"));
  Case test(backend);
  const Shape y_shape = problem.y(), vector = vector_shape(problem.outputs);
  const HostNorm host_norm(test, y_shape);
  const NormArguments norm(test, host_norm, v.relu);
  const std::vector<float> dz_values = test.rounded(draw_uniform(test, y_shape.elements(), -1, 1));
  const Argument x = test.input(problem.x, problem.x_layout), w = test.input(problem.filter());
  const Argument y = test.input(y_shape, problem.x_layout, host_norm.x);
  const Parts dz = test.input_parts(y_shape, v.parts, dz_values);
  const Argument sums =
      v.with_sums ? test.parameter({1, 1, 2, problem.outputs}, norm_sums(host_norm, dz_values, v.relu)) : Argument();
  const Argument dx = v.with_dx ? test.output(problem.x, problem.x_layout, v.write_dx) : Argument();
  const Argument dw = test.parameter_output(problem.filter(), v.write_params);
  const Argument dgamma = test.parameter_output(vector, v.write_params);
  const Argument dbeta = test.parameter_output(vector, v.write_params);
  test.run(
      [&](Backend& b, Side side) {
        b.pointwise_batch_norm_backward(x[side], w[side], y[side], dz[side], sums[side], norm[side], v.write_dx,
                                        dx[side], v.write_params, dw[side], dgamma[side], dbeta[side]);
      },
      false);

  // The gradient of y may be stored.
  Backend& r = test.reference();
  const Side ref = Side::kReference;
  const Tensor dy = r.empty(y_shape), dw_size = r.empty(problem.filter()), dx_size = r.empty(problem.x);
  r.batch_norm_backward(y[ref], dz[ref], norm.mean[ref], norm.var[ref], norm.gamma[ref], norm.beta[ref], kNormEps,
                        v.relu, kOver, dy, r.empty(vector), r.empty(vector));
  r.pointwise_backward_weights(absolute(r, x[ref]), absolute(r, dy), kOver, dw_size);
  r.pointwise_backward_data(absolute(r, dy), absolute(r, w[ref]), kOver, dx_size);
  if (v.with_dx) expect_close(test, dx, "dx", host(r, dx_size));
  expect_close(test, dw, "dw", host(r, dw_size));
  expect_close(test, dgamma, "dgamma");
  expect_close(test, dbeta, "dbeta");
}

TEST_P(FusedParity, PointwiseBatchNormBackward) {
  const PointwiseProblem problems[] = {
      {{1, 1, 1, 3}, 7, kPacked},        {{2, 5, 3, 29}, 58, kSlice},   {{3, 7, 7, 58}, 24, kPacked},
      {{1, 5, 7, 1}, 1, kLastPart},      {{1, 9, 7, 58}, 232, kPacked}, {{3, 19, 21, 24}, 58, kSlice},
      {{2, 53, 47, 24}, 58, kPacked},     // several chunks of pixels
      {{2, 7, 7, 464}, 300, kFirstPart},  // a filter too large for the fused pass
  };
  const BackwardVariant variants[] = {
      {true, true, false, kOver, kOver, 1}, {false, true, true, kAdd, kOver, 2},    {true, false, true, kOver, kAdd, 3},
      {true, true, true, kOver, kAdd, 5},   {false, false, false, kOver, kOver, 4}, {true, true, false, kAdd, kAdd, 3},
  };
  for (const PointwiseProblem& problem : problems)
    for (const BackwardVariant& variant : variants) check_pointwise_backward(backend(), problem, variant);
}

const Shape kFilters[] = {{1, 1, 1, 1}, {7, 1, 1, 29}, {58, 1, 1, 58}, {24, 1, 1, 232}, {116, 1, 1, 33}};

TEST_P(FusedParity, FoldNorm) {
  for (const Shape& shape : kFilters) {
    SCOPED_TRACE(shape);
    Case test(backend());
    const HostNorm host_norm(test, shape);
    const NormArguments norm(test, host_norm, /*with_relu=*/false);
    const std::vector<float> filter = test.draw(shape);
    const Argument w = test.parameter(shape, filter), scaled_w = test.output(shape);
    const Argument shift = test.parameter_output(vector_shape(shape.n));
    test.run([&](Backend& b, Side side) { b.fold_norm(w[side], norm[side], scaled_w[side], shift[side]); }, false);
    std::vector<double> scaled_bounds, shift_bounds(static_cast<size_t>(shape.n));
    for (size_t i = 0; i < filter.size(); ++i) {
      const size_t c = host_norm.channel(i);
      const double size = std::abs(filter[i]), scale = std::abs(host_norm.scale(c));
      scaled_bounds.push_back(8 * kRounding * size * scale);
      shift_bounds[i / static_cast<size_t>(shape.c)] +=
          kRounding * static_cast<double>(shape.c + 8) * size *
          (std::abs(host_norm.beta[c]) + std::abs(host_norm.mean[c]) * scale);
    }
    test.expect_within(scaled_w, scaled_bounds);
    test.expect_within(shift, shift_bounds);
  }
}

TEST_P(FusedParity, FoldNormBackward) {
  for (const Shape& shape : kFilters)
    for (Write write : {kOver, kAdd}) {
      SCOPED_TRACE(join(shape, write == kAdd ? ", accumulating" : ""));
      constexpr int64_t kPixels = 147;
      Case test(backend());
      const HostNorm host_norm(test, shape);
      const NormArguments norm(test, host_norm, /*with_relu=*/false);
      const std::vector<float> filter = test.draw(shape), gradient = test.draw(shape);
      const Argument w = test.parameter(shape, filter), dscaled_w = test.parameter(shape, gradient);
      const Argument dw = test.parameter_output(shape, write), from_x = test.parameter_output(vector_shape(shape.c));
      const Argument dgamma = test.parameter_output(vector_shape(shape.c), write);
      const Argument dbeta = test.parameter_output(vector_shape(shape.c), write);
      test.run(
          [&](Backend& b, Side side) {
            b.fold_norm_backward(w[side], dscaled_w[side], norm[side], kPixels, write, dw[side], dgamma[side],
                                 dbeta[side], from_x[side]);
          },
          false);
      const double start = write == kAdd ? 5 : 0;  // what is added to is a normal number
      const auto channels = static_cast<size_t>(shape.c);
      std::vector<double> dw_bounds, gamma_bounds(channels), from_x_bounds(channels);
      for (size_t i = 0; i < filter.size(); ++i) {
        const size_t c = host_norm.channel(i);
        const double inv_std = 1 / std::sqrt(host_norm.var[c] + kNormEps), scale = std::abs(host_norm.scale(c));
        const double term = kRounding * static_cast<double>(shape.n + 8) * std::abs(filter[i] * gradient[i]) * inv_std;
        dw_bounds.push_back(kRounding * (8 * std::abs(gradient[i]) * scale + start));
        gamma_bounds[c] += term;
        from_x_bounds[c] += 2 * term * scale * inv_std / kPixels;
      }
      for (double& bound : gamma_bounds) bound += kRounding * start;
      test.expect_within(dw, dw_bounds);
      test.expect_within(dgamma, gamma_bounds);
      test.expect_within(from_x, from_x_bounds);
      test.expect_equal(dbeta);  // to which nothing is added
    }
}

// A convolution that reports its result's statistics: the result must not change, and the statistics be the result's.
void check_reported_statistics(
    Backend& backend, Shape x_shape, Shape filter, Shape y_shape, Layout layout,
    const std::function<void(Backend&, const Tensor& x, const Tensor& w, const Epilogue&, const Tensor& y)>& run) {
  SCOPED_TRACE(join(x_shape, ", filter ", filter));
  Case test(backend);
  const Argument x = test.input(x_shape, layout), w = test.input(filter), y = test.output(y_shape, layout);
  const Argument mean = test.parameter_output(vector_shape(y_shape.c));
  const Argument var = test.parameter_output(vector_shape(y_shape.c));
  test.run([&](Backend& b, Side side) { run(b, x[side], w[side], {{}, false, mean[side], var[side]}, y[side]); });
  expect_close(test, y, "y");
  expect_statistics(test, y, mean, var);
}

TEST_P(FusedParity, ConvolutionsReportStatistics) {
  const Window window{3, 3, 2, Padding::all(1)};
  for (int64_t channels : {1, 3, 24, 29, 58}) {
    const Shape x{3, 19, 17, channels}, strided{3, 10, 9, channels};
    check_reported_statistics(backend(), x, {channels, 3, 3, channels}, strided, kPacked,
                              [&](Backend& b, const Tensor& in, const Tensor& w, const Epilogue& e, const Tensor& y) {
                                b.conv2d(in, w, window, 1, e, y);
                              });
    check_reported_statistics(backend(), x, {1, 3, 3, channels}, strided, kSlice,
                              [&](Backend& b, const Tensor& in, const Tensor& w, const Epilogue& e, const Tensor& y) {
                                b.depthwise(in, w, window, e, y);
                              });
    check_reported_statistics(backend(), x, {70, 1, 1, channels}, x.with_channels(70), kSlice,
                              [&](Backend& b, const Tensor& in, const Tensor& w, const Epilogue& e, const Tensor& y) {
                                b.pointwise(in, w, e, y);
                              });
  }
}

}  // namespace
}  // namespace riffle
