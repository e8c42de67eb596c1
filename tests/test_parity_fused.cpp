// Parity of the operations that fuse batch norm with its neighbours, against the reference's compositions. The parts have
// bounds of their own in other tests; here an error of the whole is measured against the largest element: float32 sums of
// up to 5,000 terms in shorter pieces, none of which hangs on a ReLU's sign or on two nearly equal pixels.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

constexpr double kEps = 1e-5;
constexpr double kRoundings = 300;

class FusedParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(FusedParity);

std::vector<double> to_host(Backend& backend, const Tensor& tensor) {
  std::vector<double> values(static_cast<size_t>(tensor.elements()));
  backend.download(tensor, DType::kF64, values.data());
  return values;
}

// The same float32 values on both backends.
struct Pair {
  Tensor test, reference;
};

class Sides {
 public:
  explicit Sides(Backend& test) : test_(test), random_(7, RandomPurpose::kTest) {}
  Backend& test() { return test_; }
  Backend& reference() { return *reference_; }

  Pair upload(Shape shape, const std::vector<float>& values) {
    const std::vector<double> wide(values.begin(), values.end());
    const Pair pair{test_.empty(shape), reference_->empty(shape)};
    test_.upload(wide.data(), DType::kF64, pair.test);
    reference_->upload(wide.data(), DType::kF64, pair.reference);
    return pair;
  }
  std::vector<float> draw(int64_t size, double low, double high) {
    std::vector<float> values(static_cast<size_t>(size));
    for (float& value : values) value = static_cast<float>(random_.uniform(low, high));
    return values;
  }
  Pair uniform(Shape shape, double low, double high) { return upload(shape, draw(shape.elements(), low, high)); }

  void expect_close(const Pair& pair, const char* what) {
    const std::vector<double> got = to_host(test_, pair.test), wanted = to_host(*reference_, pair.reference);
    double largest = 0;
    for (double value : wanted) largest = std::max(largest, std::abs(value));
    for (size_t i = 0; i < wanted.size(); ++i)
      ASSERT_NEAR(got[i], wanted[i], kRoundings * kRounding * largest) << what << " element " << i;
  }

 private:
  Backend& test_;
  std::unique_ptr<Backend> reference_ = make_reference_backend();
  RandomStream random_;
};

// A norm's input whose outputs keep away from the ReLU's kink, with the norm's vectors.
struct Norm {
  std::vector<float> y, mean, var, gamma, beta;

  Norm(Sides& sides, Shape shape) {
    y = sides.draw(shape.elements(), -2, 2);
    mean = sides.draw(shape.c, -0.5, 0.5);
    var = sides.draw(shape.c, 0.5, 2);
    gamma = sides.draw(shape.c, 0.5, 1.5);
    beta = sides.draw(shape.c, -0.5, 0.5);
    for (size_t c = 0; c < gamma.size(); c += 3) gamma[c] = -gamma[c];
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t c = i % mean.size();
      while (std::abs((y[i] - mean[c]) / std::sqrt(var[c] + kEps) * gamma[c] + beta[c]) < 0.01) y[i] += 0.1f;
    }
  }
};

struct Vectors {
  Pair mean, var, gamma, beta;
  Vectors(Sides& sides, const Norm& norm, int64_t channels)
      : mean(sides.upload(vector_shape(channels), norm.mean)),
        var(sides.upload(vector_shape(channels), norm.var)),
        gamma(sides.upload(vector_shape(channels), norm.gamma)),
        beta(sides.upload(vector_shape(channels), norm.beta)) {}
};

struct PointwiseProblem {
  Shape x;
  int64_t outputs;
};

