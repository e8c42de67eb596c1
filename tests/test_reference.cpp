// The oracle against numbers worked out by hand, and its checks of aliasing and unwritten memory.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "tests/reference/ref_backend.h"
#include "tests/reference/views.h"
#include "tests/step_scalars.h"
#include "tests/tensor_values.h"

namespace riffle {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class Reference : public ::testing::Test {
 protected:
  Tensor tensor(Shape shape, const std::vector<double>& values) {
    EXPECT_EQ(shape.elements(), static_cast<int64_t>(values.size()));
    Tensor result = backend->empty(shape);
    backend->upload(values.data(), DType::kF64, result);
    return result;
  }
  Tensor vector(const std::vector<double>& values) {
    return tensor(vector_shape(static_cast<int64_t>(values.size())), values);
  }
  Tensor integers(const std::vector<int32_t>& values) {
    Tensor result = backend->empty({static_cast<int64_t>(values.size()), 1, 1, 1}, DType::kI32);
    backend->upload(values.data(), DType::kI32, result);
    return result;
  }
  std::vector<double> host(const Tensor& x) { return riffle::host(*backend, x); }
  void expect(const Tensor& x, const std::vector<double>& wanted) {
    const std::vector<double> got = host(x);
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-14 * (1 + std::abs(wanted[i]))) << i;
  }

  std::unique_ptr<Backend> backend = make_reference_backend();
};

using Doubles = std::vector<double>;

TEST_F(Reference, NewMemoryIsPoisoned) {
  const Tensor x = backend->empty({2, 3, 1, 4});
  for (double value : host(x)) EXPECT_TRUE(std::isnan(value));
  const Tensor bytes = backend->empty({1, 1, 1, 3}, DType::kU8), labels = backend->empty({1, 1, 1, 1}, DType::kI32);
  EXPECT_EQ(bytes.data<uint8_t>()[2], 0xCD);
  EXPECT_EQ(labels.data<int32_t>()[0], static_cast<int32_t>(0xCDCDCDCD));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.raw()) % 64, 0u);
}

TEST_F(Reference, CountsItsMemory) {
  const int64_t before = backend->memory().bytes_in_use;
  {
    const Tensor x = backend->empty({1, 1, 1, 10});
    EXPECT_EQ(backend->memory().bytes_in_use, before + 80);
  }
  EXPECT_EQ(backend->memory().bytes_in_use, before);
  EXPECT_GE(backend->memory().peak_bytes, before + 80);
}

// x = 1 2 3 / 4 5 6 / 7 8 9, w = 1 2 / 3 4: not symmetric, so that convolution and correlation differ.
TEST_F(Reference, Conv2dIsCrossCorrelation) {
  const Tensor x = tensor({1, 3, 3, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9}), w = tensor({1, 2, 2, 1}, {1, 2, 3, 4});
  const Tensor y = backend->empty({1, 2, 2, 1});
  backend->conv2d(x, w, {2, 2, 1, {}}, 1, {}, y);
  expect(y, {37, 47, 67, 77});
  backend->conv2d(x, w, {2, 2, 1, {}}, 1, {vector({-50}), true}, y);
  expect(y, {0, 0, 17, 27});
}

TEST_F(Reference, Conv2dPadsEachSide) {
  const Tensor x = tensor({1, 2, 2, 1}, {1, 2, 3, 4}), w = tensor({1, 2, 2, 1}, {1, 10, 100, 1000});
  const Tensor y = backend->empty({1, 2, 2, 1});
  backend->conv2d(x, w, {2, 2, 1, {1, 0, 1, 0}}, 1, {}, y);
  expect(y, {1000, 2100, 3010, 4321});
  backend->conv2d(x, w, {2, 2, 1, {0, 1, 0, 1}}, 1, {}, y);
  expect(y, {4321, 402, 43, 4});
}

// Channels 0, 1 feed output 0; channels 2, 3 feed output 1.
TEST_F(Reference, Conv2dGroups) {
  const Tensor x = tensor({1, 1, 1, 4}, {1, 2, 3, 4}), w = tensor({2, 1, 1, 2}, {1, 10, 100, 1000});
  const Tensor y = backend->empty({1, 1, 1, 2});
  backend->conv2d(x, w, {1, 1, 1, {}}, 2, {}, y);
  expect(y, {21, 4300});
  const Tensor dx = backend->empty({1, 1, 1, 4}), dw = tensor({2, 1, 1, 2}, {1, 1, 1, 1});
  backend->conv2d_backward_data(tensor({1, 1, 1, 2}, {1, 2}), w, {1, 1, 1, {}}, 2, Write::kOverwrite, dx);
  expect(dx, {1, 10, 200, 2000});
  backend->conv2d_backward_weights(x, tensor({1, 1, 1, 2}, {1, 2}), {1, 1, 1, {}}, 2, Write::kAccumulate, dw);
  expect(dw, {2, 3, 7, 9});
}

