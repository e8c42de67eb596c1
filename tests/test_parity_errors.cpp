// Wrong shapes and dtypes must throw, on every backend and on the reference alike.
#include <functional>
#include <string>
#include <vector>

#include "tests/parity.h"

namespace riffle {
namespace {

using parity::BackendUnderTest;

// Makes arguments of a backend by shape. All hold ones, so that nothing but the tested mistake is wrong.
class Maker {
 public:
  explicit Maker(Backend& backend) : backend_(backend) {}
  Tensor operator()(Shape shape) const {
    Tensor tensor = backend_.empty(shape);
    backend_.fill(1, tensor);
    return tensor;
  }
  Tensor vector(int64_t size) const { return (*this)(vector_shape(size)); }
  Tensor slice(Shape shape) const { return (*this)(shape.with_channels(shape.c + 3)).channel_slice(1, shape.c); }
  Tensor integers(Shape shape, DType dtype = DType::kI32) const {
    Tensor tensor = backend_.empty(shape, dtype);
    const std::vector<int32_t> zeros(static_cast<size_t>(shape.elements()));
    backend_.upload(zeros.data(), dtype, tensor);
    return tensor;
  }

 private:
  Backend& backend_;
};

struct Mistake {
  const char* what;
  std::function<void(Backend& b, const Maker& t)> call;
};

const Write kOver = Write::kOverwrite;
const Window kWindow{3, 3, 2, Padding::all(1)};
const Shape kX{2, 7, 7, 8}, kY{2, 4, 4, 8};

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
         b.normalize(t({1, 2, 2, 3}), {}, t({1, 2, 2, 3}));
       }},
      {"normalize with three means for one channel",
       [](Backend& b, const Maker& t) {
         b.normalize(t.integers({1, 2, 2, 1}, DType::kU8), {}, t({1, 2, 2, 1}));
       }},
      {"normalize to another size",
       [](Backend& b, const Maker& t) {
         b.normalize(t.integers({1, 2, 2, 3}, DType::kU8), {}, t({1, 2, 3, 3}));
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
         b.conv2d(t(kX), t({8, 3, 3, 8}), kWindow, 1, {t.vector(7), false}, t(kY));
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
         b.conv2d_backward_weights(t(kX), t(kY), kWindow, 1, kOver, t({8, 3, 3, 7}));
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
         b.depthwise(t(kX), t({1, 3, 3, 8}), kWindow, {t.vector(9), false}, t(kY));
       }},
      {"depthwise_backward_data of a wrong size",
       [](Backend& b, const Maker& t) {
         b.depthwise_backward_data(t(kX), t({1, 3, 3, 8}), kWindow, kOver, t(kX));
       }},
      {"depthwise_backward_weights of a wrong filter",
       [](Backend& b, const Maker& t) {
         b.depthwise_backward_weights(t(kX), t(kY), kWindow, kOver, t({1, 3, 3, 7}));
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
         b.pointwise_backward_weights(t(kX), t(kY), kOver, t({8, 1, 1, 8}));
       }},
      {"pointwise_backward_weights of a wrong filter",
       [](Backend& b, const Maker& t) {
         b.pointwise_backward_weights(t(kX), t(kX), kOver, t({8, 1, 1, 7}));
       }},
      {"channel_sums into a short vector",
       [](Backend& b, const Maker& t) { b.channel_sums(t(kX), kOver, t.vector(7)); }},
  };
  return all;
}

const std::vector<Mistake>& norm_mistakes() {
  static const std::vector<Mistake> all{
      {"statistics into short vectors",
       [](Backend& b, const Maker& t) { b.batch_norm_statistics(t(kX), t.vector(8), t.vector(7)); }},
      {"running averages of other sizes",
       [](Backend& b, const Maker& t) {
         b.batch_norm_update_running(t.vector(8), t.vector(8), 10, 0.1, t.vector(8), t.vector(7));
       }},
      {"batch_norm_apply to another shape",
       [](Backend& b, const Maker& t) {
         b.batch_norm_apply(t(kX), t.vector(8), t.vector(8), t.vector(8), t.vector(8), 1e-5, false, t(kY));
       }},
      {"batch_norm_apply with a short gamma",
       [](Backend& b, const Maker& t) {
         b.batch_norm_apply(t(kX), t.vector(8), t.vector(8), t.vector(4), t.vector(8), 1e-5, false, t(kX));
       }},
      {"batch_norm_backward with dy of another shape",
       [](Backend& b, const Maker& t) {
         b.batch_norm_backward(t(kX), t(kY), t.vector(8), t.vector(8), t.vector(8), t.vector(8), 1e-5, false, kOver,
                               t(kX), t.vector(8), t.vector(8));
       }},
      {"batch_norm_backward_frozen with a short dbeta",
       [](Backend& b, const Maker& t) {
         b.batch_norm_backward_frozen(t(kX), t(kX), t.vector(8), t.vector(8), t.vector(8), t.vector(8), 1e-5, false,
                                      kOver, t(kX), t.vector(8), t.vector(7));
       }},
  };
  return all;
}

