// The reference: softmax cross entropy, label ranks and the multi-tensor updates.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "tests/reference/declarations.h"
#include "tests/reference/views.h"

namespace riffle::reference {
namespace {

int64_t label_of(const View<int32_t>& labels, int64_t n, int64_t classes) {
  const int64_t label = labels[n];
  RIFFLE_CHECK(label >= 0 && label < classes, "label ", label, " of sample ", n, " is outside 0 .. ", classes - 1);
  return label;
}

Elements scalars_view(const Tensor& scalars) {
  return vector_view("scalars", scalars, kStepScalars);
}

// log(sum exp z) of row n less its largest element, for any finite logits: beside a huge one it would be lost.
struct LogSumExp {
  double largest = -std::numeric_limits<double>::infinity(), above_largest = 0;
};

LogSumExp log_sum_exp(const Elements& z, int64_t n) {
  LogSumExp result;
  for (int64_t k = 0; k < z.channels(); ++k) result.largest = std::max(result.largest, z(n, k));
  double sum = 0;
  for (int64_t k = 0; k < z.channels(); ++k) sum += std::exp(z(n, k) - result.largest);
  result.above_largest = std::log(sum);
  return result;
}

// `target(n, k)` is what class k of sample n should have as its probability.
using Target = std::function<double(int64_t n, int64_t k)>;

void cross_entropy(const Elements& z, const Target& target, double scale, const Elements& losses, const Elements& dz) {
  for (int64_t n = 0; n < z.shape().n; ++n) {
    const LogSumExp normaliser = log_sum_exp(z, n);
    double target_sum = 0;
    for (int64_t k = 0; k < z.channels(); ++k) target_sum += target(n, k);
    losses[n] = 0;
    for (int64_t k = 0; k < z.channels(); ++k) {
      const double log_probability = (z(n, k) - normaliser.largest) - normaliser.above_largest;
      if (target(n, k) != 0) losses[n] -= target(n, k) * log_probability;  // 0 times an infinite one is 0 here
      dz(n, k) = scale * (target_sum * std::exp(log_probability) - target(n, k));
    }
  }
}

double loss_scale_of(const Tensor& scalars) {
  return scalars.defined() ? scalars_view(scalars)[kLossScale] : 1;
}

}  // namespace

void RefBackend::softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                                       const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  const Shape shape = logits.shape();
  const Elements z("logits", logits, {shape.n, 1, 1, shape.c});
  const auto label = packed_view<int32_t>("labels", labels, {shape.n, 1, 1, 1});
  const auto losses = packed_view("loss", loss, {shape.n, 1, 1, 1});
  check_disjoint("loss", loss, {logits, labels, dlogits});
  check_disjoint("dlogits", dlogits, {logits, labels});
  const Elements dz("dlogits", dlogits.defined() ? dlogits : empty(shape), shape);
  const auto smoothed_label = [&](int64_t n, int64_t k) {
    return (k == label_of(label, n, shape.c) ? 1 - smoothing : 0) + smoothing / static_cast<double>(shape.c);
  };
  cross_entropy(z, smoothed_label, grad_scale * loss_scale_of(scalars), losses, dz);
}

void RefBackend::soft_cross_entropy(const Tensor& logits, const Tensor& targets, double grad_scale,
                                    const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  const Shape shape = logits.shape();
  const Elements z("logits", logits, {shape.n, 1, 1, shape.c}), t("targets", targets, shape);
  const auto losses = packed_view("loss", loss, {shape.n, 1, 1, 1});
  check_disjoint("loss", loss, {logits, targets, dlogits});
  check_disjoint("dlogits", dlogits, {logits, targets});
  const Elements dz("dlogits", dlogits.defined() ? dlogits : empty(shape), shape);
  cross_entropy(
      z, [&](int64_t n, int64_t k) { return t(n, k); }, grad_scale * loss_scale_of(scalars), losses, dz);
}

void RefBackend::mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                               const Tensor& targets) {
  const Shape shape = targets.shape(), samples{shape.n, 1, 1, 1};
  const Elements t("targets", targets, {shape.n, 1, 1, shape.c});
  const auto label = packed_view<int32_t>("labels", labels, samples);
  const auto other = packed_view<int32_t>("others", others, samples);
  RIFFLE_CHECK(share >= 0 && share <= 1 && smoothing >= 0 && smoothing <= 1, "share ", share, ", smoothing ",
               smoothing);
  for (int64_t n = 0; n < shape.n; ++n) {
    for (int64_t k = 0; k < shape.c; ++k) t(n, k) = smoothing / static_cast<double>(shape.c);
    t(n, label_of(label, n, shape.c)) += (1 - smoothing) * share;
    t(n, label_of(other, n, shape.c)) += (1 - smoothing) * (1 - share);
  }
}