TEST_F(Reference, Depthwise) {
  const Tensor x = tensor({1, 1, 3, 2}, {1, 10, 2, 20, 3, 30}), w = tensor({1, 1, 3, 2}, {1, 2, 0, 1, -1, 0});
  const Window window{1, 3, 2, {0, 0, 1, 1}};
  const Tensor y = backend->empty({1, 1, 2, 2});
  backend->depthwise(x, w, window, {}, y);
  expect(y, {-2, 10, 2, 70});
  const Tensor dx = backend->empty(x.shape()), dw = backend->empty(w.shape());
  const Tensor dy = tensor(y.shape(), {1, 1, 2, 3});
  backend->depthwise_backward_data(dy, w, window, Write::kOverwrite, dx);
  expect(dx, {0, 1, 1, 6, 0, 3});
  backend->depthwise_backward_weights(x, dy, window, Write::kOverwrite, dw);
  expect(dw, {4, 60, 7, 100, 2, 20});
}

TEST_F(Reference, Pointwise) {
  const Tensor x = tensor({1, 1, 2, 2}, {1, 2, 3, 4}), w = tensor({3, 1, 1, 2}, {1, 0, 0, 1, 1, -1});
  const Tensor y = backend->empty({1, 1, 2, 3}), dx = backend->empty(x.shape()), dw = backend->empty(w.shape());
  backend->pointwise(x, w, {vector({0, 1, 0}), true}, y);
  expect(y, {1, 3, 0, 3, 5, 0});
  const Tensor dy = tensor(y.shape(), {1, 2, 3, 4, 5, 6}), sums = vector({1, 1, 1});
  backend->pointwise_backward_data(dy, w, Write::kOverwrite, dx);
  expect(dx, {4, -1, 10, -1});
  backend->pointwise_backward_weights(x, dy, Write::kOverwrite, dw);
  expect(dw, {13, 18, 17, 24, 21, 30});
  backend->channel_sums(dy, Write::kAccumulate, sums);
  expect(sums, {6, 8, 10});
}

TEST_F(Reference, BatchNorm) {
  const Tensor x = tensor({2, 1, 2, 1}, {1, 2, 3, 6}), mean = vector({kNan}), var = vector({kNan});
  backend->batch_norm_statistics(x, mean, var);
  expect(mean, {3});
  expect(var, {3.5});
  const Tensor running_mean = vector({1}), running_var = vector({2});
  backend->batch_norm_update_running(mean, var, 4, 0.25, running_mean, running_var);
  expect(running_mean, {1.5});
  expect(running_var, {1.5 + 0.25 * 3.5 * 4 / 3});
  backend->batch_norm_update_running(mean, var, 1, 1, running_mean, running_var);
  expect(running_var, {3.5});

  const Tensor y = backend->empty(x.shape());
  backend->batch_norm_apply(x, mean, var, vector({3}), vector({1}), 0.5, true, y);  // (x - 3) / 2 * 3 + 1
  expect(y, {0, 0, 1, 5.5});
  // g = 0 0 3 4, xh = -1 -1/2 0 3/2: dbeta 7, dgamma 6, dx = 3/2 * (g - 7/4 - xh * 6/4).
  const Tensor dx = backend->empty(x.shape()), dgamma = vector({kNan}), dbeta = vector({kNan});
  const Tensor dy = tensor(x.shape(), {1, 2, 3, 4});
  backend->batch_norm_backward(x, dy, mean, var, vector({3}), vector({1}), 0.5, true, Write::kOverwrite, dx, dgamma,
                               dbeta);
  expect(dgamma, {6});
  expect(dbeta, {7});
  expect(dx, {-0.375, -1.5, 1.875, 0});
  backend->batch_norm_backward_frozen(x, dy, mean, var, vector({3}), vector({1}), 0.5, true, Write::kAccumulate, dx,
                                      dgamma, dbeta);
  expect(dgamma, {12});
  expect(dx, {0, 0, 4.5, 6});
}

