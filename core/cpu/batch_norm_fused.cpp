// Batch norm fused with its neighbours: with the pooling after it, and backward with the pointwise convolution before it.
// The tensors in between are the largest of a training step, which is bound by memory, and are never written.
#include <algorithm>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/cpu/gemm.h"
#include "core/cpu/row_geometry.h"

namespace riffle {
namespace {

constexpr int64_t kRows = 256;  // of the gradient of y at a time: it stays in the second-level cache
// Above this many weights a sum of dw for each part of the pixels costs more than the fusion saves.
constexpr int64_t kLargestFilter = int64_t{1} << 17;

}  // namespace

void CpuBackend::pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y,
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
  const NormCoefficients k = norm_coefficients(norm);
  if (w.elements() > kLargestFilter) {
    const Tensor dy = empty(y.shape());
    norm_backward(y, dz, sums, k, norm.relu, /*statistics_depend_on_x=*/true, write_params, dy, dgamma, dbeta);
    pointwise_backward_weights(x, dy, write_params, dw);
    if (dx.defined()) pointwise_backward_data(dy, w, write_dx, dx);
    return;
  }
  const NormGradient gradient =
      norm_sums(y, dz, sums, k, norm.relu, /*statistics_depend_on_x=*/true, write_params, dgamma, dbeta);

  const int64_t inputs = x.channels(), outputs = y.channels(), pixels = x.pixels();
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* pdx = dx.defined() ? dx.data<float>() : nullptr;
  // Parts of the pixels, each with its own sum of dw, added up in order.
  const Chunks parts{pixels, divide_up(pixels, std::min<int64_t>(16, divide_up(pixels, 64)))};
  const Tensor partial = scratch(parts.count() * inputs * outputs);
  const Tensor gradients = scratch(parallel_.threads() * kRows * outputs);
  parallel_(parts.count(), [&](int64_t part, int thread) {
    float* g = gradients.data<float>() + thread * kRows * outputs;
    float* sum = partial.data<float>() + part * inputs * outputs;
    for (int64_t begin = parts[part].begin; begin < parts[part].end; begin += kRows) {
      const int64_t rows = std::min(kRows, parts[part].end - begin);
      norm_backward_rows(y, dz, {begin, begin + rows}, k, gradient, norm.relu, g, outputs);
      gemm_(Transpose::kYes, Transpose::kNo, outputs, inputs, rows, g, outputs, px + begin * x.ld(), x.ld(),
            begin > parts[part].begin, sum, inputs);
      if (pdx)
        gemm_(Transpose::kNo, Transpose::kNo, rows, inputs, outputs, g, outputs, pw, inputs,
              write_dx == Write::kAccumulate, pdx + begin * dx.ld(), dx.ld());
    }
  });
  reduce_parts(partial.data<float>(), parts.count(), inputs * outputs, write_params, dw.data<float>());
}

void CpuBackend::fold_norm(const Tensor& w, const BatchNormState& norm, const Tensor& scaled_w, const Tensor& shift) {
  check_fold_norm(w, scaled_w, norm, "fold_norm");
  check_vectors({&shift}, w.shape().n, "fold_norm");
  const NormCoefficients k = norm_coefficients(norm);
  const int64_t inputs = w.channels();
  std::vector<float> offset(static_cast<size_t>(inputs));  // beta - mean*scale
  for (int64_t c = 0; c < inputs; ++c)
    offset[static_cast<size_t>(c)] = k.affine.shift[c] - k.affine.mean[c] * k.affine.scale[c];
  parallel_(w.shape().n, [&](int64_t row) {
    const float* from = w.data<float>() + row * inputs;
    float* to = scaled_w.data<float>() + row * inputs;
    double sum = 0;
    for (int64_t c = 0; c < inputs; ++c) {
      to[c] = from[c] * k.affine.scale[c];
      sum += static_cast<double>(from[c]) * offset[static_cast<size_t>(c)];
    }
    shift.data<float>()[row] = static_cast<float>(sum);
  });
}

void CpuBackend::fold_norm_backward(const Tensor& w, const Tensor& dscaled_w, const BatchNormState& norm,
                                    int64_t pixels, Write write_params, const Tensor& dw, const Tensor& dgamma,
                                    const Tensor& dbeta, const Tensor& from_x) {
  check_fold_norm(w, dscaled_w, norm, "fold_norm_backward");
  check_fold_norm(w, dw, norm, "fold_norm_backward");
  check_vectors({&dgamma, &dbeta, &from_x}, w.channels(), "fold_norm_backward");
  const NormCoefficients k = norm_coefficients(norm);
  const int64_t inputs = w.channels(), outputs = w.shape().n;
  const float *pw = w.data<float>(), *pds = dscaled_w.data<float>();
  float* pdw = dw.data<float>();
  const bool accumulate = write_params == Write::kAccumulate;
  const Chunks columns{inputs, 32};
  parallel_(columns.count(), [&](int64_t block) {
    const Range range = columns[block];
    double sums[32] = {};
    for (int64_t row = 0; row < outputs; ++row)
      for (int64_t c = range.begin; c < range.end; ++c) {
        const int64_t at = row * inputs + c;
        sums[c - range.begin] += static_cast<double>(pw[at]) * pds[at];
        pdw[at] = pds[at] * k.affine.scale[c] + (accumulate ? pdw[at] : 0.0f);
      }
    for (int64_t c = range.begin; c < range.end; ++c) {
      const float inv_std = k.inv_std[static_cast<size_t>(c)];
      const auto gradient = static_cast<float>(sums[c - range.begin] * inv_std);
      from_x.data<float>()[c] = -k.affine.scale[c] * inv_std * gradient / static_cast<float>(pixels);
      dgamma.data<float>()[c] = gradient + (accumulate ? dgamma.data<float>()[c] : 0.0f);
      if (!accumulate) dbeta.data<float>()[c] = 0;
    }
  });
}

