// Parity of ReLU, dropout and pooling.
#include <algorithm>

#include "tests/parity.h"
#include "tests/step_scalars.h"

namespace riffle {
namespace {

using namespace parity;

class PoolingParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(PoolingParity);

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all{{1, 1, 1, 1}, {2, 3, 5, 7}, {3, 7, 7, 58}, {1, 5, 3, 29}, {2, 7, 4, 232}};
  return all;
}

TEST_P(PoolingParity, Relu) {
  for (const Shape& shape : shapes())
    for (Layout layout : {kPacked, kSlice})
      for (bool in_place : {false, true}) {
        SCOPED_TRACE(shape);
        Case test(backend());
        std::vector<float> values = test.draw(shape);
        values[0] = -0.0f;
        if (shape.c > 4) values[4] = kNan;  // which must stay visible
        const Argument y = in_place ? test.in_place(shape, layout, values) : test.output(shape, kPacked);
        const Argument x = in_place ? y : test.input(shape, layout, values);
        test.run([&](Backend& b, Side side) { b.relu(x[side], y[side]); });
        test.expect_equal(y);
      }
}

TEST_P(PoolingParity, ReluBackward) {
  for (const Shape& shape : shapes())
    for (Layout layout : {kPacked, kSlice})
      for (bool in_place : {false, true}) {
        SCOPED_TRACE(shape);
        Case test(backend());
        std::vector<float> outputs = test.draw(shape);
        for (float& value : outputs) value = std::max(value, 0.0f);
        const std::vector<float> gradient = test.draw(shape);
        const Argument y = test.input(shape, layout, outputs);
        const Argument dx = in_place ? test.in_place(shape, layout, gradient) : test.output(shape, kFirstPart);
        const Argument dy = in_place ? dx : test.input(shape, layout, gradient);
        test.run([&](Backend& b, Side side) { b.relu_backward(y[side], dy[side], dx[side]); });
        test.expect_equal(dx);
      }
}

TEST_P(PoolingParity, Dropout) {
  const PhiloxKey key = RandomStream(5, RandomPurpose::kDropout, 3, 1).key();
  for (const Shape& shape : shapes())
    for (Layout layout : {kPacked, kSlice})
      for (double rate : {0.0, 0.2, 0.5})
        for (bool in_place : {false, true}) {
          SCOPED_TRACE(join(shape, ", rate ", rate));
          Case test(backend());
          const std::vector<float> values = test.draw(shape);
          const Argument y = in_place ? test.in_place(shape, layout, values) : test.output(shape, kPacked);
          const Argument x = in_place ? y : test.input(shape, layout, values);
          HostStepScalars scalars;
          scalars.step = rate == 0.5 ? kStepModulus - 1 : 0;
          test.run([&](Backend& b, Side side) {
            b.dropout(x[side], key, rate, rate == 0.2 ? Tensor{} : step_scalars(b, scalars), y[side]);
          });
          // A bound relative to each value is also a test of the mask: zeros must be zeros, and only they.
          std::vector<double> bounds = test.expected(y);
          for (double& bound : bounds) bound = std::abs(bound) * 4 * kRounding;
          test.expect_within(y, bounds);
        }
}

struct PoolProblem {
  Shape x;
  Window window;
};

const std::vector<PoolProblem>& pool_problems() {
  static const std::vector<PoolProblem> all{
      {{1, 1, 1, 1}, {3, 3, 2, Padding::all(1)}},
      {{2, 7, 7, 24}, {3, 3, 2, Padding::all(1)}},
      {{1, 8, 10, 24}, {3, 3, 2, {0, 1, 0, 1}}},
      {{3, 5, 9, 7}, {3, 3, 1, Padding::all(1)}},
      {{1, 9, 6, 29}, {3, 3, 2, {}}},
      {{2, 4, 6, 3}, {2, 2, 2, {}}},
      {{1, 11, 13, 58}, {3, 3, 2, Padding::all(1)}},
  };
  return all;
}

Shape pooled(const PoolProblem& problem) {
  return {problem.x.n, problem.window.out_h(problem.x.h), problem.window.out_w(problem.x.w), problem.x.c};
}

void check_max_pool(Backend& backend, const PoolProblem& problem, const std::vector<float>& values, Layout layout) {
  Case test(backend);
  const Argument x = test.input(problem.x, layout, values);
  const Argument y = test.output(pooled(problem), layout), winner = test.integer_output<uint8_t>(pooled(problem));
  test.run([&](Backend& b, Side side) { b.max_pool(x[side], problem.window, y[side], winner[side]); }, false);
  test.expect_equal(y);
  test.expect_equal_integers<uint8_t>(winner);
}

TEST_P(PoolingParity, MaxPool) {
  for (const PoolProblem& problem : pool_problems())
    for (Layout layout : {kPacked, kSlice}) {
      SCOPED_TRACE(problem.x);
      Case ties(backend(), Values::kIntegers), normals(backend(), Values::kNormals);
      check_max_pool(backend(), problem, ties.draw(problem.x), layout);
      std::vector<float> values = normals.draw(problem.x);
      check_max_pool(backend(), problem, values, layout);
      for (float& value : values) value = -1 - std::abs(value);  // padding counts as nothing, not as 0
      check_max_pool(backend(), problem, values, layout);
      for (size_t i = 0; i < values.size(); i += 5) values[i] = kNan;
      for (size_t i = 1; i < values.size(); i += 3) values[i] = -kInfinity;
      check_max_pool(backend(), problem, values, layout);
      check_max_pool(backend(), problem, std::vector<float>(values.size(), -kInfinity), layout);
    }
}

TEST_P(PoolingParity, MaxPoolBackward) {
  for (const PoolProblem& problem : pool_problems())
    for (Layout layout : {kPacked, kSlice})
      for (Values values : {Values::kIntegers, Values::kNormals}) {
        SCOPED_TRACE(problem.x);
        Case test(backend(), values);
        const Tensor x = test.reference().empty(problem.x), y = test.reference().empty(pooled(problem));
        const Tensor taps = test.reference().empty(pooled(problem), DType::kU8);
        test.reference().upload(test.draw(problem.x).data(), DType::kF32, x);
        test.reference().max_pool(x, problem.window, y, taps);
        std::vector<uint8_t> winners(static_cast<size_t>(taps.elements()));
        test.reference().download(taps, DType::kU8, winners.data());

        const Argument dy = test.input(pooled(problem), layout);
        const Argument winner = test.integer_input(pooled(problem), winners);
        const Argument dx = test.output(problem.x, layout);
        test.run([&](Backend& b, Side side) { b.max_pool_backward(dy[side], winner[side], problem.window, dx[side]); });
        test.expect_sum(dx, problem.window.kernel_h * problem.window.kernel_w);
      }
}

TEST_P(PoolingParity, GlobalAveragePool) {
  for (const Shape& shape : shapes())
    for (Layout layout : {kPacked, kSlice}) {
      SCOPED_TRACE(shape);
      Case test(backend());
      const Argument x = test.input(shape, layout), y = test.output({shape.n, 1, 1, shape.c}, layout);
      test.run([&](Backend& b, Side side) { b.global_average_pool(x[side], y[side]); });
      test.expect_sum(y, shape.h * shape.w);
    }
}

TEST_P(PoolingParity, GlobalAveragePoolBackward) {
  for (const Shape& shape : shapes())
    for (Layout layout : {kPacked, kSlice}) {
      SCOPED_TRACE(shape);
      Case test(backend());
      const Argument dy = test.input({shape.n, 1, 1, shape.c}, layout), dx = test.output(shape, layout);
      test.run([&](Backend& b, Side side) { b.global_average_pool_backward(dy[side], dx[side]); });
      test.expect_sum(dx, 1);
    }
}

}  // namespace
}  // namespace riffle
