// Batch normalisation. Statistics: each chunk of rows gives shifted sums, merged in order and in double by the formula
// of Chan, Golub and LeVeque (1983), so neither a large mean nor the number of threads harms the variance.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"

namespace riffle {
namespace {

// body(part, first channel).
template <class Body>
void for_each_part(const ChannelParts& parts, const Body& body) {
  int64_t begin = 0;
  for (const Tensor& part : parts.parts()) {
    body(part, begin);
    begin += part.channels();
  }
}

}  // namespace

void CpuBackend::batch_norm_statistics(const Tensor& x, const Tensor& mean, const Tensor& var) {
  const int64_t channels = x.channels();
  check_vectors({&mean, &var}, channels, "batch_norm_statistics");
  const float* px = x.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), channels);
  const Tensor partial = moments_scratch(true, chunks.count(), channels);
  parallel_(chunks.count(), [&](int64_t i) {
    piece_moments(partial, i, channels, px + chunks[i].begin * x.ld(), x.ld(), chunks[i].size(), 0, channels);
  });
  merge_moments(partial, chunks, mean, var);
}

void CpuBackend::piece_moments(const Tensor& partial, int64_t piece, int64_t channels, const float* y, int64_t ld,
                               int64_t pixels, int64_t begin, int64_t count) {
  float* centre = partial.data<float>() + piece * 3 * channels + begin;
  simd_.moments(y, ld, pixels, count, centre, centre + channels, centre + 2 * channels);
}

void CpuBackend::merge_moments(const Tensor& partial, const Chunks& pixels, const Tensor& mean, const Tensor& var) {
  const int64_t channels = mean.channels();
  const float* moments = partial.data<float>();
  float *pmean = mean.data<float>(), *pvar = var.data<float>();
  const Chunks columns{channels, 64};
  parallel_(columns.count(), [&](int64_t block) {
    for (int64_t c = columns[block].begin; c < columns[block].end; ++c) {
      double count = 0, total_mean = 0, m2 = 0;  // m2: sum of squared deviations from the mean
      for (int64_t i = 0; i < pixels.count(); ++i) {
        const float* piece = moments + i * 3 * channels + c;
        const double n = static_cast<double>(pixels[i].size());
        const double sum = piece[channels];
        const double delta = piece[0] + sum / n - total_mean;
        m2 += piece[2 * channels] - sum * sum / n + delta * delta * count * n / (count + n);
        total_mean += delta * n / (count + n);
        count += n;
      }
      pmean[c] = static_cast<float>(total_mean);
      pvar[c] = static_cast<float>(m2 > 0 ? m2 / count : 0 * m2);  // 0 * m2 keeps a NaN
    }
  });
}

void CpuBackend::batch_norm_update_running(const Tensor& mean, const Tensor& var, int64_t pixels, double momentum,
                                           const Tensor& running_mean, const Tensor& running_var) {
  check_vectors({&mean, &var, &running_mean, &running_var}, mean.channels(), "batch_norm_update_running");
  const double unbias = pixels > 1 ? static_cast<double>(pixels) / static_cast<double>(pixels - 1) : 1.0;
  const float *pmean = mean.data<float>(), *pvar = var.data<float>();
  float *running_m = running_mean.data<float>(), *running_v = running_var.data<float>();
  for (int64_t c = 0; c < mean.channels(); ++c) {
    running_m[c] = static_cast<float>((1 - momentum) * running_m[c] + momentum * pmean[c]);
    running_v[c] = static_cast<float>((1 - momentum) * running_v[c] + momentum * unbias * pvar[c]);
  }
}

CpuBackend::NormCoefficients CpuBackend::norm_coefficients(const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                                           const Tensor& beta, double eps) {
  const size_t channels = static_cast<size_t>(mean.channels());
  NormCoefficients k{std::vector<float>(channels), std::vector<float>(channels), {}};
  const float *pvar = var.data<float>(), *pgamma = gamma.data<float>();
  for (size_t c = 0; c < channels; ++c) {
    const double inv_std = 1.0 / std::sqrt(static_cast<double>(pvar[c]) + eps);
    k.inv_std[c] = static_cast<float>(inv_std);
    k.scale[c] = static_cast<float>(pgamma[c] * inv_std);
  }
  k.affine = {mean.data<float>(), k.scale.data(), beta.data<float>()};
  return k;
}

void CpuBackend::batch_norm_apply(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                  const Tensor& beta, double eps, bool relu, const ChannelParts& y) {
  check_parts(y, x.shape(), "batch_norm_apply");
  check_vectors({&mean, &var, &gamma, &beta}, x.channels(), "batch_norm_apply");
  const NormCoefficients k = norm_coefficients(mean, var, gamma, beta, eps);
  const float* px = x.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    for_each_part(y, [&](const Tensor& part, int64_t begin) {
      simd_.affine(px + rows.begin * x.ld() + begin, x.ld(), rows.size(), part.channels(), k.affine.from(begin), relu,
                   part.data<float>() + rows.begin * part.ld(), part.ld());
    });
  });
}

