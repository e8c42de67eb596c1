// Parity of depthwise convolutions and their gradients, on packed tensors and on channel slices.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class DepthwiseParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(DepthwiseParity);

struct Problem {
  Shape x;
  Window window;
  Layout x_layout, y_layout;

  Shape filter() const { return {1, window.kernel_h, window.kernel_w, x.c}; }
  Shape y() const { return {x.n, window.out_h(x.h), window.out_w(x.w), x.c}; }
};

const Padding kSame{0, 1, 0, 1};
const Window kStride1{3, 3, 1, Padding::all(1)}, kStride2{3, 3, 2, Padding::all(1)};
const Window kStride1Same{3, 3, 1, kSame}, kStride2Same{3, 3, 2, kSame};
const Window kStride1Valid{3, 3, 1, {}}, kStride2Valid{3, 3, 2, {}};

const std::vector<Problem>& problems() {
  static const std::vector<Problem> all{
      {{1, 1, 1, 1}, kStride1, kPacked, kPacked},
      {{1, 1, 2, 3}, kStride2, kPacked, kSlice},
      {{2, 2, 1, 7}, kStride1, kSlice, kPacked},
      {{1, 3, 3, 24}, kStride1Valid, kPacked, kPacked},
      {{3, 7, 7, 58}, kStride1, kPacked, kPacked},
      {{2, 7, 7, 58}, kStride1, kSlice, kSlice},
      {{2, 9, 11, 29}, kStride2, kSlice, kFirstPart},
      {{1, 14, 14, 116}, kStride2, kLastPart, kSlice},
      {{1, 8, 12, 24}, kStride2Same, kPacked, kSlice},
      {{2, 6, 5, 16}, kStride1Same, kFirstPart, kPacked},
      {{1, 9, 8, 33}, kStride2Valid, kSlice, kLastPart},
      {{1, 7, 7, 232}, kStride1, kFirstPart, kPacked},
      {{3, 4, 6, 232}, kStride2, kPacked, kPacked},
      {{1, 17, 4, 8}, kStride1, kPacked, kPacked},
      {{2, 9, 7, 29}, {5, 5, 2, Padding::all(2)}, kSlice, kSlice},
      {{1, 6, 6, 7}, {1, 1, 1, {}}, kPacked, kSlice},
      {{1, 7, 9, 24}, {3, 5, 1, {2, 0, 1, 4}}, kPacked, kPacked},
  };
  return all;
}

template <class Body>
void for_each_problem(const Body& body) {
  for (const Problem& problem : problems())
    for (Values values : {Values::kIntegers, Values::kNormals}) {
      const Padding& pad = problem.window.padding;
      SCOPED_TRACE(join("x ", problem.x, ", w ", problem.filter(), ", stride ", problem.window.stride, ", padding ",
                        pad.top, " ", pad.bottom, " ", pad.left, " ", pad.right, ", x pitch +",
                        problem.x_layout.left + problem.x_layout.right, ", y pitch +",
                        problem.y_layout.left + problem.y_layout.right));
      body(problem, values);
    }
}

TEST_P(DepthwiseParity, Forward) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (bool with_bias : {false, true})
      for (bool relu : {false, true}) {
        Case test(backend(), values);
        const Argument x = test.input(problem.x, problem.x_layout), w = test.input(problem.filter());
        const Argument bias = with_bias ? test.bias(problem.x.c) : Argument();
        const Argument y = test.output(problem.y(), problem.y_layout);
        test.run([&](Backend& b, Side side) {
          b.depthwise(x[side], w[side], problem.window, {bias[side], relu}, y[side]);
        });
        test.expect_sum(y, problem.window.kernel_h * problem.window.kernel_w + 1);
      }
  });
}

TEST_P(DepthwiseParity, BackwardData) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument dy = test.input(problem.y(), problem.y_layout), w = test.input(problem.filter());
      const Argument dx = test.output(problem.x, problem.x_layout, write);
      test.run([&](Backend& b, Side side) {
        b.depthwise_backward_data(dy[side], w[side], problem.window, write, dx[side]);
      });
      test.expect_sum(dx, problem.window.kernel_h * problem.window.kernel_w + 1);
    }
  });
}

TEST_P(DepthwiseParity, BackwardWeights) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument x = test.input(problem.x, problem.x_layout), dy = test.input(problem.y(), problem.y_layout);
      const Argument dw = test.parameter_output(problem.filter(), write);
      test.run([&](Backend& b, Side side) {
        b.depthwise_backward_weights(x[side], dy[side], problem.window, write, dw[side]);
      });
      test.expect_sum(dw, problem.y().pixels() + 1);
    }
  });
}

}  // namespace
}  // namespace riffle