// Two parts are one tensor of two channels.
TEST_F(Reference, BatchNormOfParts) {
  const Tensor x = tensor({1, 1, 2, 2}, {1, 10, 3, 30}), whole = backend->empty({1, 1, 2, 3});
  const ChannelParts y({whole.channel_slice(2, 1), whole.channel_slice(0, 1)});
  const Tensor mean = vector({2, 20}), var = vector({0.5, 99.5}), gamma = vector({2, 1}), beta = vector({0, 5});
  backend->batch_norm_apply(x, mean, var, gamma, beta, 0.5, false, y);
  expect(whole.channel_slice(2, 1), {-2, 2});
  expect(whole.channel_slice(0, 1), {4, 6});
  // Channel 0: g = 1 3, xh = -1 1, dbeta 4, dgamma 2; channel 1: g = 5 5, xh = -1 1, dbeta 10, dgamma 0.
  const ChannelParts dy({tensor({1, 1, 2, 1}, {1, 3}), tensor({1, 1, 2, 1}, {5, 5})});
  const Tensor dx = backend->empty(x.shape()), dgamma = vector({0, 0}), dbeta = vector({0, 0});
  backend->batch_norm_backward_frozen(x, dy, mean, var, gamma, beta, 0.5, false, Write::kOverwrite, dx, dgamma, dbeta);
  expect(dgamma, {2, 0});
  expect(dbeta, {4, 10});
  expect(dx, {2, 0.5, 6, 0.5});
  EXPECT_THROW(ChannelParts({x, whole.sample_slice(0, 1).reshaped({1, 2, 1, 3})}), Error);
}

// scale = 3/2 and 1/4, inv_std = 1/2 and 1/4.
TEST_F(Reference, FoldNorm) {
  const Tensor w = tensor({2, 1, 1, 2}, {1, 2, 3, 4}), scaled = backend->empty(w.shape()), shift = vector({0, 0});
  const BatchNormState norm{vector({2, 4}), vector({3.5, 15.5}), vector({3, 1}), vector({1, 0}), 0.5, false};
  backend->fold_norm(w, norm, scaled, shift);
  expect(scaled, {1.5, 0.5, 4.5, 1});
  expect(shift, {1 * (1 - 3) + 2 * -1.0, 3 * (1 - 3) + 4 * -1.0});
  const Tensor dw = tensor(w.shape(), {1, 1, 1, 1}), dgamma = vector({10, 10}), dbeta = vector({7, 7});
  const Tensor from_x = vector({0, 0});
  backend->fold_norm_backward(w, tensor(w.shape(), {1, 0, 2, 1}), norm, 8, Write::kAccumulate, dw, dgamma, dbeta,
                              from_x);
  expect(dw, {2.5, 1, 4, 1.25});
  expect(dgamma, {10 + 0.5 * 7, 10 + 0.25 * 4});
  expect(dbeta, {7, 7});
  expect(from_x, {-1.5 * 0.5 * 3.5 / 8, -0.25 * 0.25 * 1 / 8});
}

// One row of three pixels, of which the window sees left, centre and right with weights 1, 10 and 100.
TEST_F(Reference, NormDepthwise) {
  const Tensor x = tensor({1, 1, 3, 1}, {1, 3, 2}), w = tensor({1, 3, 3, 1}, {0, 0, 0, 1, 10, 100, 0, 0, 0});
  const BatchNormState before{vector({1.5}), vector({0}), vector({2}), vector({0}), 1, true};  // z = 0 3 1
  const Window window{3, 3, 1, Padding::all(1)};
  const Tensor y = backend->empty(x.shape()), mean = vector({0}), var = vector({0});
  backend->norm_depthwise(x, before, w, window, mean, var, y);
  expect(y, {300, 130, 13});
  expect(mean, {443.0 / 3});
  // The whole gradient: 1 0 -2 + 0.5 * (y - 100 = 200 30 -87) = 101 15 -45.5.
  const Tensor dx = backend->empty(x.shape()), dw = backend->empty(w.shape()), sums = backend->empty({1, 1, 2, 1});
  const Tensor dy = tensor(x.shape(), {1, 0, -2});
  backend->norm_depthwise_backward(x, before, w, window, y, vector({100}), vector({0.5}), dy, Write::kOverwrite, dx,
                                   Write::kOverwrite, dw, sums);
  const double first = 10 * 101 + 1 * 15, second = 100 * 101 + 10 * 15 + 1 * -45.5, third = 100 * 15 + 10 * -45.5;
  expect(dx, {first, second, third});
  expect(dw, {0, 0, 0, 3 * -45.5, 3 * 15 - 45.5, 3 * 101 + 15, 0, 0, 0});
  expect(sums, {second + third, second * 1.5 + third * 0.5});
  const Tensor started = tensor(x.shape(), {1, 1, 1});
  backend->norm_depthwise_backward(x, {}, w, window, y, vector({100}), vector({0.5}), dy, Write::kAccumulate, started,
                                   Write::kOverwrite, dw, Tensor{});
  expect(started, {first + 1, second + 1, third + 1});
}