CpuBackend::NormGradient CpuBackend::norm_gradient(const NormCoefficients& k, const float* partial, int64_t parts,
                                                   int64_t channels, int64_t pixels, bool statistics_depend_on_x,
                                                   Write write_params, const Tensor& dgamma, const Tensor& dbeta) {
  const Tensor total = scratch(2 * channels);
  reduce_parts(partial, parts, 2 * channels, Write::kOverwrite, total.data<float>());
  NormGradient gradient{std::vector<float>(static_cast<size_t>(channels), 0.0f),
                        std::vector<float>(static_cast<size_t>(channels), 0.0f)};
  float *pdgamma = dgamma.data<float>(), *pdbeta = dbeta.data<float>();
  const bool accumulate = write_params == Write::kAccumulate;
  for (int64_t c = 0; c < channels; ++c) {
    const size_t at = static_cast<size_t>(c);
    const float sum_g = total.data<float>()[c];
    const float gamma_gradient = total.data<float>()[channels + c] * k.inv_std[at];
    if (statistics_depend_on_x) {
      gradient.offset[at] = -k.scale[at] * sum_g / static_cast<float>(pixels);
      gradient.from_x[at] = -k.scale[at] * k.inv_std[at] * gamma_gradient / static_cast<float>(pixels);
    }
    pdbeta[c] = accumulate ? pdbeta[c] + sum_g : sum_g;
    pdgamma[c] = accumulate ? pdgamma[c] + gamma_gradient : gamma_gradient;
  }
  return gradient;
}

CpuBackend::NormGradient CpuBackend::norm_sums(const Tensor& x, const ChannelParts& dy, const Tensor& known,
                                               const NormCoefficients& k, bool relu, bool statistics_depend_on_x,
                                               Write write_params, const Tensor& dgamma, const Tensor& dbeta) {
  const int64_t channels = x.channels();
  if (known.defined())
    return norm_gradient(k, known.data<float>(), 1, channels, x.pixels(), statistics_depend_on_x, write_params, dgamma,
                         dbeta);
  const float* px = x.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), channels);
  const Tensor partial = scratch(chunks.count() * 2 * channels);
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    float* sums = partial.data<float>() + i * 2 * channels;
    for_each_part(dy, [&](const Tensor& part, int64_t begin) {
      simd_.norm_backward_sums(px + rows.begin * x.ld() + begin, x.ld(), part.data<float>() + rows.begin * part.ld(),
                               part.ld(), rows.size(), part.channels(), k.affine.from(begin), relu, sums + begin,
                               sums + channels + begin);
    });
  });
  return norm_gradient(k, partial.data<float>(), chunks.count(), channels, x.pixels(), statistics_depend_on_x,
                       write_params, dgamma, dbeta);
}

void CpuBackend::norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& sums, const NormCoefficients& k,
                               bool relu, bool statistics_depend_on_x, Write write_params, const Tensor& dx,
                               const Tensor& dgamma, const Tensor& dbeta) {
  const NormGradient gradient = norm_sums(x, dy, sums, k, relu, statistics_depend_on_x, write_params, dgamma, dbeta);
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    norm_backward_rows(x, dy, rows, k, gradient, relu, dx.data<float>() + rows.begin * dx.ld(), dx.ld());
  });
}

void CpuBackend::norm_backward_rows(const Tensor& x, const ChannelParts& dy, Range rows, const NormCoefficients& k,
                                    const NormGradient& gradient, bool relu, float* dx, int64_t lddx) const {
  const float* px = x.data<float>() + rows.begin * x.ld();
  for_each_part(dy, [&](const Tensor& part, int64_t begin) {
    simd_.norm_backward_apply(px + begin, x.ld(), part.data<float>() + rows.begin * part.ld(), part.ld(), rows.size(),
                              part.channels(), k.affine.from(begin), relu, gradient.from_x.data() + begin,
                              gradient.offset.data() + begin, dx + begin, lddx);
  });
}

void CpuBackend::batch_norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& mean, const Tensor& var,
                                     const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                                     const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  check_parts(dy, x.shape(), "batch_norm_backward");
  check_same_shape(x, dx, "batch_norm_backward");
  check_vectors({&mean, &var, &gamma, &beta, &dgamma, &dbeta}, x.channels(), "batch_norm_backward");
  norm_backward(x, dy, Tensor{}, norm_coefficients(mean, var, gamma, beta, eps), relu, true, write_params, dx, dgamma,
                dbeta);
}

void CpuBackend::batch_norm_backward_frozen(const Tensor& x, const ChannelParts& dy, const Tensor& mean,
                                            const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                            bool relu, Write write_params, const Tensor& dx, const Tensor& dgamma,
                                            const Tensor& dbeta) {
  check_parts(dy, x.shape(), "batch_norm_backward_frozen");
  check_same_shape(x, dx, "batch_norm_backward_frozen");
  check_vectors({&mean, &var, &gamma, &beta, &dgamma, &dbeta}, x.channels(), "batch_norm_backward_frozen");
  norm_backward(x, dy, Tensor{}, norm_coefficients(mean, var, gamma, beta, eps), relu, false, write_params, dx, dgamma,
                dbeta);
}

}  // namespace riffle
