// Wrong shapes and dtypes must throw, on every backend and on the reference alike.
#include "tests/mistakes.h"

namespace riffle {
namespace {

using namespace parity;

class OperationErrors : public BackendErrors {};

const std::vector<Mistake>& movement_mistakes() {
  static const std::vector<Mistake> all{
      {"copy to another shape", [](Backend& b, const Maker& t) { b.copy(t(kX), kOver, t(kY)); }},
      {"copy between dtypes", [](Backend& b, const Maker& t) { b.copy(t(kX), kOver, t.integers(kX)); }},
      {"upload of bytes into floats",
       [](Backend& b, const Maker& t) {
         const uint8_t byte = 1;
         b.upload(&byte, DType::kU8, t({1, 1, 1, 1}));
       }},
      {"download of integers as floats",
       [](Backend& b, const Maker& t) {
         float value = 0;
         b.download(t.integers({1, 1, 1, 1}), DType::kF32, &value);
       }},
      {"channel_shuffle onto its input",
       [](Backend& b, const Maker& t) {
         const Tensor x = t(kX);
         b.channel_shuffle(x, 2, x);
       }},
      {"interleave over one half",
       [](Backend& b, const Maker& t) {
         const Tensor y = t(kX);
         b.interleave(y.channel_slice(0, 4), t(kX.with_channels(4)), y);
       }},
      {"copy onto an overlapping slice",
       [](Backend& b, const Maker& t) {
         const Tensor x = t(kX);
         b.copy(x.channel_slice(0, 5), kOver, x.channel_slice(3, 5));
       }},
      {"normalize of floats",
       [](Backend& b, const Maker& t) {
         b.normalize(t({1, 2, 2, 3}), {}, {}, t({1, 2, 2, 3}));
       }},
      {"normalize with three means for one channel",
       [](Backend& b, const Maker& t) {
         b.normalize(t.integers({1, 2, 2, 1}, DType::kU8), {}, {}, t({1, 2, 2, 1}));
       }},
      {"normalize to another size",
       [](Backend& b, const Maker& t) {
         b.normalize(t.integers({1, 2, 2, 3}, DType::kU8), {}, {}, t({1, 2, 3, 3}));
       }},
      {"normalize with a flip too many",
       [](Backend& b, const Maker& t) {
         b.normalize(t.integers({1, 2, 2, 3}, DType::kU8), t.integers({2, 1, 1, 1}, DType::kU8), {}, t({1, 2, 2, 3}));
       }},
      {"normalize with flips of i32",
       [](Backend& b, const Maker& t) {
         b.normalize(t.integers({1, 2, 2, 3}, DType::kU8), t.integers({1, 1, 1, 1}), {}, t({1, 2, 2, 3}));
       }},
      {"normalize_mixed with a box beyond the image",
       [](Backend& b, const Maker& t) {
         b.normalize_mixed(t.integers({1, 2, 2, 3}, DType::kU8), {}, {0, 2, 1, 3, 0.5}, t({1, 2, 2, 3}));
       }},
      {"normalize_mixed with a share above 1",
       [](Backend& b, const Maker& t) {
         b.normalize_mixed(t.integers({1, 2, 2, 3}, DType::kU8), {}, {0, 2, 0, 2, 1.5}, t({1, 2, 2, 3}));
       }},
      {"shuffle in 3 groups of 8 channels", [](Backend& b, const Maker& t) { b.channel_shuffle(t(kX), 3, t(kX)); }},
      {"shuffle in 0 groups", [](Backend& b, const Maker& t) { b.channel_shuffle(t(kX), 0, t(kX)); }},
      {"shuffle to another shape", [](Backend& b, const Maker& t) { b.channel_shuffle(t(kX), 2, t(kY)); }},
      {"interleave of unequal halves",
       [](Backend& b, const Maker& t) {
         b.interleave(t({1, 2, 2, 3}), t({1, 2, 2, 5}), t({1, 2, 2, 8}));
       }},
      {"interleave into too few channels",
       [](Backend& b, const Maker& t) {
         b.interleave(t({1, 2, 2, 4}), t({1, 2, 2, 4}), t({1, 2, 2, 7}));
       }},
      {"deinterleave of an odd number of channels",
       [](Backend& b, const Maker& t) {
         b.deinterleave(t({1, 2, 2, 7}), t({1, 2, 2, 3}), t({1, 2, 2, 3}));
       }},
      {"deinterleave of other pixels",
       [](Backend& b, const Maker& t) {
         b.deinterleave(t({1, 2, 2, 8}), t({1, 2, 3, 4}), t({1, 2, 3, 4}));
       }},
  };
  return all;
}

const std::vector<Mistake>& convolution_mistakes() {
  static const std::vector<Mistake> all{
      {"conv2d with a filter of other channels",
       [](Backend& b, const Maker& t) {
         b.conv2d(t(kX), t({8, 3, 3, 4}), kWindow, 1, {}, t(kY));
       }},
      {"conv2d with a filter of another size",
       [](Backend& b, const Maker& t) {
         b.conv2d(t(kX), t({8, 5, 5, 8}), kWindow, 1, {}, t(kY));
       }},
      {"conv2d with groups that do not divide",
       [](Backend& b, const Maker& t) {
         b.conv2d(t(kX), t({8, 3, 3, 2}), kWindow, 3, {}, t(kY));
       }},
      {"conv2d to a wrong size",
       [](Backend& b, const Maker& t) {
         b.conv2d(t(kX), t({8, 3, 3, 8}), kWindow, 1, {}, t({2, 3, 4, 8}));
       }},
      {"conv2d of a slice",
       [](Backend& b, const Maker& t) {
         b.conv2d(t.slice(kX), t({8, 3, 3, 8}), kWindow, 1, {}, t(kY));
       }},
      {"conv2d into a slice",
       [](Backend& b, const Maker& t) {
         b.conv2d(t(kX), t({8, 3, 3, 8}), kWindow, 1, {}, t.slice(kY));
       }},
      {"conv2d with a short bias",
       [](Backend& b, const Maker& t) {
         b.conv2d(t(kX), t({8, 3, 3, 8}), kWindow, 1, {t(vector_shape(7)), false}, t(kY));
       }},
      {"conv2d smaller than its window",
       [](Backend& b, const Maker& t) {
         b.conv2d(t({1, 2, 2, 1}), t({1, 7, 7, 1}), {7, 7, 1, {}}, 1, {}, t({1, 1, 1, 1}));
       }},
      {"conv2d smaller than its window, stride 2",
       [](Backend& b, const Maker& t) {
         b.conv2d(t({1, 2, 2, 1}), t({1, 3, 3, 1}), {3, 3, 2, {}}, 1, {}, t({1, 1, 1, 1}));
       }},
      {"conv2d with stride 0",
       [](Backend& b, const Maker& t) {
         b.conv2d(t({1, 5, 5, 1}), t({1, 3, 3, 1}), {3, 3, 0, {}}, 1, {}, t({1, 3, 3, 1}));
       }},
      {"conv2d with negative padding",
       [](Backend& b, const Maker& t) {
         b.conv2d(t({1, 5, 5, 1}), t({1, 3, 3, 1}), {3, 3, 1, {-1, 0, 0, 0}}, 1, {}, t({1, 2, 3, 1}));
       }},
      {"depthwise smaller than its window, stride 2",
       [](Backend& b, const Maker& t) {
         b.depthwise(t({1, 2, 2, 8}), t({1, 3, 3, 8}), {3, 3, 2, {}}, {}, t({1, 1, 1, 8}));
       }},
      {"pointwise onto its input",
       [](Backend& b, const Maker& t) {
         const Tensor x = t(kX);
         b.pointwise(x, t({8, 1, 1, 8}), {}, x);
       }},
      {"pointwise to nothing",
       [](Backend& b, const Maker& t) {
         b.pointwise(t({1, 1, 1, 3}), t({1, 1, 1, 3}), {}, Tensor{});
       }},
      {"conv2d_backward_data of a wrong size",
       [](Backend& b, const Maker& t) {
         b.conv2d_backward_data(t(kX), t({8, 3, 3, 8}), kWindow, 1, kOver, t(kX));
       }},
      {"conv2d_backward_weights of a wrong filter",
       [](Backend& b, const Maker& t) {
         b.conv2d_backward_weights(t(kX), t(kY), kWindow, 1, kOver, t.parameter({8, 3, 3, 7}));
       }},
      {"depthwise with a dense filter",
       [](Backend& b, const Maker& t) {
         b.depthwise(t(kX), t({8, 3, 3, 8}), kWindow, {}, t(kY));
       }},
      {"depthwise to other channels",
       [](Backend& b, const Maker& t) {
         b.depthwise(t(kX), t({1, 3, 3, 8}), kWindow, {}, t({2, 4, 4, 16}));
       }},
      {"depthwise with a long bias",
       [](Backend& b, const Maker& t) {
         b.depthwise(t(kX), t({1, 3, 3, 8}), kWindow, {t(vector_shape(9)), false}, t(kY));
       }},
      {"depthwise_backward_data of a wrong size",
       [](Backend& b, const Maker& t) {
         b.depthwise_backward_data(t(kX), t({1, 3, 3, 8}), kWindow, kOver, t(kX));
       }},
      {"depthwise_backward_weights of a wrong filter",
       [](Backend& b, const Maker& t) {
         b.depthwise_backward_weights(t(kX), t(kY), kWindow, kOver, t.parameter({1, 3, 3, 7}));
       }},
      {"pointwise with a filter of other inputs",
       [](Backend& b, const Maker& t) {
         b.pointwise(t(kX), t({5, 1, 1, 7}), {}, t({2, 7, 7, 5}));
       }},
      {"pointwise to other pixels",
       [](Backend& b, const Maker& t) {
         b.pointwise(t(kX), t({5, 1, 1, 8}), {}, t({2, 7, 6, 5}));
       }},
      {"pointwise with a sliced filter",
       [](Backend& b, const Maker& t) {
         b.pointwise(t(kX), t.slice({5, 1, 1, 8}), {}, t({2, 7, 7, 5}));
       }},
      {"pointwise_backward_data of other pixels",
       [](Backend& b, const Maker& t) {
         b.pointwise_backward_data(t(kY), t({8, 1, 1, 8}), kOver, t(kX));
       }},
      {"pointwise_backward_weights of other pixels",
       [](Backend& b, const Maker& t) {
         b.pointwise_backward_weights(t(kX), t(kY), kOver, t.parameter({8, 1, 1, 8}));
       }},
      {"pointwise_backward_weights of a wrong filter",
       [](Backend& b, const Maker& t) {
         b.pointwise_backward_weights(t(kX), t(kX), kOver, t.parameter({8, 1, 1, 7}));
       }},
      {"channel_sums into a short vector",
       [](Backend& b, const Maker& t) { b.channel_sums(t(kX), kOver, t.vector(7)); }},
  };
  return all;
}

const std::vector<Mistake>& pooling_mistakes() {
  static const std::vector<Mistake> all{
      {"relu to another shape", [](Backend& b, const Maker& t) { b.relu(t(kX), t(kY)); }},
      {"relu_backward of another shape", [](Backend& b, const Maker& t) { b.relu_backward(t(kX), t(kY), t(kX)); }},
      {"dropout to another shape", [](Backend& b, const Maker& t) { b.dropout(t(kX), {}, 0.5, {}, t(kY)); }},
      {"dropout of everything", [](Backend& b, const Maker& t) { b.dropout(t(kX), {}, 1.0, {}, t(kX)); }},
      {"max_pool to a wrong size",
       [](Backend& b, const Maker& t) { b.max_pool(t(kX), kWindow, t(kX), t.integers(kX, DType::kU8)); }},
      {"max_pool with float winners", [](Backend& b, const Maker& t) { b.max_pool(t(kX), kWindow, t(kY), t(kY)); }},
      {"max_pool_backward with other winners",
       [](Backend& b, const Maker& t) { b.max_pool_backward(t(kY), t.integers(kX, DType::kU8), kWindow, t(kX)); }},
      {"global_average_pool to several pixels",
       [](Backend& b, const Maker& t) {
         b.global_average_pool(t(kX), t({2, 2, 1, 8}));
       }},
      {"global_average_pool_backward of other channels",
       [](Backend& b, const Maker& t) {
         b.global_average_pool_backward(t({2, 1, 1, 7}), t(kX));
       }},
  };
  return all;
}

const std::vector<Mistake>& loss_mistakes() {
  static const Shape kLogits{3, 1, 1, 10}, kSamples{3, 1, 1, 1};
  static const std::vector<Mistake> all{
      {"loss of logits with pixels",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t({3, 2, 1, 10}), t.integers(kSamples), 0, 1, {}, t.parameter(kSamples), {});
       }},
      {"loss with too few labels",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers({2, 1, 1, 1}), 0, 1, {}, t.parameter(kSamples), {});
       }},
      {"loss with float labels",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t(kSamples), 0, 1, {}, t.parameter(kSamples), {});
       }},
      {"loss into one number",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers(kSamples), 0, 1, {}, t.parameter({1, 1, 1, 1}), {});
       }},
      {"loss with a gradient of another shape",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers(kSamples), 0, 1, {}, t.parameter(kSamples), t({3, 1, 1, 9}));
       }},
      {"a gradient in place of the logits",
       [](Backend& b, const Maker& t) {
         const Tensor logits = t(kLogits);
         b.softmax_cross_entropy(logits, t.integers(kSamples), 0, 1, {}, t.parameter(kSamples), logits);
       }},
      {"soft targets of too few classes",
       [](Backend& b, const Maker& t) {
         b.soft_cross_entropy(t(kLogits), t.parameter({3, 1, 1, 9}), 1, {}, t.parameter(kSamples), {});
       }},
      {"soft targets of integers",
       [](Backend& b, const Maker& t) {
         b.soft_cross_entropy(t(kLogits), t.integers(kLogits), 1, {}, t.parameter(kSamples), {});
       }},
      {"soft targets of logits with pixels",
       [](Backend& b, const Maker& t) {
         b.soft_cross_entropy(t({3, 2, 1, 10}), t.parameter({3, 2, 1, 10}), 1, {}, t.parameter(kSamples), {});
       }},
      {"no soft targets",
       [](Backend& b, const Maker& t) { b.soft_cross_entropy(t(kLogits), {}, 1, {}, t.parameter(kSamples), {}); }},
      {"a soft loss of too few images",
       [](Backend& b, const Maker& t) {
         b.soft_cross_entropy(t(kLogits), t.parameter(kLogits), 1, {}, t.parameter({2, 1, 1, 1}), {});
       }},
      {"ranks as floats",
       [](Backend& b, const Maker& t) { b.label_rank(t(kLogits), t.integers(kSamples), t(kSamples)); }},
      {"too few ranks",
       [](Backend& b, const Maker& t) {
         b.label_rank(t(kLogits), t.integers(kSamples), t.integers({2, 1, 1, 1}));
       }},
      {"an update with another gradient",
       [](Backend& b, const Maker& t) {
         b.sgd_step({{t.vector(8), t.vector(7), t.vector(8), 0, 1}}, {}, t.vector(kStepScalars));
       }},
      {"an update with another momentum",
       [](Backend& b, const Maker& t) {
         b.sgd_step({{t.vector(8), t.vector(8), t.vector(9), 0, 1}}, {}, t.vector(kStepScalars));
       }},
      {"fewer averages than values",
       [](Backend& b, const Maker& t) {
         b.ema_update({t.vector(8)}, {t.vector(8), t.vector(8)}, t.vector(kStepScalars));
       }},
      {"averages of another size",
       [](Backend& b, const Maker& t) { b.ema_update({t.vector(8)}, {t.vector(9)}, t.vector(kStepScalars)); }},
      {"keep_or_restore of other sizes",
       [](Backend& b, const Maker& t) { b.keep_or_restore({t.vector(8)}, {t.vector(7)}, t.vector(kStepScalars)); }},
      {"mixed_targets of one label for two images",
       [](Backend& b, const Maker& t) {
         b.mixed_targets(t.integers({1, 1, 1, 1}), t.integers({2, 1, 1, 1}), 0.5, 0, t({2, 1, 1, 4}));
       }},
      {"scale_gradients of two norms",
       [](Backend& b, const Maker& t) {
         b.scale_gradients(b.empty(vector_shape(2), DType::kF64), 1, true, t.vector(kStepScalars));
       }},
      {"scale_gradients with too few scalars",
       [](Backend& b, const Maker& t) {
         b.scale_gradients(b.empty(vector_shape(1), DType::kF64), 1, true, t.vector(kStepScalars - 1));
       }},
      {"a loss with too few scalars",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers(kSamples), 0, 1, t.vector(2), t.parameter(kSamples),
                                 t(kLogits));
       }},
      {"an update with too few scalars",
       [](Backend& b, const Maker& t) {
         b.sgd_step({{t.vector(8), t.vector(8), t.vector(8)}}, {}, t.vector(2));
       }},
  };
  return all;
}

TEST_P(OperationErrors, Movement) {
  expect_all_to_throw(movement_mistakes());
}
TEST_P(OperationErrors, Convolutions) {
  expect_all_to_throw(convolution_mistakes());
}
TEST_P(OperationErrors, Pooling) {
  expect_all_to_throw(pooling_mistakes());
}
TEST_P(OperationErrors, LossAndUpdates) {
  expect_all_to_throw(loss_mistakes());
}

INSTANTIATE_TEST_SUITE_P(Backends, OperationErrors, ::testing::ValuesIn(backends_and_reference()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace riffle
