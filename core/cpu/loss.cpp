// Softmax cross-entropy and the rank of the label.
#include <algorithm>
#include <cmath>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"

namespace riffle {
namespace {

int64_t checked_label(const int32_t* labels, int64_t n, int64_t classes) {
  RIFFLE_CHECK(labels[n] >= 0 && labels[n] < classes, "label ", labels[n], " of image ", n, " is not in 0 .. ",
               classes - 1);
  return labels[n];
}

// Of one row, with t = target(k): loss = (sum t) log sum exp x - sum t x. With d_k = max(x) - x_k >= 0 it is
// (sum t) log sum exp(-d) + sum t d, where no term cancels another, however large the logits. gradient may be null.
template <class Target>
double row_cross_entropy(const float* row, int64_t classes, const Target& target, double scale, float* gradient) {
  const double largest = *std::max_element(row, row + classes);
  double sum = 0, target_sum = 0, distance = 0;
  for (int64_t k = 0; k < classes; ++k) {
    const double below = largest - row[k], t = target(k);
    sum += std::exp(-below);
    target_sum += t;
    if (t != 0) distance += t * below;  // 0 times an infinite one is 0 here
  }
  const double log_sum = std::log(sum);
  if (gradient != nullptr)
    for (int64_t k = 0; k < classes; ++k)
      gradient[k] = static_cast<float>(scale * (target_sum * std::exp(row[k] - largest - log_sum) - target(k)));
  return target_sum * log_sum + distance;
}

// row_targets(n) gives the target of image n, for row_cross_entropy.
template <class RowTargets>
void cross_entropy(Parallel& parallel, const Tensor& logits, const RowTargets& row_targets, double grad_scale,
                   const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  const double scale = grad_scale * (scalars.defined() ? scalars.data<float>()[kLossScale] : 1.0f);
  const float* x = logits.data<float>();
  float *out = loss.data<float>(), *dx = dlogits.defined() ? dlogits.data<float>() : nullptr;
  parallel(logits.shape().n, [&](int64_t n) {
    float* const gradient = dx == nullptr ? nullptr : dx + n * dlogits.ld();
    out[n] =
        static_cast<float>(row_cross_entropy(x + n * logits.ld(), logits.channels(), row_targets(n), scale, gradient));
  });
}

}  // namespace

void CpuBackend::softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                                       const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  check_labels(logits, labels);
  check_losses(logits, labels, scalars, loss, dlogits, "softmax_cross_entropy");
  const int64_t classes = logits.channels();
  const int32_t* label = labels.data<int32_t>();
  const double off_label = smoothing / static_cast<double>(classes), on_label = off_label + (1 - smoothing);
  const auto smoothed_label = [&](int64_t n) {
    return [=, right = checked_label(label, n, classes)](int64_t k) { return k == right ? on_label : off_label; };
  };
  cross_entropy(parallel_, logits, smoothed_label, grad_scale, scalars, loss, dlogits);
}

void CpuBackend::soft_cross_entropy(const Tensor& logits, const Tensor& targets, double grad_scale,
                                    const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  check_targets(logits, targets);
  check_losses(logits, targets, scalars, loss, dlogits, "soft_cross_entropy");
  const auto row_of_targets = [t = targets.data<float>(), ld = targets.ld()](int64_t n) {
    return [row = t + n * ld](int64_t k) { return static_cast<double>(row[k]); };
  };
  cross_entropy(parallel_, logits, row_of_targets, grad_scale, scalars, loss, dlogits);
}

void CpuBackend::label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) {
  check_labels(logits, labels);
  RIFFLE_CHECK(rank.dtype() == DType::kI32 && rank.shape() == labels.shape() && rank.packed(),
               "rank must be a packed i32 ", labels.shape(), ", got ", rank.dtype(), " ", rank.shape());
  const int64_t classes = logits.channels();
  const float* x = logits.data<float>();
  const int32_t* label = labels.data<int32_t>();
  int32_t* out = rank.data<int32_t>();
  parallel_(logits.shape().n, [&](int64_t n) {
    const float* row = x + n * logits.ld();
    const int64_t target = checked_label(label, n, classes);
    int32_t above = 0;
    bool has_nan = false;
    for (int64_t k = 0; k < classes; ++k) {
      has_nan = has_nan || std::isnan(row[k]);
      above += row[k] > row[target] || (row[k] == row[target] && k < target);
    }
    out[n] = has_nan ? static_cast<int32_t>(classes) : above;
  });
}

}  // namespace riffle
