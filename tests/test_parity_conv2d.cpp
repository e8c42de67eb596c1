// Parity of dense and grouped convolutions and their gradients. Libraries have convolutions that write 16 bits and nothing
// else, so there what is added to a convolution, and the weights' gradient, may find its sums rounded.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class Conv2dParity : public ParityTest {};
RIFFLE_INSTANTIATE_PRODUCT_PARITY(Conv2dParity);

struct Problem {
  Shape x;
  int64_t outputs, groups;
  Window window;

  Shape filter() const { return {outputs, window.kernel_h, window.kernel_w, x.c / groups}; }
  Shape y() const { return {x.n, window.out_h(x.h), window.out_w(x.w), outputs}; }
};

// TensorFlow's SAME at even sizes: nothing before, one row and column after.
const Padding kSame{0, 1, 0, 1};

const std::vector<Problem>& problems() {
  static const std::vector<Problem> all{
      {{1, 1, 1, 1}, 1, 1, {1, 1, 1, {}}},
      {{2, 15, 13, 3}, 24, 1, {3, 3, 2, Padding::all(1)}},
      {{1, 16, 12, 3}, 24, 1, {3, 3, 2, kSame}},
      {{3, 9, 9, 1}, 24, 1, {3, 3, 1, Padding::all(1)}},
      {{2, 7, 5, 7}, 29, 1, {3, 3, 1, {}}},
      {{1, 7, 7, 58}, 24, 1, {1, 1, 1, {}}},
      {{2, 8, 9, 24}, 7, 1, {1, 1, 2, {}}},
      {{1, 11, 10, 3}, 29, 1, {5, 5, 2, Padding::all(2)}},
      {{1, 14, 17, 3}, 24, 1, {7, 7, 2, Padding::all(3)}},
      {{2, 6, 7, 24}, 58, 2, {3, 3, 1, Padding::all(1)}},
      {{1, 5, 5, 116}, 116, 4, {3, 3, 2, Padding::all(1)}},
      {{3, 7, 4, 6}, 3, 3, {3, 5, 1, {2, 0, 1, 3}}},
      {{1, 4, 4, 232}, 29, 29, {3, 3, 1, kSame}},
      {{40, 9, 7, 3}, 6, 1, {3, 3, 1, Padding::all(1)}},  // more pieces than partial sums
  };
  return all;
}

template <class Body>
void for_each_problem(const Body& body) {
  for (const Problem& problem : problems())
    for (Values values : {Values::kIntegers, Values::kNormals}) {
      const Padding& pad = problem.window.padding;
      SCOPED_TRACE(join("x ", problem.x, ", w ", problem.filter(), ", stride ", problem.window.stride, ", padding ",
                        pad.top, " ", pad.bottom, " ", pad.left, " ", pad.right, ", groups ", problem.groups));
      body(problem, values);
    }
}

TEST_P(Conv2dParity, Forward) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (bool with_bias : {false, true})
      for (bool relu : {false, true}) {
        Case test(backend(), values);
        const Argument x = test.input(problem.x), w = test.input(problem.filter());
        const Argument bias = with_bias ? test.bias(problem.outputs) : Argument();
        const Argument y = test.output(problem.y());
        test.run([&](Backend& b, Side side) {
          b.conv2d(x[side], w[side], problem.window, problem.groups, {bias[side], relu}, y[side]);
        });
        const Tensor sums = test.reference().empty(problem.y());
        test.reference().conv2d(x[Side::kReference], w[Side::kReference], problem.window, problem.groups, {}, sums);
        test.expect_stored_sum(y, problem.filter().elements() / problem.outputs + 1, host(test.reference(), sums));
      }
  });
}

TEST_P(Conv2dParity, BackwardData) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument dy = test.input(problem.y()), w = test.input(problem.filter());
      const Argument dx = test.output(problem.x, kPacked, write);
      test.run([&](Backend& b, Side side) {
        b.conv2d_backward_data(dy[side], w[side], problem.window, problem.groups, write, dx[side]);
      });
      const int64_t terms = problem.window.kernel_h * problem.window.kernel_w * problem.outputs / problem.groups + 1;
      const Tensor sums = test.reference().empty(problem.x);
      test.reference().conv2d_backward_data(dy[Side::kReference], w[Side::kReference], problem.window, problem.groups,
                                            Write::kOverwrite, sums);
      test.expect_stored_sum(dx, terms, host(test.reference(), sums));
    }
  });
}

TEST_P(Conv2dParity, BackwardWeights) {
  for_each_problem([&](const Problem& problem, Values values) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend(), values);
      const Argument x = test.input(problem.x), dy = test.input(problem.y());
      const Argument dw = test.parameter_output(problem.filter(), write);
      test.run([&](Backend& b, Side side) {
        b.conv2d_backward_weights(x[side], dy[side], problem.window, problem.groups, write, dw[side]);
      });
      const Tensor sums = test.reference().empty(problem.filter());
      test.reference().conv2d_backward_weights(x[Side::kReference], dy[Side::kReference], problem.window,
                                               problem.groups, Write::kOverwrite, sums);
      test.expect_stored_sum(dw, problem.y().pixels() + 1, host(test.reference(), sums));
    }
  });
}

// The same shapes again with other data: a cached primitive must not remember the first call's tensors.
TEST_P(Conv2dParity, RepeatedCallsUseTheirOwnArguments) {
  const Problem problem{{2, 9, 7, 3}, 24, 1, {3, 3, 2, Padding::all(1)}};
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    Case test(backend(), Values::kIntegers, seed);
    const Argument x = test.input(problem.x), w = test.input(problem.filter()), bias = test.bias(problem.outputs);
    const Argument y = test.output(problem.y());
    const bool with_bias = seed != 2;
    test.run([&](Backend& b, Side side) {
      b.conv2d(x[side], w[side], problem.window, 1, {with_bias ? bias[side] : Tensor{}, seed == 3}, y[side]);
    });
    test.expect_equal(y);
  }
}

}  // namespace
}  // namespace riffle