void CpuBackend::batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                     const Tensor& beta, double eps, const Window& window, const Tensor& y,
                                     const Tensor& winner) {
  check_max_pool(x, window, y, winner, "batch_norm_max_pool");
  check_vectors({&mean, &var, &gamma, &beta}, x.channels(), "batch_norm_max_pool");
  const NormCoefficients k = norm_coefficients(mean, var, gamma, beta, eps);
  const RowGeometry g = row_geometry(x, window, y);
  const float* px = x.data<float>();
  float* py = y.data<float>();
  uint8_t* pwinner = winner.data<uint8_t>();
  parallel_.each(image_rows(y.shape().n * g.out_height, g.out_width, g.channels), [&](int64_t row) {
    simd_.norm_max_pool_row(px + row / g.out_height * g.height * g.width * x.ld(), x.ld(), k.affine, g,
                            row % g.out_height, py + row * g.out_width * y.ld(), y.ld(),
                            pwinner + row * g.out_width * g.channels);
  });
}

void CpuBackend::batch_norm_max_pool_backward(const Tensor& x, const Tensor& dy, const Tensor& winner,
                                              const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                              const Tensor& beta, double eps, const Window& window, Write write_params,
                                              const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  check_max_pool(x, window, dy, winner, "batch_norm_max_pool_backward");
  check_same_shape(x, dx, "batch_norm_max_pool_backward");
  check_no_overlap(dx, {&x, &dy}, "batch_norm_max_pool_backward");
  check_vectors({&mean, &var, &gamma, &beta, &dgamma, &dbeta}, x.channels(), "batch_norm_max_pool_backward");
  const NormCoefficients k = norm_coefficients(mean, var, gamma, beta, eps);
  const NormGradient gradient = norm_max_pool_sums(x, dy, winner, k, window, write_params, dgamma, dbeta);
  const RowGeometry g = row_geometry(x, window, dy);
  parallel_.each(image_rows(x.shape().n * g.height, g.width, g.channels), [&](int64_t row) {
    norm_max_pool_data_row(x, dy, winner, k, gradient, g, row, dx.data<float>() + row * g.width * dx.ld(), dx.ld());
  });
}

CpuBackend::NormGradient CpuBackend::norm_max_pool_sums(const Tensor& x, const Tensor& dy, const Tensor& winner,
                                                        const NormCoefficients& k, const Window& window,
                                                        Write write_params, const Tensor& dgamma, const Tensor& dbeta) {
  const RowGeometry g = row_geometry(x, window, dy);
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  const uint8_t* pwinner = winner.data<uint8_t>();
  const Chunks chunks{dy.shape().n * g.out_height, 8};
  const Tensor partial = scratch(chunks.count() * 2 * g.channels);
  parallel_(chunks.count(), [&](int64_t i) {
    float* sums = partial.data<float>() + i * 2 * g.channels;
    std::fill_n(sums, 2 * g.channels, 0.0f);
    for (int64_t row = chunks[i].begin; row < chunks[i].end; ++row)
      simd_.norm_max_pool_sums_row(px + row / g.out_height * g.height * g.width * x.ld(), x.ld(),
                                   pdy + row * g.out_width * dy.ld(), dy.ld(), pwinner + row * g.out_width * g.channels,
                                   k.affine, g, row % g.out_height, sums, sums + g.channels);
  });
  return norm_gradient(k, partial.data<float>(), chunks.count(), g.channels, x.pixels(),
                       /*statistics_depend_on_x=*/true, write_params, dgamma, dbeta);
}

void CpuBackend::norm_max_pool_data_row(const Tensor& x, const Tensor& dy, const Tensor& winner,
                                        const NormCoefficients& k, const NormGradient& gradient, const RowGeometry& g,
                                        int64_t row, float* dx, int64_t lddx) const {
  const int64_t n = row / g.height, out_pixels = g.out_height * g.out_width;
  simd_.norm_max_pool_data_row(x.data<float>() + row * g.width * x.ld(), x.ld(),
                               dy.data<float>() + n * out_pixels * dy.ld(), dy.ld(),
                               winner.data<uint8_t>() + n * out_pixels * g.channels, k.affine, gradient.from_x.data(),
                               gradient.offset.data(), g, row % g.height, dx, lddx);
}

}  // namespace riffle
