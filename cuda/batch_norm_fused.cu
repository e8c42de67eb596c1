// Batch norm and its neighbours: a norm folded into the pointwise convolution after it, and the gradient of a norm
// after a pointwise convolution. Folding saves writing and reading the normalised tensor; its own filters are small.
#include "core/contracts.h"
#include "cuda/batch_norm.h"
#include "cuda/cuda_backend.h"

namespace riffle {
namespace {

constexpr int kWarp = 32, kFiltersPerBlock = 8;

// scaled_w[k,c] = w[k,c]*scale[c]; shift[k] = sum_c w[k,c]*(beta[c] - mean[c]*scale[c]). A warp for each k.
template <class T>
__global__ void __launch_bounds__(kWarp* kFiltersPerBlock)
    fold_norm_kernel(const float* __restrict__ w, int outputs, int inputs, NormVectors norm, T* __restrict__ scaled_w,
                     float* __restrict__ shift) {
  const int k = static_cast<int>(blockIdx.x * kFiltersPerBlock + threadIdx.y);
  if (k >= outputs) return;
  double sum = 0;
  for (int c = static_cast<int>(threadIdx.x); c < inputs; c += kWarp) {
    const float weight = w[int64_t{k} * inputs + c], scale = norm.gamma[c] * inv_std_of(norm, c);
    scaled_w[int64_t{k} * inputs + c] = from_float<T>(weight * scale);
    sum += static_cast<double>(weight) * fmaf(-norm.mean[c], scale, norm.beta[c]);
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (threadIdx.x == 0) shift[k] = static_cast<float>(sum);
}

// See Backend::fold_norm_backward. A thread for each input channel and every kMergeRows-th filter.
__global__ void __launch_bounds__(kMergeLanes* kMergeRows)
    fold_norm_backward_kernel(const float* __restrict__ w, const float* __restrict__ dscaled_w, int outputs, int inputs,
                              NormVectors norm, int64_t pixels, bool accumulate, float* dw, float* dgamma, float* dbeta,
                              float* from_x) {
  const int c = static_cast<int>(blockIdx.x * kMergeLanes + threadIdx.x);
  const bool inside = c < inputs;
  const float inv_std = inside ? inv_std_of(norm, c) : 0.0f, scale = inside ? norm.gamma[c] * inv_std : 0.0f;
  double sum = 0;
  for (int k = static_cast<int>(threadIdx.y); inside && k < outputs; k += kMergeRows) {
    const int64_t at = int64_t{k} * inputs + c;
    const float gradient = dscaled_w[at];
    sum += static_cast<double>(w[at]) * gradient;
    dw[at] = accumulate ? fmaf(gradient, scale, dw[at]) : gradient * scale;
  }
  sum = merged_over_rows(sum);
  if (threadIdx.y > 0 || !inside) return;
  const float gamma_gradient = static_cast<float>(sum * inv_std);
  from_x[c] = -scale * inv_std * gamma_gradient / static_cast<float>(pixels);
  dgamma[c] = accumulate ? dgamma[c] + gamma_gradient : gamma_gradient;
  if (!accumulate) dbeta[c] = 0;
}

}  // namespace

// Composed: dy goes through memory once. Both products read it, each in tiles of its own, so a gradient made on the way
// would be made by hand-written matrix products, twice, or be kept in shared memory by one kernel for both; cuBLASLt
// has no such prologue.
void CudaBackend::pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y,
                                                const ChannelParts& dz, const Tensor& sums, const BatchNormState& norm,
                                                Write write_dx, const Tensor& dx, Write write_params, const Tensor& dw,
                                                const Tensor& dgamma, const Tensor& dbeta) {
  const char* name = "pointwise_batch_norm_backward";
  check_pointwise(x, w, y);
  check_parts(dz, y.shape(), name);
  check_same_shape(w, dw, name);
  check_vectors({&norm.mean, &norm.var, &norm.gamma, &norm.beta, &dgamma, &dbeta}, y.channels(), name);
  if (dx.defined()) check_same_shape(x, dx, name);
  if (sums.defined()) check_norm_sums(sums, y.channels(), name);
  for (const Tensor* output : {&dx, &dw}) {
    check_no_overlap(*output, {&x, &w, &y}, name);
    for (const Tensor& part : dz.parts()) check_no_overlap(*output, {&part}, name);
  }
  const Tensor dy = empty(y.shape());
  norm_backward(y, dz, sums, norm, /*statistics_depend_on_x=*/true, write_params, dy, dgamma, dbeta);
  pointwise_backward_weights(x, dy, write_params, dw);
  if (dx.defined()) pointwise_backward_data(dy, w, write_dx, dx);
}

void CudaBackend::fold_norm(const Tensor& w, const BatchNormState& norm, const Tensor& scaled_w, const Tensor& shift) {
  check_fold_norm(w, scaled_w, norm, "fold_norm");
  check_vectors({&shift}, w.shape().n, "fold_norm");
  dispatch_dtype(scaled_w.dtype(), [&](auto element) {
    using T = decltype(element);
    launch("fold_norm", fold_norm_kernel<T>, dim3(static_cast<unsigned>(divide_up(w.shape().n, kFiltersPerBlock))),
           dim3(kWarp, kFiltersPerBlock), 0, w.data<float>(), w.shape().n, w.channels(), norm_vectors(norm),
           scaled_w.data<T>(), shift.data<float>());
  });
}

void CudaBackend::fold_norm_backward(const Tensor& w, const Tensor& dscaled_w, const BatchNormState& norm,
                                     int64_t pixels, Write write_params, const Tensor& dw, const Tensor& dgamma,
                                     const Tensor& dbeta, const Tensor& from_x) {
  check_fold_norm(w, dscaled_w, norm, "fold_norm_backward");
  check_fold_norm(w, dw, norm, "fold_norm_backward");
  check_vectors({&dgamma, &dbeta, &from_x}, w.channels(), "fold_norm_backward");
  launch("fold_norm_backward", fold_norm_backward_kernel, merge_grid(w.channels()), dim3(kMergeLanes, kMergeRows), 0,
         w.data<float>(), dscaled_w.data<float>(), w.shape().n, w.channels(), norm_vectors(norm), pixels,
         write_params == Write::kAccumulate, dw.data<float>(), dgamma.data<float>(), dbeta.data<float>(),
         from_x.data<float>());
}

}  // namespace riffle