TEST_F(Reference, MaxPoolWinners) {
  const Tensor x = tensor({1, 2, 3, 1}, {-5, -1, -1, -2, -1, kNan}), y = backend->empty({1, 1, 2, 1});
  const Tensor winner = backend->empty({1, 1, 2, 1}, DType::kU8);
  const Window window{3, 3, 2, {1, 1, 1, 1}};
  backend->max_pool(x, window, y, winner);
  EXPECT_EQ(host(y)[0], -1);
  EXPECT_TRUE(std::isnan(host(y)[1]));
  EXPECT_EQ(winner.data<uint8_t>()[0], 5);  // row 1, column 2 of the window: the first of two
  EXPECT_EQ(winner.data<uint8_t>()[1], 7);
  const Tensor dx = backend->empty(x.shape());
  backend->max_pool_backward(tensor(y.shape(), {2, 3}), winner, window, dx);
  expect(dx, {0, 2, 0, 0, 0, 3});
}

TEST_F(Reference, AveragePoolAndRelu) {
  const Tensor x = tensor({2, 1, 2, 2}, {1, -2, 3, -4, 5, 6, 7, 8}), y = backend->empty({2, 1, 1, 2});
  backend->global_average_pool(x, y);
  expect(y, {2, -3, 6, 7});
  const Tensor dx = backend->empty(x.shape());
  backend->global_average_pool_backward(tensor(y.shape(), {2, 4, 6, 8}), dx);
  expect(dx, {1, 2, 1, 2, 3, 4, 3, 4});
  backend->relu(x, x);
  expect(x, {1, 0, 3, 0, 5, 6, 7, 8});
  backend->relu_backward(x, dx, dx);
  expect(dx, {1, 0, 1, 0, 3, 4, 3, 4});
}

TEST_F(Reference, Permutations) {
  const Tensor x = tensor({1, 1, 1, 6}, {0, 1, 2, 3, 4, 5}), y = backend->empty(x.shape());
  backend->channel_shuffle(x, 2, y);
  expect(y, {0, 3, 1, 4, 2, 5});
  backend->channel_shuffle(x, 3, y);
  expect(y, {0, 2, 4, 1, 3, 5});
  backend->interleave(x.channel_slice(0, 3), x.channel_slice(3, 3), y);
  expect(y, {0, 3, 1, 4, 2, 5});
  backend->deinterleave(x, y.channel_slice(0, 3), y.channel_slice(3, 3));
  expect(y, {0, 2, 4, 1, 3, 5});
}

TEST_F(Reference, NormalizeReversesChannels) {
  const uint8_t bytes[] = {10, 20, 30};
  const Tensor images = backend->empty({1, 1, 1, 3}, DType::kU8), y = backend->empty({1, 1, 1, 3});
  backend->upload(bytes, DType::kU8, images);
  backend->normalize(images, Tensor{}, {0.5, {1, 2, 3}, {1, 2, 4}, true}, y);
  expect(y, {14, 4, 0.5});
}

TEST_F(Reference, NormalizeMirrorsImages) {
  const uint8_t bytes[] = {10, 20, 30, 40, 50, 60}, second[] = {0, 1};
  const Tensor images = backend->empty({2, 1, 3, 1}, DType::kU8), y = backend->empty({2, 1, 3, 1});
  const Tensor flips = backend->empty({2, 1, 1, 1}, DType::kU8);
  backend->upload(bytes, DType::kU8, images);
  backend->upload(second, DType::kU8, flips);
  backend->normalize(images, flips, {1, {0}, {1}, false}, y);
  expect(y, {10, 20, 30, 60, 50, 40});
}

