// Parity of the cross entropies and of label ranks (top-k), ordinary and extreme logits alike.
#include <algorithm>
#include <limits>
#include <numeric>

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

std::vector<float> smoothed(const Batch& batch, double smoothing) {
  const auto classes = static_cast<size_t>(batch.classes);
  std::vector<float> targets(batch.logits.size(), static_cast<float>(smoothing / static_cast<double>(classes)));
  for (size_t n = 0; n < batch.labels.size(); ++n)
    targets[n * classes + static_cast<size_t>(batch.labels[n])] += static_cast<float>(1 - smoothing);
  return targets;
}

// Rows of sums from 0 to 2, with many zeros, as mixtures of a few labels have.
std::vector<float> draw_targets(Case& test, int64_t samples, int64_t classes) {
  std::vector<float> targets(static_cast<size_t>(samples * classes), 0);
  for (size_t n = 0; n < static_cast<size_t>(samples); ++n)
    for (int label = 0; label < static_cast<int>(n) % 4; ++label)
      targets[n * static_cast<size_t>(classes) + static_cast<size_t>(test.random().below(classes))] +=
          static_cast<float>(test.random().uniform(0, 2.0 / 3));
  return targets;
}

// Bounds from the formula loss = T log sum exp(z - max) + sum t (max - z) with T = sum t, with `classes` roundings in the
// sums. dlogits may be null.
void expect_close(Case& test, const Batch& batch, const std::vector<float>& targets, double scale, const Argument& loss,
                  const Argument* dlogits) {
  const auto classes = static_cast<size_t>(batch.classes);
  const double terms = static_cast<double>(batch.classes + 8);
  std::vector<double> loss_bounds, gradient_bounds;
  for (size_t n = 0; n < static_cast<size_t>(batch.samples); ++n) {
    const float *z = &batch.logits[n * classes], *t = &targets[n * classes];
    const double target_sum = std::accumulate(t, t + classes, 0.0), top = *std::max_element(z, z + classes);
    double largest = 0;
    for (size_t k = 0; k < classes; ++k) largest = std::max(largest, std::abs(double{z[k]}));
    loss_bounds.push_back(kRounding * target_sum * (terms + 8 * largest));
    for (size_t k = 0; k < classes; ++k) {
      const double distance = top - z[k];
      const double probability = target_sum * std::exp(-distance);  // at most: the sum of all is at least 1
      const double error = kRounding * (probability * (terms + distance) + 4 * t[k]);
      gradient_bounds.push_back(scale * error + std::numeric_limits<float>::min());
    }
  }
  test.expect_within(loss, loss_bounds);
  if (dlogits != nullptr) test.expect_within(*dlogits, gradient_bounds);
}

// What a loss is asked for besides itself.
struct Wanted {
  Layout layout = kPacked;
  bool gradient = true, scaled = false;
};

// compute(backend, side, logits, scalars, grad_scale, loss, dlogits) is a cross-entropy of the batch with `targets`.
template <class Compute>
void check_cross_entropy(Case& test, const Batch& batch, const std::vector<float>& targets, const Wanted& wanted,
                         const Compute& compute) {
  SCOPED_TRACE(join(batch.samples, " samples, ", batch.classes, " classes", wanted.scaled ? ", scaled" : ""));
  const double grad_scale = 1.0 / static_cast<double>(batch.samples);
  const Argument logits = test.input(batch.logits_shape(), wanted.layout, batch.logits);
  const Argument loss = test.parameter_output(batch.sample_shape());
  const Argument dlogits = wanted.gradient ? test.output(batch.logits_shape(), wanted.layout) : Argument();
  test.run(
      [&](Backend& b, Side side) {
        const Tensor scalars = wanted.scaled ? loss_scale(b, kScale) : Tensor{};
        compute(b, side, logits[side], scalars, grad_scale, loss[side], dlogits[side]);
      },
      false);
  expect_close(test, batch, targets, grad_scale * (wanted.scaled ? kScale : 1), loss,
               wanted.gradient ? &dlogits : nullptr);
}

void check_labels(Backend& backend, Batch batch, double smoothing, const Wanted& wanted) {
  SCOPED_TRACE(join("smoothing ", smoothing));
  Case test(backend);
  batch.logits = test.rounded(batch.logits);
  const Argument labels = test.integer_input(batch.sample_shape(), batch.labels);
  check_cross_entropy(test, batch, smoothed(batch, smoothing), wanted,
                      [&](Backend& b, Side side, const Tensor& logits, const Tensor& scalars, double grad_scale,
                          const Tensor& loss, const Tensor& dlogits) {
                        b.softmax_cross_entropy(logits, labels[side], smoothing, grad_scale, scalars, loss, dlogits);
                      });
}

