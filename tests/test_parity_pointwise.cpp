// Parity of 1x1 convolutions (matrix products on channel slices), their gradients and channel sums.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class PointwiseParity : public ParityTest {};
RIFFLE_INSTANTIATE_PRODUCT_PARITY(PointwiseParity);

struct Problem {
  Shape x;
  int64_t outputs;
  Layout x_layout, y_layout;
};

// Channel counts of the published networks and awkward ones; every mix of packed and sliced operands.
const std::vector<Problem>& problems() {
  static const std::vector<Problem> all{
      {{1, 1, 1, 1}, 1, kPacked, kPacked},    {{1, 1, 1, 1024}, 10, kPacked, kPacked},
      {{3, 1, 1, 192}, 7, kPacked, kPacked},  {{1, 5, 3, 3}, 7, kSlice, kPacked},
      {{2, 3, 5, 24}, 58, kPacked, kSlice},   {{3, 7, 7, 58}, 58, kSlice, kSlice},
      {{2, 7, 7, 29}, 1, kLastPart, kSlice},  {{1, 9, 11, 116}, 116, kFirstPart, kLastPart},
      {{2, 7, 7, 232}, 232, kSlice, kPacked}, {{1, 13, 17, 1}, 24, kPacked, kFirstPart},
      {{3, 2, 2, 464}, 29, kPacked, kPacked}, {{3, 29, 31, 58}, 70, kSlice, kPacked},  // sums of several parts
      {{2, 13, 11, 24}, 40, kSlice, kSlice},
  };
  return all;
}

template <class Body>
void for_each_problem(const Body& body) {
  for (const Problem& problem : problems())
    for (Values values : {Values::kIntegers, Values::kNormals}) {
      SCOPED_TRACE(join("x ", problem.x, ", outputs ", problem.outputs, ", x pitch +", problem.x_layout.left, "+",
                        problem.x_layout.right, ", y pitch +", problem.y_layout.left, "+", problem.y_layout.right));
      body(problem, values);
    }
}

TEST_P(PointwiseParity, Forward) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (bool with_bias : {false, true})
      for (bool relu : {false, true}) {
        Case test(backend(), values);
        const Argument x = test.input(problem.x, problem.x_layout);
        const Argument w = test.input({problem.outputs, 1, 1, problem.x.c});
        const Argument bias = with_bias ? test.bias(problem.outputs) : Argument();
        const Argument y = test.output(problem.x.with_channels(problem.outputs), problem.y_layout);
        test.run([&](Backend& b, Side side) { b.pointwise(x[side], w[side], {bias[side], relu}, y[side]); });
        test.expect_product_sum(y, problem.x.c + 1);
      }
  });
}

TEST_P(PointwiseParity, BackwardData) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument dy = test.input(problem.x.with_channels(problem.outputs), problem.y_layout);
      const Argument w = test.input({problem.outputs, 1, 1, problem.x.c});
      const Argument dx = test.output(problem.x, problem.x_layout, write);
      test.run([&](Backend& b, Side side) { b.pointwise_backward_data(dy[side], w[side], write, dx[side]); });
      test.expect_product_sum(dx, problem.outputs + 1);
    }
  });
}

TEST_P(PointwiseParity, BackwardWeights) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument x = test.input(problem.x, problem.x_layout);
      const Argument dy = test.input(problem.x.with_channels(problem.outputs), problem.y_layout);
      const Argument dw = test.parameter_output({problem.outputs, 1, 1, problem.x.c}, write);
      test.run([&](Backend& b, Side side) { b.pointwise_backward_weights(x[side], dy[side], write, dw[side]); });
      test.expect_product_sum(dw, problem.x.pixels() + 1);
    }
  });
}

// 8194, 8196 and 8648 pixels: numbers whose end a library may lose that splits sums over them into parts.
TEST_P(PointwiseParity, LongSums) {
  for (const Shape& shape : {Shape{2, 17, 241, 5}, Shape{3, 4, 683, 5}, Shape{8, 23, 47, 5}}) {
    SCOPED_TRACE(join("x ", shape));
    Case test(backend(), Values::kIntegers);
    const Argument x = test.input(shape, kSlice);
    const Argument dy = test.input(shape.with_channels(7), kSlice);
    const Argument dw = test.parameter_output({7, 1, 1, shape.c});
    test.run(
        [&](Backend& b, Side side) { b.pointwise_backward_weights(x[side], dy[side], Write::kOverwrite, dw[side]); });
    test.expect_sum(dw, shape.pixels() + 1);
  }
}

TEST_P(PointwiseParity, ChannelSums) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument x = test.input(problem.x, problem.x_layout);
      const Argument sums = test.parameter_output(vector_shape(problem.x.c), write);
      test.run([&](Backend& b, Side side) { b.channel_sums(x[side], write, sums[side]); });
      test.expect_sum(sums, problem.x.pixels() + 1);
    }
  });
}

// A NaN must stay visible, or training would go on with a broken network; ReLU is no exception.
TEST_P(PointwiseParity, NanInInputReachesOutput) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (bool relu : {false, true}) {
    Case test(backend());
    std::vector<float> values = test.draw({1, 2, 2, 24});
    values[24 + 5] = nan;
    const Argument x = test.input({1, 2, 2, 24}, kPacked, values);
    const Argument w = test.input({29, 1, 1, 24});
    const Argument y = test.output({1, 2, 2, 29});
    test.run([&](Backend& b, Side side) { b.pointwise(x[side], w[side], {Tensor{}, relu}, y[side]); });
    test.expect_product_sum(y, 24);
  }
}

}  // namespace
}  // namespace riffle