const std::vector<Mistake>& pooling_mistakes() {
  static const std::vector<Mistake> all{
      {"relu to another shape", [](Backend& b, const Maker& t) { b.relu(t(kX), t(kY)); }},
      {"relu_backward of another shape", [](Backend& b, const Maker& t) { b.relu_backward(t(kX), t(kY), t(kX)); }},
      {"dropout to another shape", [](Backend& b, const Maker& t) { b.dropout(t(kX), {}, 0.5, t(kY)); }},
      {"dropout of everything", [](Backend& b, const Maker& t) { b.dropout(t(kX), {}, 1.0, t(kX)); }},
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
         b.softmax_cross_entropy(t({3, 2, 1, 10}), t.integers(kSamples), 0, 1, t(kSamples), {});
       }},
      {"loss with too few labels",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers({2, 1, 1, 1}), 0, 1, t(kSamples), {});
       }},
      {"loss with float labels",
       [](Backend& b, const Maker& t) { b.softmax_cross_entropy(t(kLogits), t(kSamples), 0, 1, t(kSamples), {}); }},
      {"loss into one number",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers(kSamples), 0, 1, t({1, 1, 1, 1}), {});
       }},
      {"loss with a gradient of another shape",
       [](Backend& b, const Maker& t) {
         b.softmax_cross_entropy(t(kLogits), t.integers(kSamples), 0, 1, t(kSamples), t({3, 1, 1, 9}));
       }},
      {"ranks as floats",
       [](Backend& b, const Maker& t) { b.label_rank(t(kLogits), t.integers(kSamples), t(kSamples)); }},
      {"too few ranks",
       [](Backend& b, const Maker& t) {
         b.label_rank(t(kLogits), t.integers(kSamples), t.integers({2, 1, 1, 1}));
       }},
      {"an update with another gradient",
       [](Backend& b, const Maker& t) {
         b.sgd_step({{t.vector(8), t.vector(7), t.vector(8), 0, 1}}, {});
       }},
      {"an update with another momentum",
       [](Backend& b, const Maker& t) {
         b.sgd_step({{t.vector(8), t.vector(8), t.vector(9), 0, 1}}, {});
       }},
      {"fewer averages than values",
       [](Backend& b, const Maker& t) {
         b.ema_update({t.vector(8)}, {t.vector(8), t.vector(8)}, 0.9);
       }},
      {"averages of another size", [](Backend& b, const Maker& t) { b.ema_update({t.vector(8)}, {t.vector(9)}, 0.9); }},
  };
  return all;
}

class BackendErrors : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  static void expect_all_to_throw(const std::vector<Mistake>& mistakes) {
    const std::unique_ptr<Backend> backend = GetParam().make();
    const Maker maker(*backend);
    for (const Mistake& mistake : mistakes)
      EXPECT_THROW(mistake.call(*backend, maker), Error) << mistake.what << " was accepted";
  }
};

TEST_P(BackendErrors, Movement) {
  expect_all_to_throw(movement_mistakes());
}
TEST_P(BackendErrors, Convolutions) {
  expect_all_to_throw(convolution_mistakes());
}
TEST_P(BackendErrors, BatchNorm) {
  expect_all_to_throw(norm_mistakes());
}
TEST_P(BackendErrors, Pooling) {
  expect_all_to_throw(pooling_mistakes());
}
TEST_P(BackendErrors, LossAndUpdates) {
  expect_all_to_throw(loss_mistakes());
}

std::vector<BackendUnderTest> with_reference() {
  std::vector<BackendUnderTest> all = parity::backends_under_test();
  all.push_back({"Reference", make_reference_backend});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendErrors, ::testing::ValuesIn(with_reference()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace riffle