TEST_P(FusedParity, PointwiseBatchNormBackward) {
  // The last three: many parts, parts of several chunks, and a filter too large for the fused pass.
  for (const PointwiseProblem& problem : {PointwiseProblem{{1, 1, 1, 3}, 7}, PointwiseProblem{{2, 5, 3, 29}, 58},
                                          PointwiseProblem{{3, 7, 7, 58}, 24}, PointwiseProblem{{3, 19, 21, 24}, 58},
                                          PointwiseProblem{{2, 53, 47, 24}, 58}, PointwiseProblem{{2, 7, 7, 464}, 300}})
    for (bool relu : {false, true})
      for (bool with_dx : {false, true})
        for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
          SCOPED_TRACE(join(problem.x, " -> ", problem.outputs, relu ? ", relu" : "", with_dx ? "" : ", without dx",
                            write == Write::kAccumulate ? ", accumulating" : ""));
          Sides sides(backend());
          const Shape y_shape = problem.x.with_channels(problem.outputs), w_shape{problem.outputs, 1, 1, problem.x.c};
          const Norm norm(sides, y_shape);
          const Vectors vectors(sides, norm, problem.outputs);
          const Pair x = sides.uniform(problem.x, -1, 1), w = sides.uniform(w_shape, -0.3, 0.3);
          const Pair y = sides.upload(y_shape, norm.y), dz = sides.uniform(y_shape, -1, 1);
          const Pair dx = sides.uniform(problem.x, -1, 1), dw = sides.uniform(w_shape, -1, 1);
          const Pair dgamma = sides.uniform(vector_shape(problem.outputs), -1, 1);
          const Pair dbeta = sides.uniform(vector_shape(problem.outputs), -1, 1);
          const auto run = [&](Backend& b, Tensor Pair::*side) {
            const BatchNormState state{
                vectors.mean.*side, vectors.var.*side, vectors.gamma.*side, vectors.beta.*side, kEps, relu};
            b.pointwise_batch_norm_backward(x.*side, w.*side, y.*side, dz.*side, state, write,
                                            with_dx ? dx.*side : Tensor{}, write, dw.*side, dgamma.*side, dbeta.*side);
          };
          run(sides.test(), &Pair::test);
          run(sides.reference(), &Pair::reference);
          sides.expect_close(dx, "dx");
          sides.expect_close(dw, "dw");
          sides.expect_close(dgamma, "dgamma");
          sides.expect_close(dbeta, "dbeta");
        }
}

TEST_P(FusedParity, BatchNormMaxPool) {
  for (const Shape& shape : {Shape{1, 3, 3, 1}, Shape{2, 7, 9, 24}, Shape{1, 8, 6, 29}, Shape{2, 16, 15, 58}})
    for (const Padding& padding : {Padding::all(1), Padding{0, 1, 0, 1}})
      for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
        SCOPED_TRACE(join(shape, ", padding ", padding.top, write == Write::kAccumulate ? ", accumulating" : ""));
        const Window window{3, 3, 2, padding};
        Sides sides(backend());
        const Norm norm(sides, shape);
        const Vectors v(sides, norm, shape.c);
        const Shape out{shape.n, window.out_h(shape.h), window.out_w(shape.w), shape.c};
        const Pair x = sides.upload(shape, norm.y), y = sides.uniform(out, 5, 6), dy = sides.uniform(out, -1, 1);
        const Pair dx = sides.uniform(shape, 5, 6);
        const Pair dgamma = sides.uniform(vector_shape(shape.c), -1, 1);
        const Pair dbeta = sides.uniform(vector_shape(shape.c), -1, 1);
        const auto run = [&](Backend& b, Tensor Pair::*side) {
          const Tensor winner = b.empty(out, DType::kU8);
          b.batch_norm_max_pool(x.*side, v.mean.*side, v.var.*side, v.gamma.*side, v.beta.*side, kEps, window, y.*side,
                                winner);
          b.batch_norm_max_pool_backward(x.*side, dy.*side, winner, v.mean.*side, v.var.*side, v.gamma.*side,
                                         v.beta.*side, kEps, window, write, dx.*side, dgamma.*side, dbeta.*side);
        };
        run(sides.test(), &Pair::test);
        run(sides.reference(), &Pair::reference);
        sides.expect_close(y, "y");
        sides.expect_close(dx, "dx");
        sides.expect_close(dgamma, "dgamma");
        sides.expect_close(dbeta, "dbeta");
      }
}

