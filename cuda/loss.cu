// Softmax cross-entropy and the rank of the label, a warp a row of logits. A kernel cannot throw, so a label outside
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

// With t = (1-s) onehot + s/K and d_k = max(x) - x_k >= 0, the loss -sum_k t_k log p_k is
// log sum_k exp(-d_k) + (1-s) d_label + s mean(d): no term cancels another, however large the logits. `scalars` and
// dlogits.data may be null.
template <class T>
__global__ void softmax_cross_entropy_kernel(PixelRows<const T> logits, const int32_t* labels, int rows, int classes,
                                             float smoothing, float grad_scale, const float* scalars, float* loss,
                                             PixelRows<T> dlogits) {
  const int n = static_cast<int>(blockIdx.x * kRowsPerBlock + threadIdx.y), lane = static_cast<int>(threadIdx.x);
  if (n >= rows) return;
  float largest = -INFINITY;  // a NaN does not count here, and turns the sum of exponentials into one
  for (int k = lane; k < classes; k += kWarp) largest = fmaxf(largest, to_float(*logits.at(n, k)));
  largest = warp_max(largest);
  double sum = 0, distances = 0;
  for (int k = lane; k < classes; k += kWarp) {
    const float distance = largest - to_float(*logits.at(n, k));
    sum += expf(-distance);
    distances += distance;
  }
  sum = warp_sum(sum);
  distances = warp_sum(distances);
  const int label = labels[n];
  const bool valid = label >= 0 && label < classes;
  if (lane == 0) {
    const double to_label = valid ? largest - to_float(*logits.at(n, label)) : NAN;
    // Without smoothing the mean of all must not count: 0 times an infinite one is not 0.
    const double smooth = smoothing > 0 ? smoothing * distances / classes : 0;
    loss[n] = static_cast<float>(log(sum) + (1 - static_cast<double>(smoothing)) * to_label + smooth);
  }
  if (dlogits.data == nullptr) return;
  const float scale = !valid ? NAN : scalars == nullptr ? grad_scale : grad_scale * scalars[kLossScale];
  const float off_label = smoothing / static_cast<float>(classes), on_label = off_label + (1 - smoothing);
  const auto normaliser = static_cast<float>(1 / sum);
  for (int k = lane; k < classes; k += kWarp) {
    const float probability = expf(to_float(*logits.at(n, k)) - largest) * normaliser;
    *dlogits.at(n, k) = from_float<T>(scale * (probability - (k == label ? on_label : off_label)));
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

void CudaBackend::softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                                        const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) {
  check_labels(logits, labels);
  RIFFLE_CHECK(loss.shape() == labels.shape() && loss.packed(), "loss must be a packed ", labels.shape(), ", got ",
               loss.shape(), " with row pitch ", loss.ld());
  if (dlogits.defined()) check_same_shape(logits, dlogits, "softmax_cross_entropy");
  check_no_overlap(dlogits, {&logits}, "softmax_cross_entropy");
  if (scalars.defined()) check_scalars(scalars, "softmax_cross_entropy");
  dispatch_dtype(dtype(), [&](auto sample) {
    using T = decltype(sample);
    launch("softmax_cross_entropy", softmax_cross_entropy_kernel<T>, grid_of_rows(logits.shape().n),
           dim3(kWarp, kRowsPerBlock), 0, rows_of<const T>(logits), labels.data<int32_t>(), logits.shape().n,
           logits.channels(), smoothing, grad_scale, scalars.defined() ? scalars.data<float>() : nullptr,
           loss.data<float>(), dlogits.defined() ? rows_of<T>(dlogits) : PixelRows<T>{nullptr, 0});
  });
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