TEST_F(Reference, SoftmaxCrossEntropy) {
  const double log3 = std::log(3);  // probabilities 1/4 and 3/4
  const Tensor logits = tensor({2, 1, 1, 2}, {0, log3, 1000, 1000 + log3}), labels = integers({0, 1});
  const Tensor loss = backend->empty({2, 1, 1, 1}), dlogits = backend->empty(logits.shape());
  backend->softmax_cross_entropy(logits, labels, 0, 1, Tensor{}, loss, Tensor{});
  for (size_t n : {0, 1}) EXPECT_NEAR(host(loss)[n], n == 0 ? std::log(4) : std::log(4.0 / 3), 1e-12);
  backend->softmax_cross_entropy(logits, labels, 0.2, 0.5, Tensor{}, loss, dlogits);
  EXPECT_NEAR(host(loss)[0], 0.9 * std::log(4) + 0.1 * std::log(4.0 / 3), 1e-12);
  const Doubles wanted{(0.25 - 0.9) / 2, (0.75 - 0.1) / 2, (0.25 - 0.1) / 2, (0.75 - 0.9) / 2};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(host(dlogits)[i], wanted[i], 1e-12);
  HostStepScalars scalars;
  scalars.loss_scale = 8;
  backend->softmax_cross_entropy(logits, labels, 0.2, 0.5, step_scalars(*backend, scalars), loss, dlogits);
  EXPECT_NEAR(host(loss)[0], 0.9 * std::log(4) + 0.1 * std::log(4.0 / 3), 1e-12);  // the loss itself is not scaled
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(host(dlogits)[i], 8 * wanted[i], 1e-12);
  EXPECT_THROW(backend->softmax_cross_entropy(logits, integers({0, 2}), 0, 1, Tensor{}, loss, Tensor{}), Error);
}

TEST_F(Reference, SoftCrossEntropy) {
  const double log3 = std::log(3);  // probabilities 1/4 and 3/4
  const Tensor logits = tensor({3, 1, 1, 2}, {0, log3, 0, log3, 1000, 1000 + log3});
  const Tensor targets = tensor(logits.shape(), {0.9, 0.1, 0, 0, 0.5, 1});
  const Tensor loss = backend->empty({3, 1, 1, 1}), dlogits = backend->empty(logits.shape());
  backend->soft_cross_entropy(logits, targets, 0.5, Tensor{}, loss, dlogits);
  const double rare = std::log(4), frequent = std::log(4.0 / 3);
  const Doubles losses{0.9 * rare + 0.1 * frequent, 0, 0.5 * rare + frequent};
  for (size_t n = 0; n < 3; ++n) EXPECT_NEAR(host(loss)[n], losses[n], 1e-12);
  const Doubles wanted{(0.25 - 0.9) / 2, (0.75 - 0.1) / 2, 0, 0, (1.5 * 0.25 - 0.5) / 2, (1.5 * 0.75 - 1) / 2};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(host(dlogits)[i], wanted[i], 1e-12);
  HostStepScalars scalars;
  scalars.loss_scale = 8;
  backend->soft_cross_entropy(logits, targets, 0.5, step_scalars(*backend, scalars), loss, dlogits);
  for (size_t n = 0; n < 3; ++n) EXPECT_NEAR(host(loss)[n], losses[n], 1e-12);
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(host(dlogits)[i], 8 * wanted[i], 1e-12);
}

// Two steps of v = mu*v + g, w -= lr*v with decay 0.1, and of Nesterov's form.
TEST_F(Reference, SgdStep) {
  for (bool nesterov : {false, true}) {
    const Tensor w = vector({1}), g = vector({2}), v = vector({0});
    const SgdRule rule{0.9, nesterov};
    HostStepScalars scalars;
    scalars.lr = scalars.grad_scale = 0.5;
    double weight = 1, velocity = 0;
    for (int i = 0; i < 2; ++i) {
      backend->sgd_step({{w, g, v, 0.1, 2}}, rule, step_scalars(*backend, scalars));
      const double gradient = 2 * 0.5 + 0.1 * weight;
      velocity = 0.9 * velocity + gradient;
      weight -= 0.5 * 2 * (nesterov ? gradient + 0.9 * velocity : velocity);
      expect(w, {weight});
      expect(v, {velocity});
    }
  }
}

TEST_F(Reference, NormAndAverage) {
  EXPECT_EQ(squared_norm(*backend, {vector({3, 4}), vector({12})}), 169);
  const Tensor average = vector({1, 2});
  HostStepScalars scalars;
  scalars.ema_decay = 0.75;
  backend->ema_update({average}, {vector({3, 6})}, step_scalars(*backend, scalars));
  expect(average, {1.5, 3});
}