// A convolution that reports its result's statistics: the result must not change, and the statistics be the result's.
TEST_P(FusedParity, ConvolutionsReportStatistics) {
  const Window window{3, 3, 2, Padding::all(1)};
  for (int64_t channels : {3, 24, 58}) {
    SCOPED_TRACE(channels);
    const Shape shape{3, 19, 17, channels}, out{3, 10, 9, channels};
    Sides sides(backend());
    const Pair x = sides.uniform(shape, -1, 1), filters = sides.uniform({channels, 3, 3, channels}, -1, 1);
    const Pair depthwise = sides.uniform({1, 3, 3, channels}, -1, 1),
               matrix = sides.uniform({70, 1, 1, channels}, -1, 1);
    const auto expect_statistics = [&](Shape y_shape, const auto& run) {
      const Pair y = sides.uniform(y_shape, 5, 6), mean = sides.uniform(vector_shape(y_shape.c), 5, 6);
      const Pair var = sides.uniform(vector_shape(y_shape.c), 5, 6);
      run(sides.test(), &Pair::test, Epilogue{{}, false, mean.test, var.test}, y.test);
      run(sides.reference(), &Pair::reference, Epilogue{{}, false, mean.reference, var.reference}, y.reference);
      sides.expect_close(y, "y");
      sides.expect_close(mean, "mean");
      sides.expect_close(var, "var");
    };
    expect_statistics(out, [&](Backend& b, Tensor Pair::*side, const Epilogue& e, const Tensor& y) {
      b.conv2d(x.*side, filters.*side, window, 1, e, y);
    });
    expect_statistics(out, [&](Backend& b, Tensor Pair::*side, const Epilogue& e, const Tensor& y) {
      b.depthwise(x.*side, depthwise.*side, window, e, y);
    });
    expect_statistics(shape.with_channels(70), [&](Backend& b, Tensor Pair::*side, const Epilogue& e, const Tensor& y) {
      b.pointwise(x.*side, matrix.*side, e, y);
    });
  }
}

// All results of the fused operations on one backend, one after the other.
std::vector<double> fused_results(Backend& b) {
  Sides sides(b);
  const Shape shape{4, 33, 31, 24}, out{4, 17, 16, 24};
  const Window window{3, 3, 2, Padding::all(1)};
  const Norm norm(sides, shape);
  const Vectors v(sides, norm, shape.c);
  const Tensor x = sides.uniform(shape, -1, 1).test, y = sides.upload(shape, norm.y).test;
  const Tensor w = sides.uniform({24, 1, 1, 24}, -1, 1).test, dz = sides.uniform(shape, -1, 1).test;
  const Tensor dy = sides.uniform(out, -1, 1).test, pooled = b.empty(out), winner = b.empty(out, DType::kU8);
  const Tensor dx = b.empty(shape), dw = b.empty(w.shape()), dgamma = b.empty(vector_shape(24));
  const Tensor dbeta = b.empty(vector_shape(24)), mean = b.empty(vector_shape(24)), var = b.empty(vector_shape(24));
  std::vector<double> all;
  const auto keep = [&](std::initializer_list<Tensor> results) {
    for (const Tensor& result : results)
      for (double value : to_host(b, result)) all.push_back(value);
  };
  b.pointwise_batch_norm_backward(x, w, y, dz, {v.mean.test, v.var.test, v.gamma.test, v.beta.test, kEps, true},
                                  Write::kOverwrite, dx, Write::kOverwrite, dw, dgamma, dbeta);
  keep({dx, dw, dgamma, dbeta});
  b.batch_norm_max_pool(y, v.mean.test, v.var.test, v.gamma.test, v.beta.test, kEps, window, pooled, winner);
  b.batch_norm_max_pool_backward(y, dy, winner, v.mean.test, v.var.test, v.gamma.test, v.beta.test, kEps, window,
                                 Write::kOverwrite, dx, dgamma, dbeta);
  keep({pooled, dx, dgamma, dbeta});
  b.pointwise(x, w, {{}, false, mean, var}, dx);
  keep({dx, mean, var});
  return all;
}

TEST(Fused, ResultsDoNotDependOnTheNumberOfThreads) {
  const std::vector<double> one = fused_results(*make_cpu_backend(1));
  for (int threads : {2, 3}) EXPECT_EQ(fused_results(*make_cpu_backend(threads)), one) << threads << " threads";
}

}  // namespace
}  // namespace riffle
