// Wrong arguments of batch norm and of what is fused with it must throw, on every backend and on the reference alike.
#include "tests/mistakes.h"

namespace riffle {
namespace {

using namespace parity;

class NormErrors : public BackendErrors {};

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

const std::vector<Mistake>& parts_mistakes() {
  static const std::vector<Mistake> all{
      {"no parts", [](Backend&, const Maker&) { ChannelParts(std::vector<Tensor>{}); }},
      {"parts of different sizes",
       [](Backend&, const Maker& t) {
         ChannelParts({t(kX), t(kY)});
       }},
      {"parts of different dtypes",
       [](Backend&, const Maker& t) {
         ChannelParts({t(kX), t.integers(kX)});
       }},
      {"batch_norm_apply to too few parts",
       [](Backend& b, const Maker& t) {
         const ChannelParts parts({t(kX.with_channels(3)), t(kX.with_channels(4))});
         const BatchNormState n = t.norm(8);
         b.batch_norm_apply(t(kX), n.mean, n.var, n.gamma, n.beta, n.eps, false, parts);
       }},
      {"batch_norm_backward of too many parts",
       [](Backend& b, const Maker& t) {
         const ChannelParts parts({t(kX.with_channels(5)), t(kX.with_channels(4))});
         const BatchNormState n = t.norm(8);
         b.batch_norm_backward(t(kX), parts, n.mean, n.var, n.gamma, n.beta, n.eps, false, kOver, t(kX), t.vector(8),
                               t.vector(8));
       }},
      {"pointwise_batch_norm_backward of parts of other pixels",
       [](Backend& b, const Maker& t) {
         const ChannelParts parts({t(kY.with_channels(5)), t(kY.with_channels(3))});
         b.pointwise_batch_norm_backward(t(kX), t({8, 1, 1, 8}), t(kX), parts, {}, t.norm(8), kOver, t(kX), kOver,
                                         t.parameter({8, 1, 1, 8}), t.vector(8), t.vector(8));
       }},
  };
  return all;
}

const Shape kFilter{8, 1, 1, 8}, kDepthwiseFilter{1, 3, 3, 8}, kSums{1, 1, 2, 8};

// input: 1x6x12x3, so that x is 1x3x6x8 and its pooled gradient 1x2x3x8.
void stem_backward(Backend& b, const Maker& t, const Tensor& input, const Tensor& x, const Tensor& dw) {
  const Shape pooled{1, 2, 3, 8};
  b.conv2d_norm_max_pool_backward(input, kWindow, x, t.norm(8, true), kWindow, t(pooled),
                                  t.integers(pooled, DType::kU8), kOver, dw, t.vector(8), t.vector(8));
}

const std::vector<Mistake>& fused_mistakes() {
  static const std::vector<Mistake> all{
      {"pointwise_batch_norm_backward with a dw of another filter",
       [](Backend& b, const Maker& t) {
         b.pointwise_batch_norm_backward(t(kX), t(kFilter), t(kX), t(kX), {}, t.norm(8), kOver, t(kX), kOver,
                                         t.parameter({8, 1, 1, 7}), t.vector(8), t.vector(8));
       }},
      {"pointwise_batch_norm_backward into its input",
       [](Backend& b, const Maker& t) {
         const Tensor x = t(kX);
         b.pointwise_batch_norm_backward(x, t(kFilter), t(kX), t(kX), {}, t.norm(8), kOver, x, kOver,
                                         t.parameter(kFilter), t.vector(8), t.vector(8));
       }},
      {"fold_norm with ReLU",
       [](Backend& b, const Maker& t) {
         b.fold_norm(t.parameter(kFilter), t.norm(8, /*relu=*/true), t(kFilter), t.vector(8));
       }},
      {"fold_norm to another filter",
       [](Backend& b, const Maker& t) {
         b.fold_norm(t.parameter(kFilter), t.norm(8), t({8, 1, 1, 7}), t.vector(8));
       }},
      {"fold_norm with a short shift",
       [](Backend& b, const Maker& t) { b.fold_norm(t.parameter(kFilter), t.norm(8), t(kFilter), t.vector(7)); }},
      {"fold_norm with a norm of the outputs",
       [](Backend& b, const Maker& t) {
         b.fold_norm(t.parameter({5, 1, 1, 8}), t.norm(5), t({5, 1, 1, 8}), t.vector(5));
       }},
      {"fold_norm_backward with ReLU",
       [](Backend& b, const Maker& t) {
         b.fold_norm_backward(t.parameter(kFilter), t.parameter(kFilter), t.norm(8, /*relu=*/true), 10, kOver,
                              t.parameter(kFilter), t.vector(8), t.vector(8), t.vector(8));
       }},
      {"fold_norm_backward with a short from_x",
       [](Backend& b, const Maker& t) {
         b.fold_norm_backward(t.parameter(kFilter), t.parameter(kFilter), t.norm(8), 10, kOver, t.parameter(kFilter),
                              t.vector(8), t.vector(8), t.vector(7));
       }},
      {"norm_depthwise with a 5x5 window",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise(t(kX), t.norm(8), t({1, 5, 5, 8}), {5, 5, 1, Padding::all(2)}, t.vector(8), t.vector(8),
                          t(kX));
       }},
      {"norm_depthwise with a stride of 0",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise(t(kX), t.norm(8), t(kDepthwiseFilter), {3, 3, 0, Padding::all(1)}, t.vector(8), t.vector(8),
                          t(kX));
       }},
      {"norm_depthwise to a wrong size",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise(t(kX), t.norm(8), t(kDepthwiseFilter), kWindow, t.vector(8), t.vector(8), t(kX));
       }},
      {"norm_depthwise_backward into its dy",
       [](Backend& b, const Maker& t) {
         const Tensor dy = t(kX);
         const Window same{3, 3, 1, Padding::all(1)};
         b.norm_depthwise_backward(t(kX), {}, t(kDepthwiseFilter), same, t(kX), t.vector(8), t.vector(8), dy, kOver, dy,
                                   kOver, t.parameter(kDepthwiseFilter), {});
       }},
      {"norm_depthwise without a norm",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise(t(kX), {}, t(kDepthwiseFilter), kWindow, t.vector(8), t.vector(8), t(kY));
       }},
      {"norm_depthwise with short statistics",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise(t(kX), t.norm(8), t(kDepthwiseFilter), kWindow, t.vector(8), t.vector(7), t(kY));
       }},
      {"norm_depthwise_backward that accumulates behind a norm",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise_backward(t(kX), t.norm(8), t(kDepthwiseFilter), kWindow, t(kY), t.vector(8), t.vector(8),
                                   t(kY), Write::kAccumulate, t(kX), kOver, t.parameter(kDepthwiseFilter),
                                   t.parameter(kSums));
       }},
      {"norm_depthwise_backward behind a norm without sums",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise_backward(t(kX), t.norm(8), t(kDepthwiseFilter), kWindow, t(kY), t.vector(8), t.vector(8),
                                   t(kY), kOver, t(kX), kOver, t.parameter(kDepthwiseFilter), {});
       }},
      {"norm_depthwise_backward with dy of x's size",
       [](Backend& b, const Maker& t) {
         b.norm_depthwise_backward(t(kX), {}, t(kDepthwiseFilter), kWindow, t(kY), t.vector(8), t.vector(8), t(kX),
                                   kOver, t(kX), kOver, t.parameter(kDepthwiseFilter), {});
       }},
      {"conv2d_norm_max_pool_backward with a wrong filter",
       [](Backend& b, const Maker& t) {
         b.conv2d_norm_max_pool_backward(t({2, 13, 13, 3}), kWindow, t(kX), t.norm(8, true), kWindow, t(kY),
                                         t.integers(kY, DType::kU8), kOver, t.parameter({8, 3, 3, 1}), t.vector(8),
                                         t.vector(8));
       }},
      {"conv2d_norm_max_pool_backward of another input",
       [](Backend& b, const Maker& t) {
         b.conv2d_norm_max_pool_backward(t({2, 9, 9, 3}), kWindow, t(kX), t.norm(8, true), kWindow, t(kY),
                                         t.integers(kY, DType::kU8), kOver, t.parameter({8, 3, 3, 3}), t.vector(8),
                                         t.vector(8));
       }},
      {"conv2d_norm_max_pool_backward into its image",
       [](Backend& b, const Maker& t) {
         const Tensor dw = t.parameter({8, 3, 3, 3});
         stem_backward(b, t, dw.reshaped({1, 6, 12, 3}), t({1, 3, 6, 8}), dw);
       }},
      {"conv2d_norm_max_pool_backward into what the convolution made",
       [](Backend& b, const Maker& t) {
         const Tensor dw = t.parameter({8, 3, 3, 3});
         stem_backward(b, t, t({1, 6, 12, 3}), dw.reshaped({27, 1, 1, 8}).sample_slice(0, 18).reshaped({1, 3, 6, 8}),
                       dw);
       }},
      {"batch_norm_max_pool to a wrong size",
       [](Backend& b, const Maker& t) {
         const BatchNormState n = t.norm(8, true);
         b.batch_norm_max_pool(t(kX), n.mean, n.var, n.gamma, n.beta, n.eps, kWindow, t(kX),
                               t.integers(kX, DType::kU8));
       }},
  };
  return all;
}

TEST_P(NormErrors, BatchNorm) {
  expect_all_to_throw(norm_mistakes());
}
TEST_P(NormErrors, Parts) {
  expect_all_to_throw(parts_mistakes());
}
TEST_P(NormErrors, Fused) {
  expect_all_to_throw(fused_mistakes());
}

INSTANTIATE_TEST_SUITE_P(Backends, NormErrors, ::testing::ValuesIn(backends_and_reference()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace riffle
