// Parity of the softmax cross entropy and of label ranks (top-k), ordinary and extreme logits alike.
#include <algorithm>
#include <limits>

#include "tests/parity.h"
#include "tests/step_scalars.h"

namespace riffle {
namespace {

using namespace parity;

class LossParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(LossParity);

const float kNan = std::numeric_limits<float>::quiet_NaN();

struct Batch {
  int64_t samples, classes;
  std::vector<float> logits;
  std::vector<int32_t> labels;

  Shape logits_shape() const { return {samples, 1, 1, classes}; }
  Shape sample_shape() const { return {samples, 1, 1, 1}; }
};

Batch draw_batch(Case& test, int64_t samples, int64_t classes) {
  Batch batch{samples, classes, test.draw({samples, 1, 1, classes}), {}};
  for (int64_t n = 0; n < samples; ++n) batch.labels.push_back(static_cast<int32_t>(test.random().below(classes)));
  return batch;
}

Tensor loss_scale(Backend& backend, double value) {
  HostStepScalars scalars;
  scalars.loss_scale = value;
  return step_scalars(backend, scalars);
}

// A loss scale other than 1, where there are scalars.
constexpr double kScale = 1024;

// Bounds from the formula loss = log sum exp(z - max) + max - target . z, with `classes` roundings in the sum.
void check_loss(Backend& backend, Batch batch, double smoothing, Layout layout, bool with_gradient,
                bool with_scalars = false) {
  SCOPED_TRACE(join(batch.samples, " samples, ", batch.classes, " classes, smoothing ", smoothing,
                    with_scalars ? ", scaled" : ""));
  Case test(backend);
  batch.logits = test.rounded(batch.logits);
  const double grad_scale = 1.0 / static_cast<double>(batch.samples), scale = grad_scale * (with_scalars ? kScale : 1);
  const Argument logits = test.input(batch.logits_shape(), layout, batch.logits);
  const Argument labels = test.integer_input(batch.sample_shape(), batch.labels);
  const Argument loss = test.parameter_output(batch.sample_shape());
  const Argument dlogits = with_gradient ? test.output(batch.logits_shape(), layout) : Argument();
  test.run(
      [&](Backend& b, Side side) {
        const Tensor scalars = with_scalars ? loss_scale(b, kScale) : Tensor{};
        b.softmax_cross_entropy(logits[side], labels[side], smoothing, grad_scale, scalars, loss[side], dlogits[side]);
      },
      false);
  const auto classes = static_cast<size_t>(batch.classes);
  const double terms = static_cast<double>(batch.classes + 8);
  std::vector<double> loss_bounds, gradient_bounds;
  for (size_t n = 0; n < static_cast<size_t>(batch.samples); ++n) {
    const float* z = &batch.logits[n * classes];
    double largest = 0;
    for (size_t k = 0; k < classes; ++k) largest = std::max(largest, std::abs(double{z[k]}));
    loss_bounds.push_back(kRounding * (terms + 8 * largest));
    for (size_t k = 0; k < classes; ++k) {
      const double target = smoothing + (static_cast<int32_t>(k) == batch.labels[n] ? 1 : 0);
      const double top = *std::max_element(z, z + classes), distance = top - z[k];
      const double probability = std::exp(-distance);  // at most: the sum of all is at least 1
      const double error = kRounding * (probability * (terms + distance) + 4 * target);
      gradient_bounds.push_back(scale * error + std::numeric_limits<float>::min());
    }
  }
  test.expect_within(loss, loss_bounds);
  if (with_gradient) test.expect_within(dlogits, gradient_bounds);
}

TEST_P(LossParity, SoftmaxCrossEntropy) {
  for (int64_t classes : {1, 2, 10, 29, 1000})
    for (int64_t samples : {1, 2, 3, 17})
      for (double smoothing : {0.0, 0.1})
        for (Layout layout : {kPacked, kSlice}) {
          Case source(backend());
          check_loss(backend(), draw_batch(source, samples, classes), smoothing, layout, true);
          check_loss(backend(), draw_batch(source, samples, classes), smoothing, layout, false);
          check_loss(backend(), draw_batch(source, samples, classes), smoothing, layout, true, /*with_scalars=*/true);
        }
}

TEST_P(LossParity, HugeLogitsStayFinite) {
  for (float size : {100.0f, 1e4f, 1e30f})
    for (double smoothing : {0.0, 0.1}) {
      if (!std::isfinite(rounded_to(backend().dtype(), 4 * double{size}))) continue;  // f16 ends at 65504
      Case source(backend());
      Batch batch = draw_batch(source, 3, 10);
      for (float& logit : batch.logits) logit *= size;
      check_loss(backend(), batch, smoothing, kPacked, true);
    }
}

// A class that is ruled out does not rule out the others.
TEST_P(LossParity, MinusInfinityIsAProbabilityOfZero) {
  const std::unique_ptr<Backend> reference = make_reference_backend();
  const std::vector<float> values{-std::numeric_limits<float>::infinity(), 1, 2};
  const int32_t label = 1;
  for (Backend* b : {&backend(), reference.get()}) {
    const Tensor logits = b->empty({1, 1, 1, 3}), loss = b->empty_parameter({1, 1, 1, 1}),
                 dlogits = b->empty({1, 1, 1, 3});
    const Tensor labels = b->empty({1, 1, 1, 1}, DType::kI32);
    const std::vector<double> wide(values.begin(), values.end());
    b->upload(wide.data(), DType::kF64, logits);
    b->upload(&label, DType::kI32, labels);
    b->softmax_cross_entropy(logits, labels, 0, 1, Tensor{}, loss, dlogits);
    double got = 0, gradient[3];
    b->download(loss, DType::kF64, &got);
    b->download(dlogits, DType::kF64, gradient);
    EXPECT_NEAR(got, std::log1p(std::exp(1.0)), 1e-6);
    EXPECT_EQ(gradient[0], 0);
  }
}

TEST_P(LossParity, NanStaysInItsRow) {
  Case source(backend());
  Batch batch = draw_batch(source, 3, 10);
  batch.logits[13] = kNan;
  Case test(backend());
  const Argument logits = test.input(batch.logits_shape(), kPacked, batch.logits);
  const Argument labels = test.integer_input(batch.sample_shape(), batch.labels);
  const Argument loss = test.parameter_output(batch.sample_shape()), dlogits = test.output(batch.logits_shape());
  test.run(
      [&](Backend& b, Side side) {
        b.softmax_cross_entropy(logits[side], labels[side], 0.1, 1, Tensor{}, loss[side], dlogits[side]);
      },
      false);
  const std::vector<double> losses = test.got(loss), gradient = test.got(dlogits);
  for (size_t n = 0; n < 3; ++n) EXPECT_EQ(std::isnan(losses[n]), n == 1) << "sample " << n;
  for (size_t i = 0; i < gradient.size(); ++i) EXPECT_EQ(std::isnan(gradient[i]), i / 10 == 1) << "element " << i;
}

void check_rank(Backend& backend, const Batch& batch, Layout layout) {
  Case test(backend);
  const Argument logits = test.input(batch.logits_shape(), layout, batch.logits);
  const Argument labels = test.integer_input(batch.sample_shape(), batch.labels);
  const Argument rank = test.integer_output<int32_t>(batch.sample_shape());
  test.run([&](Backend& b, Side side) { b.label_rank(logits[side], labels[side], rank[side]); }, false);
  test.expect_equal_integers<int32_t>(rank);
}

TEST_P(LossParity, LabelRank) {
  for (int64_t classes : {1, 2, 10, 29, 1000})
    for (int64_t samples : {1, 3, 17})
      for (Values values : {Values::kIntegers, Values::kNormals})  // integers: many ties
        for (Layout layout : {kPacked, kSlice}) {
          SCOPED_TRACE(join(samples, " samples, ", classes, " classes"));
          Case source(backend(), values);
          Batch batch = draw_batch(source, samples, classes);
          check_rank(backend(), batch, layout);
          batch.logits.back() = kNan;
          check_rank(backend(), batch, layout);
        }
}

TEST_P(LossParity, LabelRankByHand) {
  // Ties go to the lower index; NaN anywhere makes the row wrong; infinities compare as numbers.
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits{1, 1, 1, 0, 1, 1, 1, 0, 3, 2, 1, 0, kNan, 9, 0, 0, inf, -inf, inf, 5, 0, 0, kNan, 0};
  const std::vector<int32_t> labels{0, 2, 3, 1, 2, 2};
  const Tensor z = backend().empty({6, 1, 1, 4}), label = backend().empty({6, 1, 1, 1}, DType::kI32);
  const Tensor rank = backend().empty({6, 1, 1, 1}, DType::kI32);
  backend().upload(logits.data(), DType::kF32, z);
  backend().upload(labels.data(), DType::kI32, label);
  backend().label_rank(z, label, rank);
  std::vector<int32_t> ranks(6);
  backend().download(rank, DType::kI32, ranks.data());
  EXPECT_EQ(ranks, (std::vector<int32_t>{0, 2, 3, 4, 1, 4}));
}

}  // namespace
}  // namespace riffle
