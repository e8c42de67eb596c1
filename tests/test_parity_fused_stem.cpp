// Parity of the stem's operations: batch norm, ReLU and max-pooling in one pass, and their gradient with that of the
// convolution before them.
#include "tests/norm_arguments.h"

namespace riffle {
namespace {

using namespace parity;

class FusedStemParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(FusedStemParity);

struct PoolProblem {
  Shape x;
  Window window;
  Layout x_layout, y_layout;

  Shape y() const { return {x.n, window.out_h(x.h), window.out_w(x.w), x.c}; }
};

const Window kPool{3, 3, 2, Padding::all(1)}, kPoolSame{3, 3, 2, {0, 1, 0, 1}};

const std::vector<PoolProblem>& pool_problems() {
  static const std::vector<PoolProblem> all{
      {{1, 3, 3, 1}, kPool, kPacked, kPacked},
      {{2, 7, 9, 24}, kPool, kSlice, kPacked},
      {{1, 8, 6, 29}, kPoolSame, kPacked, kSlice},
      {{2, 16, 15, 58}, kPool, kPacked, kPacked},
      {{3, 10, 12, 24}, kPoolSame, kLastPart, kFirstPart},
      {{1, 5, 7, 232}, {3, 3, 1, Padding::all(1)}, kPacked, kPacked},
      {{2, 9, 6, 7}, {3, 3, 2, {}}, kSlice, kSlice},
  };
  return all;
}

// Index in x of the pixel that output pixel (n, oh, ow) of channel c took.
size_t winner_index(const PoolProblem& problem, size_t output, uint8_t tap) {
  const Shape y = problem.y(), &x = problem.x;
  const Window& window = problem.window;
  const auto i = static_cast<int64_t>(output);
  const int64_t c = i % y.c, ow = i / y.c % y.w, oh = i / y.c / y.w % y.h, n = i / y.c / y.w / y.h;
  const int64_t h = oh * window.stride - window.padding.top + tap / window.kernel_w;
  const int64_t w = ow * window.stride - window.padding.left + tap % window.kernel_w;
  EXPECT_TRUE(h >= 0 && h < x.h && w >= 0 && w < x.w) << "tap " << int{tap} << " of output " << i << " is padding";
  return static_cast<size_t>(((n * x.h + h) * x.w + w) * x.c + c);
}

TEST_P(FusedStemParity, BatchNormMaxPool) {
  for (const PoolProblem& problem : pool_problems()) {
    SCOPED_TRACE(problem.x);
    Case test(backend());
    const HostNorm host_norm(test, problem.x);
    const NormArguments norm(test, host_norm, /*with_relu=*/true);
    const Argument x = test.input(problem.x, problem.x_layout, host_norm.x);
    const Argument y = test.output(problem.y(), problem.y_layout), winner = test.integer_output<uint8_t>(problem.y());
    test.run(
        [&](Backend& b, Side side) {
          const BatchNormState n = norm[side];
          b.batch_norm_max_pool(x[side], n.mean, n.var, n.gamma, n.beta, n.eps, problem.window, y[side], winner[side]);
        },
        false);
    expect_close(test, y, "y");
    // Of values that rounding makes equal, any may win.
    const std::vector<double> wanted = test.expected(y), bounds = fused_bounds(test, y, {});
    std::vector<uint8_t> taps(wanted.size());
    backend().download(winner[Side::kTest], DType::kU8, taps.data());
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double value = std::max(host_norm.output(winner_index(problem, i, taps[i])), 0.0);
      EXPECT_GE(value, wanted[i] - 2 * bounds[i] - spacing(backend().dtype(), wanted[i])) << "output " << i;
    }
  }
}

// Of the reference's pooling, so that both sides send gradients the same way.
std::vector<uint8_t> reference_winners(Case& test, const PoolProblem& problem, const HostNorm& host_norm) {
  Backend& r = test.reference();
  const std::vector<double> wide(host_norm.x.begin(), host_norm.x.end());
  const Tensor x = r.empty(problem.x), y = r.empty(problem.y()), winner = r.empty(problem.y(), DType::kU8);
  r.upload(wide.data(), DType::kF64, x);
  const NormArguments norm(test, host_norm, true);
  const BatchNormState n = norm[Side::kReference];
  r.batch_norm_max_pool(x, n.mean, n.var, n.gamma, n.beta, n.eps, problem.window, y, winner);
  std::vector<uint8_t> winners(static_cast<size_t>(winner.elements()));
  r.download(winner, DType::kU8, winners.data());
  return winners;
}

// What one rounding of the max-pool's gradient g, which a backend may store, does to the results.
struct GradientSizes {
  std::vector<double> dx, dgamma, dbeta;