void RefBackend::label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) {
  const Shape shape = logits.shape();
  const Elements z("logits", logits, {shape.n, 1, 1, shape.c});
  const auto label = packed_view<int32_t>("labels", labels, {shape.n, 1, 1, 1});
  const auto ranks = packed_view<int32_t>("rank", rank, {shape.n, 1, 1, 1});
  for (int64_t n = 0; n < shape.n; ++n) {
    const int64_t right = label_of(label, n, shape.c);
    bool has_nan = false;
    int32_t above = 0;
    for (int64_t k = 0; k < shape.c; ++k) {
      has_nan = has_nan || std::isnan(z(n, k));
      if (z(n, k) > z(n, right) || (z(n, k) == z(n, right) && k < right)) ++above;
    }
    ranks[n] = has_nan ? static_cast<int32_t>(shape.c) : above;
  }
}

void RefBackend::sgd_step(const std::vector<ParameterUpdate>& updates, const SgdRule& rule, const Tensor& scalars) {
  const Elements scalar = scalars_view(scalars);
  if (scalar[kApply] == 0) return;
  for (const ParameterUpdate& update : updates) {
    const Shape shape = update.weight.shape();
    const auto weight = packed_view("weight", update.weight, shape), grad = packed_view("grad", update.grad, shape);
    const auto velocity = packed_view("momentum", update.momentum, shape);
    const double lr = scalar[kLearningRate] * update.lr_multiplier;
    for (int64_t i = 0; i < shape.elements(); ++i) {
      const double g = grad[i] * scalar[kGradScale] + update.weight_decay * weight[i];
      velocity[i] = rule.momentum * velocity[i] + g;
      weight[i] -= lr * (rule.nesterov ? g + rule.momentum * velocity[i] : velocity[i]);
    }
  }
}

void RefBackend::squared_norm(const std::vector<Tensor>& tensors, const Tensor& sum) {
  double& total = vector_view("sum", sum, 1)[0];
  total = 0;
  for (const Tensor& tensor : tensors) {
    const Elements values("tensor", tensor);
    for (int64_t p = 0; p < tensor.pixels(); ++p)
      for (int64_t c = 0; c < tensor.channels(); ++c) total += values(p, c) * values(p, c);
  }
}

void RefBackend::scale_gradients(const Tensor& squared_norm, double max_norm, bool skip_not_finite,
                                 const Tensor& scalars) {
  const double square = vector_view("squared_norm", squared_norm, 1)[0];
  const Elements scalar = scalars_view(scalars);
  const double norm = std::sqrt(square) / scalar[kLossScale];
  scalar[kGradScale] = (max_norm > 0 && norm > max_norm ? max_norm / norm : 1) / scalar[kLossScale];
  scalar[kApply] = skip_not_finite && (!std::isfinite(square) || scalar[kHalted] != 0) ? 0 : 1;
  scalar[kHalted] = 1 - scalar[kApply];
}

void RefBackend::ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values,
                            const Tensor& scalars) {
  const Elements scalar = scalars_view(scalars);
  if (scalar[kApply] == 0) return;
  const double decay = scalar[kEmaDecay];
  RIFFLE_CHECK(averages.size() == values.size(), averages.size(), " averages, ", values.size(), " values");
  for (size_t t = 0; t < averages.size(); ++t) {
    const Shape shape = averages[t].shape();
    const auto average = packed_view("average", averages[t], shape), value = packed_view("value", values[t], shape);
    for (int64_t i = 0; i < shape.elements(); ++i) average[i] = decay * average[i] + (1 - decay) * value[i];
  }
}

void RefBackend::keep_or_restore(const std::vector<Tensor>& values, const std::vector<Tensor>& kept,
                                 const Tensor& scalars) {
  const bool keep = scalars_view(scalars)[kApply] != 0;
  RIFFLE_CHECK(values.size() == kept.size(), values.size(), " values, ", kept.size(), " kept");
  for (size_t t = 0; t < values.size(); ++t) {
    const Shape shape = values[t].shape();
    const auto value = packed_view("value", values[t], shape), copy = packed_view("kept", kept[t], shape);
    for (int64_t i = 0; i < shape.elements(); ++i) (keep ? copy[i] : value[i]) = keep ? value[i] : copy[i];
  }
}

}  // namespace riffle::reference