// The gradients carry the loss scale 4; their norm, 13 without it, is clipped to 6.5.
TEST_F(Reference, ScaleGradients) {
  HostStepScalars host_scalars;
  host_scalars.loss_scale = 4;
  const Tensor scalars = step_scalars(*backend, host_scalars), norm = vector({52 * 52});
  backend->scale_gradients(norm, 6.5, true, scalars);
  EXPECT_EQ(host(scalars)[kGradScale], 0.5 / 4);
  EXPECT_EQ(host(scalars)[kApply], 1);
  backend->scale_gradients(norm, 0, true, scalars);
  EXPECT_EQ(host(scalars)[kGradScale], 1.0 / 4);
  const Tensor infinite = vector({std::numeric_limits<double>::infinity()});
  backend->scale_gradients(infinite, 0, true, scalars);
  EXPECT_EQ(host(scalars)[kApply], 0);
  backend->scale_gradients(infinite, 0, false, scalars);
  EXPECT_EQ(host(scalars)[kApply], 1);

  const Tensor w = vector({1}), g = vector({2}), v = vector({3}), average = vector({4});
  host_scalars = {1, 0.5, 1, 1, /*apply=*/0};
  const Tensor skipped = step_scalars(*backend, host_scalars);
  backend->sgd_step({{w, g, v}}, {}, skipped);
  backend->ema_update({average}, {w}, skipped);
  expect(w, {1});
  expect(v, {3});
  expect(average, {4});
}

TEST_F(Reference, SeesOverlaps) {
  const Tensor buffer = backend->empty({4, 1, 2, 10});
  const Tensor left = buffer.channel_slice(0, 5), right = buffer.channel_slice(5, 5);
  EXPECT_TRUE(reference::overlap(buffer, left));
  EXPECT_FALSE(reference::overlap(left, right));
  EXPECT_FALSE(reference::overlap(right, left));
  EXPECT_TRUE(reference::overlap(left, buffer.channel_slice(4, 2)));
  EXPECT_TRUE(reference::overlap(buffer.channel_slice(4, 2), right));
  EXPECT_FALSE(reference::overlap(buffer.sample_slice(0, 2), buffer.sample_slice(2, 2)));
  EXPECT_TRUE(reference::overlap(buffer.sample_slice(0, 3), buffer.sample_slice(2, 2)));
  EXPECT_FALSE(reference::overlap(left.sample_slice(0, 3), right.sample_slice(2, 2)));
  EXPECT_FALSE(reference::overlap(buffer, backend->empty({4, 1, 2, 10})));
}

TEST_F(Reference, RejectsAliasingThatTheContractForbids) {
  const Tensor x = tensor({1, 1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}), w = tensor({4, 1, 1, 4}, Doubles(16, 1));
  const Tensor middle = x.channel_slice(1, 2), other = x.channel_slice(2, 2), ones = vector({1, 1});
  EXPECT_THROW(backend->channel_shuffle(x, 2, x), Error);
  EXPECT_THROW(backend->pointwise(x, w, {}, x), Error);
  EXPECT_THROW(backend->copy(middle, Write::kAccumulate, other), Error);
  EXPECT_THROW(backend->relu(middle, other), Error);
  EXPECT_NO_THROW(backend->relu(middle, middle));
  EXPECT_THROW(backend->batch_norm_apply(middle, vector({0, 0}), ones, ones, ones, 1e-5, false, other), Error);
  EXPECT_NO_THROW(backend->batch_norm_apply(middle, vector({0, 0}), ones, ones, ones, 1e-5, false, middle));
  EXPECT_NO_THROW(backend->copy(x.channel_slice(0, 2), Write::kAccumulate, other));
}

TEST_F(Reference, RejectsWindowsThatDoNotFit) {
  const Tensor x = backend->empty({1, 4, 4, 1}), w = backend->empty({1, 3, 3, 1});
  EXPECT_THROW(backend->depthwise(x, w, {3, 3, 1, Padding::all(3)}, {}, backend->empty({1, 8, 8, 1})), Error);
  EXPECT_THROW(backend->depthwise(x, w, {3, 3, 0, Padding::all(1)}, {}, backend->empty({1, 4, 4, 1})), Error);
  EXPECT_THROW(backend->depthwise(x, w, {3, 3, 1, {-1, 0, 0, 0}}, {}, backend->empty({1, 1, 2, 1})), Error);
}

}  // namespace
}  // namespace riffle
