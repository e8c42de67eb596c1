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

}  // namespace

void CpuBackend::softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                                       const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  check_labels(logits, labels);
  RIFFLE_CHECK(loss.shape() == labels.shape() && loss.packed(), "loss must be a packed ", labels.shape(), ", got ",
               loss.shape(), " with row pitch ", loss.ld());
  if (dlogits.defined()) check_same_shape(logits, dlogits, "softmax_cross_entropy");
  if (scalars.defined()) check_scalars(scalars, "softmax_cross_entropy");
  const double scale = grad_scale * (scalars.defined() ? scalars.data<float>()[kLossScale] : 1.0f);
  const int64_t classes = logits.channels();
  const float* x = logits.data<float>();
  const int32_t* label = labels.data<int32_t>();
  float* out = loss.data<float>();
  parallel_(logits.shape().n, [&](int64_t n) {
    const float* row = x + n * logits.ld();
    const int64_t target = checked_label(label, n, classes);
    // -sum_k t_k log p_k with t = (1-s) onehot + s/K is lse - (1-s) x_target - s * mean(x), lse = log sum exp x; here with
    // all x less the largest.
    const float largest = *std::max_element(row, row + classes);
    double sum = 0, total = 0;
    for (int64_t k = 0; k < classes; ++k) {
      sum += std::exp(static_cast<double>(row[k] - largest));
      total += row[k] - static_cast<double>(largest);
    }
    const double log_sum = std::log(sum);  // lse - largest; apart from it, for beside a huge one it would be lost
    // Without smoothing the sum of all logits must not count: 0 times an infinite one is not 0.
    const double smooth = smoothing > 0 ? smoothing * total / static_cast<double>(classes) : 0;
    out[n] = static_cast<float>(log_sum - (1 - smoothing) * (row[target] - static_cast<double>(largest)) - smooth);
    if (!dlogits.defined()) return;
    float* gradient = dlogits.data<float>() + n * dlogits.ld();
    const double off_target = smoothing / static_cast<double>(classes);
    for (int64_t k = 0; k < classes; ++k) {
      const double wanted = off_target + (k == target ? 1 - smoothing : 0);
      gradient[k] = static_cast<float>(scale * (std::exp(row[k] - static_cast<double>(largest) - log_sum) - wanted));
    }
  });
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
