// Cross-entropy of softmax and the rank of the label, a warp a row of logits. A kernel cannot throw, so a label outside
// 0 .. K-1 shows in the results: its row's loss and gradient are NaN, its rank is K, never correct. Loaders check
// labels on the host.
#include <cmath>

#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/pixel_rows.h"

namespace riffle {
namespace {

constexpr int kWarp = 32, kRowsPerBlock = 4;
constexpr unsigned kAllLanes = 0xffffffffu;

// The same on all lanes, and in the same order every time.
template <class V>
__device__ V warp_sum(V value) {
  GPU_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

__device__ float warp_max(float value) {
  GPU_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// Targets of a cross-entropy: row(n)[k] is what class k of row n should have as its probability.
struct SmoothedLabels {
  struct Row {
    int label;
    float on_label, off_label;
    __device__ float operator[](int k) const { return k == label ? on_label : off_label; }
  };

  const int32_t* labels;
  int classes;
  float on_label, off_label;

  __device__ Row row(int n) const {
    const int label = labels[n];
    const bool valid = label >= 0 && label < classes;
    return {label, valid ? on_label : NAN, valid ? off_label : NAN};
  }
};

struct SoftTargets {
  PixelRows<const float> targets;

  __device__ const float* row(int n) const { return targets.at(n, 0); }
};

// With d_k = max(x) - x_k >= 0, the loss -sum_k t_k log p_k is (sum t) log sum_k exp(-d_k) + sum_k t_k d_k: no term
// cancels another, however large the logits. `scalars` and dlogits.data may be null.
template <class T, class Targets>
__global__ void cross_entropy_kernel(PixelRows<const T> logits, Targets targets, int rows, int classes,
                                     float grad_scale, const float* scalars, float* loss, PixelRows<T> dlogits) {
  const int n = static_cast<int>(blockIdx.x * kRowsPerBlock + threadIdx.y), lane = static_cast<int>(threadIdx.x);
  if (n >= rows) return;
  float largest = -INFINITY;  // a NaN does not count here, and turns the sum of exponentials into one
  for (int k = lane; k < classes; k += kWarp) largest = fmaxf(largest, to_float(*logits.at(n, k)));
  largest = warp_max(largest);
  const auto target = targets.row(n);
  double sum = 0, target_sum = 0, distances = 0;
  for (int k = lane; k < classes; k += kWarp) {
    const float distance = largest - to_float(*logits.at(n, k)), t = target[k];
    sum += expf(-distance);
    target_sum += t;
    if (t != 0) distances += static_cast<double>(t) * distance;  // 0 times an infinite one is 0 here
  }
  sum = warp_sum(sum);
  target_sum = warp_sum(target_sum);
  distances = warp_sum(distances);
  if (lane == 0) loss[n] = static_cast<float>(target_sum * log(sum) + distances);
  if (dlogits.data == nullptr) return;
  const float scale = scalars == nullptr ? grad_scale : grad_scale * scalars[kLossScale];
  const auto normaliser = static_cast<float>(target_sum / sum);
  for (int k = lane; k < classes; k += kWarp) {
    const float probability = expf(to_float(*logits.at(n, k)) - largest) * normaliser;
    *dlogits.at(n, k) = from_float<T>(scale * (probability - target[k]));
  }
}

template <class T>
__global__ void label_rank_kernel(PixelRows<const T> logits, const int32_t* labels, int rows, int classes,
                                  int32_t* ranks) {
  const int n = static_cast<int>(blockIdx.x * kRowsPerBlock + threadIdx.y), lane = static_cast<int>(threadIdx.x);
  if (n >= rows) return;
  const int label = labels[n];
  const bool valid = label >= 0 && label < classes;
  const float score = valid ? to_float(*logits.at(n, label)) : NAN;
  int above = 0;
  bool wrong = !valid;
  for (int k = lane; k < classes; k += kWarp) {
    const float other = to_float(*logits.at(n, k));
    wrong = wrong || other != other;
    above += other > score || (other == score && k < label) ? 1 : 0;
  }
  above = warp_sum(above);
  wrong = __any_sync(kAllLanes, wrong) != 0;
  if (lane == 0) ranks[n] = wrong ? classes : above;
}

dim3 grid_of_rows(int64_t rows) {
  return dim3(static_cast<unsigned>((rows + kRowsPerBlock - 1) / kRowsPerBlock));
}

}  // namespace

template <class Targets>
void CudaBackend::cross_entropy(const char* name, const Tensor& logits, const Targets& targets, double grad_scale,
                                const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  dispatch_dtype(dtype(), [&](auto sample) {
    using T = decltype(sample);
    launch(name, cross_entropy_kernel<T, Targets>, grid_of_rows(logits.shape().n), dim3(kWarp, kRowsPerBlock), 0,
           rows_of<const T>(logits), targets, logits.shape().n, logits.channels(), grad_scale,
           scalars.defined() ? scalars.data<float>() : nullptr, loss.data<float>(),
           dlogits.defined() ? rows_of<T>(dlogits) : PixelRows<T>{nullptr, 0});
  });
}

void CudaBackend::softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                                        const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  check_labels(logits, labels);
  check_losses(logits, labels, scalars, loss, dlogits, "softmax_cross_entropy");
  const double off_label = smoothing / static_cast<double>(logits.channels()), on_label = off_label + (1 - smoothing);
  const SmoothedLabels targets{labels.data<int32_t>(), static_cast<int>(logits.channels()),
                               static_cast<float>(on_label), static_cast<float>(off_label)};
  cross_entropy("softmax_cross_entropy", logits, targets, grad_scale, scalars, loss, dlogits);
}

void CudaBackend::soft_cross_entropy(const Tensor& logits, const Tensor& targets, double grad_scale,
                                     const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  check_targets(logits, targets);
  check_losses(logits, targets, scalars, loss, dlogits, "soft_cross_entropy");
  cross_entropy("soft_cross_entropy", logits, SoftTargets{rows_of<const float>(targets)}, grad_scale, scalars, loss,
                dlogits);
}

void CudaBackend::label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) {
  check_labels(logits, labels);
  RIFFLE_CHECK(rank.shape() == labels.shape() && rank.packed(), "rank must be a packed i32 ", labels.shape(), ", got ",
               rank.dtype(), " ", rank.shape());
  dispatch_dtype(dtype(), [&](auto sample) {
    using T = decltype(sample);
    launch("label_rank", label_rank_kernel<T>, grid_of_rows(logits.shape().n), dim3(kWarp, kRowsPerBlock), 0,
           rows_of<const T>(logits), labels.data<int32_t>(), logits.shape().n, logits.channels(), rank.data<int32_t>());
  });
}

}  // namespace riffle