  GradientSizes(Case& test, const PoolProblem& problem, const HostNorm& norm, const Tensor& dy, const Tensor& winner)
      : dgamma(norm.mean.size()), dbeta(norm.mean.size()) {
    Backend& r = test.reference();
    const Tensor pooled = r.empty(problem.x);
    r.max_pool_backward(absolute(r, dy), winner, problem.window, pooled);
    std::vector<double> g = host(r, pooled);
    for (size_t i = 0; i < g.size(); ++i) {
      g[i] = norm.masked(i, g[i], /*relu=*/true);
      dbeta[norm.channel(i)] += g[i];
      dgamma[norm.channel(i)] += g[i] * std::abs(norm.normalised(i));
    }
    const auto pixels = static_cast<double>(problem.x.pixels());
    for (size_t i = 0; i < g.size(); ++i) {
      const size_t c = norm.channel(i);
      const double of_sums = dbeta[c] + std::abs(norm.normalised(i)) * dgamma[c];
      dx.push_back(std::abs(norm.scale(c)) * (g[i] + of_sums / pixels));
    }
  }
};

TEST_P(FusedStemParity, BatchNormMaxPoolBackward) {
  for (const PoolProblem& problem : pool_problems())
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      SCOPED_TRACE(join(problem.x, write == Write::kAccumulate ? ", accumulating" : ""));
      Case test(backend());
      const HostNorm host_norm(test, problem.x);
      const NormArguments norm(test, host_norm, /*with_relu=*/true);
      const Argument x = test.input(problem.x, problem.x_layout, host_norm.x);
      const Argument dy = test.input(problem.y(), problem.y_layout);
      const Argument winner = test.integer_input(problem.y(), reference_winners(test, problem, host_norm));
      const Argument dx = test.output(problem.x, problem.x_layout);
      const Argument dgamma = test.parameter_output(vector_shape(problem.x.c), write);
      const Argument dbeta = test.parameter_output(vector_shape(problem.x.c), write);
      test.run(
          [&](Backend& b, Side side) {
            const BatchNormState n = norm[side];
            b.batch_norm_max_pool_backward(x[side], dy[side], winner[side], n.mean, n.var, n.gamma, n.beta, n.eps,
                                           problem.window, write, dx[side], dgamma[side], dbeta[side]);
          },
          false);
      const GradientSizes sizes(test, problem, host_norm, dy[Side::kReference], winner[Side::kReference]);
      expect_close(test, dx, "dx", sizes.dx);
      expect_close(test, dgamma, "dgamma", sizes.dgamma);
      expect_close(test, dbeta, "dbeta", sizes.dbeta);
    }
}

struct StemProblem {
  Shape input;
  Window conv;
  int64_t channels;
  Window pool;

  PoolProblem pooling() const {
    return {{input.n, conv.out_h(input.h), conv.out_w(input.w), channels}, pool, kPacked, kPacked};
  }
  Shape filter() const { return {channels, conv.kernel_h, conv.kernel_w, input.c}; }
};

void check_stem_backward(Backend& backend, const StemProblem& problem, Write write) {
  SCOPED_TRACE(join(problem.input, " -> ", problem.pooling().x, write == Write::kAccumulate ? ", accumulating" : ""));
  const PoolProblem pooling = problem.pooling();
  Case test(backend);
  const HostNorm host_norm(test, pooling.x);
  const NormArguments norm(test, host_norm, /*with_relu=*/true);
  const Argument input = test.input(problem.input), x = test.input(pooling.x, kPacked, host_norm.x);
  const Argument dy = test.input(pooling.y());
  const Argument winner = test.integer_input(pooling.y(), reference_winners(test, pooling, host_norm));
  const Argument dw = test.parameter_output(problem.filter(), write);
  const Argument dgamma = test.parameter_output(vector_shape(problem.channels), write);
  const Argument dbeta = test.parameter_output(vector_shape(problem.channels), write);
  test.run(
      [&](Backend& b, Side side) {
        b.conv2d_norm_max_pool_backward(input[side], problem.conv, x[side], norm[side], problem.pool, dy[side],
                                        winner[side], write, dw[side], dgamma[side], dbeta[side]);
      },
      false);

  // The gradient of x may be stored too, with what the rounding of the max-pool's gradient made of it.
  Backend& r = test.reference();
  const Tensor dx = r.empty(pooling.x), dw_size = r.empty(problem.filter()),
               vector = r.empty(vector_shape(pooling.x.c));
  const BatchNormState n = norm[Side::kReference];
  r.batch_norm_max_pool_backward(x[Side::kReference], dy[Side::kReference], winner[Side::kReference], n.mean, n.var,
                                 n.gamma, n.beta, n.eps, problem.pool, Write::kOverwrite, dx, vector,
                                 r.empty(vector.shape()));
  const GradientSizes sizes(test, pooling, host_norm, dy[Side::kReference], winner[Side::kReference]);
  std::vector<double> dx_sizes = host(r, dx);
  for (size_t i = 0; i < dx_sizes.size(); ++i) dx_sizes[i] = std::abs(dx_sizes[i]) + sizes.dx[i];
  r.upload(dx_sizes.data(), DType::kF64, dx);
  r.conv2d_backward_weights(absolute(r, input[Side::kReference]), dx, problem.conv, 1, Write::kOverwrite, dw_size);
  std::vector<double> dw_sizes = host(r, dw_size);
  const std::vector<double> gradient = test.expected(dw);  // which a library may store in 16 bits as well
  for (size_t i = 0; i < dw_sizes.size(); ++i)
    dw_sizes[i] += std::abs(gradient[i]) + (write == Write::kAccumulate ? 5 : 0);
  expect_close(test, dw, "dw", dw_sizes);
  expect_close(test, dgamma, "dgamma", sizes.dgamma);
  expect_close(test, dbeta, "dbeta", sizes.dbeta);
}

TEST_P(FusedStemParity, Conv2dNormMaxPoolBackward) {
  const Window stride2{3, 3, 2, Padding::all(1)}, stride2_same{3, 3, 2, {0, 1, 0, 1}};
  const Window stride1{3, 3, 1, Padding::all(1)};
  const StemProblem problems[] = {
      {{1, 5, 5, 1}, stride1, 1, kPool},
      {{2, 17, 19, 3}, stride2, 24, kPool},
      {{3, 16, 12, 3}, stride2_same, 24, kPoolSame},
      {{1, 13, 11, 1}, stride1, 29, kPool},
      {{2, 28, 28, 1}, stride1, 24, kPool},
      {{1, 9, 10, 7}, {5, 5, 1, Padding::all(2)}, 58, kPoolSame},
  };
  for (const StemProblem& problem : problems)
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) check_stem_backward(backend(), problem, write);
}

}  // namespace
}  // namespace riffle
