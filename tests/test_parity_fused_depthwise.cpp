// Parity of a depthwise convolution between two norms, forward and backward.
#include "tests/norm_arguments.h"

namespace riffle {
namespace {

using namespace parity;

class FusedDepthwiseParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(FusedDepthwiseParity);

struct Problem {
  Shape x;
  Window window;
  Layout x_layout, y_layout;

  Shape y() const { return {x.n, window.out_h(x.h), window.out_w(x.w), x.c}; }
  Shape filter() const { return {1, 3, 3, x.c}; }
};

const std::vector<Problem>& problems() {
  const Window same{3, 3, 2, {0, 1, 0, 1}}, valid{3, 3, 2, {}};
  static const std::vector<Problem> all{
      {{1, 1, 1, 1}, {3, 3, 1, Padding::all(1)}, kPacked, kPacked},
      {{2, 5, 7, 29}, {3, 3, 1, Padding::all(1)}, kSlice, kPacked},
      {{3, 7, 7, 58}, {3, 3, 2, Padding::all(1)}, kPacked, kSlice},
      {{1, 14, 9, 232}, {3, 3, 1, Padding::all(1)}, kFirstPart, kLastPart},
      {{2, 13, 5, 232}, {3, 3, 2, Padding::all(1)}, kPacked, kPacked},
      {{2, 8, 6, 24}, same, kSlice, kSlice},
      {{3, 4, 10, 1}, same, kPacked, kLastPart},
      {{1, 9, 8, 33}, valid, kSlice, kPacked},
      {{2, 6, 5, 16}, {3, 3, 1, {2, 0, 1, 2}}, kPacked, kPacked},
      {{3, 17, 4, 7}, {3, 3, 1, {0, 1, 0, 1}}, kLastPart, kFirstPart},
  };
  return all;
}

template <class Body>
void for_each_problem(const Body& body) {
  for (const Problem& problem : problems())
    for (bool relu : {false, true}) {
      const Padding& pad = problem.window.padding;
      SCOPED_TRACE(join("x ", problem.x, ", stride ", problem.window.stride, ", padding ", pad.top, " ", pad.bottom,
                        " ", pad.left, " ", pad.right, relu ? ", relu" : ""));
      body(problem, relu);
    }
}

// What the convolution reads, on the reference. A backend may store it.
Tensor normalised(Case& test, const Argument& x, const NormArguments& norm) {
  const Side ref = Side::kReference;
  const Tensor z = test.reference().empty(x.shape());
  test.reference().batch_norm_apply(x[ref], norm.mean[ref], norm.var[ref], norm.gamma[ref], norm.beta[ref], kNormEps,
                                    norm.relu, z);
  return z;
}

TEST_P(FusedDepthwiseParity, NormDepthwise) {
  for_each_problem([&](const Problem& problem, bool relu) {
    Case test(backend());
    const HostNorm host_norm(test, problem.x);
    const NormArguments before(test, host_norm, relu);
    const Argument x = test.input(problem.x, problem.x_layout, host_norm.x), w = test.input(problem.filter());
    const Argument y = test.output(problem.y(), problem.y_layout);
    const Argument mean = test.parameter_output(vector_shape(problem.x.c));
    const Argument var = test.parameter_output(vector_shape(problem.x.c));
    test.run(
        [&](Backend& b, Side side) {
          b.norm_depthwise(x[side], before[side], w[side], problem.window, mean[side], var[side], y[side]);
        },
        false);
    Backend& r = test.reference();
    const Tensor size = r.empty(problem.y());
    r.depthwise(absolute(r, normalised(test, x, before)), absolute(r, w[Side::kReference]), problem.window, {}, size);
    const std::vector<double> magnitudes = host(r, size);
    expect_close(test, y, "y", magnitudes);
    expect_statistics(test, y, mean, var, magnitudes);
  });
}

// The gradient of y, dy + from_y*(y - mean_y), on the reference. A backend may store it.
Tensor whole_gradient(Case& test, const Argument& y, const Argument& mean_y, const Argument& from_y,
                      const Argument& dy) {
  const std::vector<double> ys = test.expected(y), means = test.expected(mean_y), factors = test.expected(from_y);
  std::vector<double> whole = test.expected(dy);
  for (size_t i = 0; i < whole.size(); ++i) {
    const size_t c = i % means.size();
    whole[i] += factors[c] * (ys[i] - means[c]);
  }
  const Tensor result = test.reference().empty(y.shape());
  test.reference().upload(whole.data(), DType::kF64, result);
  return result;
}

// dx carries the rounding of the gradient of y, `dx_sizes`, and its own; the sums carry both.
void expect_sums(Case& test, const Argument& sums, const Argument& dx, const HostNorm& norm, bool relu,
                 const std::vector<double>& dx_sizes) {
  const std::vector<double> gradient = test.expected(dx);
  const size_t channels = norm.mean.size();
  std::vector<double> sizes(2 * channels);
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double size = norm.masked(i, std::abs(gradient[i]) + dx_sizes[i], relu);
    sizes[norm.channel(i)] += size;
    sizes[channels + norm.channel(i)] += size * std::abs(norm.centred(i));
  }
  expect_close(test, sums, "sums", sizes);
}

struct Variant {
  bool normed;  // else the convolution reads x itself
  Write write_dx, write_dw;
};

void check_backward(Backend& backend, const Problem& problem, bool relu, const Variant& v) {
  SCOPED_TRACE(join(v.normed ? "norm before" : "no norm before",
                    v.write_dx == Write::kAccumulate ? ", dx accumulates" : "",
                    v.write_dw == Write::kAccumulate ? ", dw accumulates" : ""));
  Case test(backend);
  const HostNorm host_norm(test, problem.x);
  const NormArguments before(test, host_norm, relu);
  const int64_t channels = problem.x.c;
  const Argument x = test.input(problem.x, problem.x_layout, host_norm.x), w = test.input(problem.filter());
  const Argument y = test.input(problem.y(), problem.y_layout), dy = test.input(problem.y(), problem.y_layout);
  const Argument mean_y = test.vector(channels), from_y = test.vector(draw_uniform(test, channels, -0.2, 0.2));
  const Argument dx = test.output(problem.x, problem.x_layout, v.write_dx);
  const Argument dw = test.parameter_output(problem.filter(), v.write_dw);
  const Argument sums = v.normed ? test.parameter_output({1, 1, 2, channels}) : Argument();
  test.run(
      [&](Backend& b, Side side) {
        b.norm_depthwise_backward(x[side], v.normed ? before[side] : BatchNormState{}, w[side], problem.window, y[side],
                                  mean_y[side], from_y[side], dy[side], v.write_dx, dx[side], v.write_dw, dw[side],
                                  sums[side]);
      },
      false);

  Backend& r = test.reference();
  const Tensor gradient = absolute(r, whole_gradient(test, y, mean_y, from_y, dy));
  const Tensor z = absolute(r, v.normed ? normalised(test, x, before) : x[Side::kReference]);
  const Tensor dx_size = r.empty(problem.x), dw_size = r.empty(problem.filter());
  r.depthwise_backward_data(gradient, absolute(r, w[Side::kReference]), problem.window, Write::kOverwrite, dx_size);
  r.depthwise_backward_weights(z, gradient, problem.window, Write::kOverwrite, dw_size);
  std::vector<double> dw_sizes = host(r, dw_size);
  for (double& size : dw_sizes) size *= 2;  // both factors may be rounded
  expect_close(test, dx, "dx", host(r, dx_size));
  expect_close(test, dw, "dw", dw_sizes);
  if (v.normed) expect_sums(test, sums, dx, host_norm, relu, host(r, dx_size));
}

TEST_P(FusedDepthwiseParity, NormDepthwiseBackward) {
  const Write over = Write::kOverwrite, add = Write::kAccumulate;
  for_each_problem([&](const Problem& problem, bool relu) {
    for (Write write_dw : {over, add}) {
      check_backward(backend(), problem, relu, {true, over, write_dw});
      if (relu) continue;
      for (Write write_dx : {over, add}) check_backward(backend(), problem, relu, {false, write_dx, write_dw});
    }
  });
}

}  // namespace
}  // namespace riffle