void check_soft_targets(Backend& backend, Batch batch, const std::vector<float>& values, const Wanted& wanted) {
  Case test(backend);
  batch.logits = test.rounded(batch.logits);
  const Argument targets = test.parameter(batch.logits_shape(), values, wanted.layout);
  check_cross_entropy(
      test, batch, values, wanted,
      [&](Backend& b, Side side, const Tensor& logits, const Tensor& scalars, double grad_scale, const Tensor& loss,
          const Tensor& dlogits) { b.soft_cross_entropy(logits, targets[side], grad_scale, scalars, loss, dlogits); });
}

const std::vector<Wanted>& wanted_ways() {
  static const std::vector<Wanted> all{{kPacked, true, false}, {kPacked, false, false}, {kPacked, true, true},
                                       {kSlice, true, false},  {kSlice, false, false},  {kSlice, true, true}};
  return all;
}

TEST_P(LossParity, SoftmaxCrossEntropy) {
  for (int64_t classes : {1, 2, 10, 29, 1000})
    for (int64_t samples : {1, 2, 3, 17})
      for (double smoothing : {0.0, 0.1})
        for (const Wanted& wanted : wanted_ways()) {
          Case source(backend());
          check_labels(backend(), draw_batch(source, samples, classes), smoothing, wanted);
        }
}

TEST_P(LossParity, SoftCrossEntropy) {
  for (int64_t classes : {1, 2, 10, 29, 1000})
    for (int64_t samples : {1, 2, 3, 17})
      for (const Wanted& wanted : wanted_ways()) {
        Case source(backend());
        const Batch batch = draw_batch(source, samples, classes);
        check_soft_targets(backend(), batch, draw_targets(source, samples, classes), wanted);
        check_soft_targets(backend(), batch, smoothed(batch, 0.1), wanted);
      }
}

TEST_P(LossParity, HugeLogitsStayFinite) {
  for (float size : {100.0f, 1e4f, 1e30f})
    for (double smoothing : {0.0, 0.1}) {
      if (!std::isfinite(rounded_to(backend().dtype(), 4 * double{size}))) continue;  // f16 ends at 65504
      Case source(backend());
      Batch batch = draw_batch(source, 3, 10);
      for (float& logit : batch.logits) logit *= size;
      check_labels(backend(), batch, smoothing, {});
      check_soft_targets(backend(), batch, smoothed(batch, smoothing), {});
    }
}

// A class that is ruled out does not rule out the others, and counts for nothing where nobody wants it. Class 1 of 3.
TEST_P(LossParity, MinusInfinityIsAProbabilityOfZero) {
  const std::unique_ptr<Backend> reference = make_reference_backend();
  const std::vector<double> values{-std::numeric_limits<double>::infinity(), 1, 2}, target{0, 1, 0};
  const int32_t label = 1;
  for (Backend* b : {&backend(), reference.get()})
    for (bool soft : {false, true}) {
      const Shape row{1, 1, 1, 3}, one{1, 1, 1, 1};
      const Tensor logits = b->empty(row), loss = b->empty_parameter(one), dlogits = b->empty(row);
      const Tensor labels = b->empty(one, DType::kI32), targets = b->empty_parameter(row);
      b->upload(values.data(), DType::kF64, logits);
      b->upload(&label, DType::kI32, labels);
      b->upload(target.data(), DType::kF64, targets);
      if (soft) {
        b->soft_cross_entropy(logits, targets, 1, Tensor{}, loss, dlogits);
      } else {
        b->softmax_cross_entropy(logits, labels, 0, 1, Tensor{}, loss, dlogits);
      }
      EXPECT_NEAR(host(*b, loss)[0], std::log1p(std::exp(1.0)), 1e-6);
      EXPECT_EQ(host(*b, dlogits)[0], 0);
    }
}

TEST_P(LossParity, NanStaysInItsRow) {
  Case source(backend());
  Batch batch = draw_batch(source, 3, 10);
  batch.logits[13] = kNan;
  for (bool soft : {false, true}) {
    Case test(backend());
    const Argument logits = test.input(batch.logits_shape(), kPacked, batch.logits);
    const Argument labels = test.integer_input(batch.sample_shape(), batch.labels);
    const Argument targets = test.parameter(batch.logits_shape(), smoothed(batch, 0.1));
    const Argument loss = test.parameter_output(batch.sample_shape()), dlogits = test.output(batch.logits_shape());
    test.run(
        [&](Backend& b, Side side) {
          if (soft) return b.soft_cross_entropy(logits[side], targets[side], 1, Tensor{}, loss[side], dlogits[side]);
          b.softmax_cross_entropy(logits[side], labels[side], 0.1, 1, Tensor{}, loss[side], dlogits[side]);
        },
        false);
    const std::vector<double> losses = test.got(loss), gradient = test.got(dlogits);
    for (size_t n = 0; n < 3; ++n) EXPECT_EQ(std::isnan(losses[n]), n == 1) << "sample " << n;
    for (size_t i = 0; i < gradient.size(); ++i) EXPECT_EQ(std::isnan(gradient[i]), i / 10 == 1) << "element " << i;
  }
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
