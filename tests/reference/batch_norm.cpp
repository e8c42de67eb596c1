// The reference: batch normalisation and its two gradients, formula by formula.
#include <cmath>

#include "tests/reference/declarations.h"
#include "tests/reference/views.h"

namespace riffle::reference {
namespace {

// What a backward pass needs, checked once.
struct BackwardArguments {
  Elements x, dy, mean, var, gamma, beta, dx, dgamma, dbeta;
  double eps;
  bool relu;

  double inv_std(int64_t c) const { return 1 / std::sqrt(var[c] + eps); }
  double normalised(int64_t p, int64_t c) const { return (x(p, c) - mean[c]) * inv_std(c); }
  // dy behind the ReLU.
  double masked(int64_t p, int64_t c) const {
    const double y = normalised(p, c) * gamma[c] + beta[c];
    return relu && !(y > 0) ? 0 : dy(p, c);
  }
};

BackwardArguments check_backward(const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& var,
                                 const Tensor& gamma, const Tensor& beta, double eps, bool relu, const Tensor& dx,
                                 const Tensor& dgamma, const Tensor& dbeta) {
  check_disjoint("dx", dx, {x, mean, var, gamma, beta, dgamma, dbeta});
  check_same_or_disjoint("dx", dx, dy);
  check_disjoint("dgamma", dgamma, {x, dy, mean, var, gamma, beta, dbeta});
  check_disjoint("dbeta", dbeta, {x, dy, mean, var, gamma, beta});
  const int64_t channels = x.channels();
  return {Elements("x", x),
          Elements("dy", dy, x.shape()),
          vector_view("mean", mean, channels),
          vector_view("var", var, channels),
          vector_view("gamma", gamma, channels),
          vector_view("beta", beta, channels),
          Elements("dx", dx, x.shape()),
          vector_view("dgamma", dgamma, channels),
          vector_view("dbeta", dbeta, channels),
          eps,
          relu};
}

struct ChannelGradients {
  double dgamma = 0, dbeta = 0;
};

ChannelGradients channel_gradients(const BackwardArguments& a, int64_t c) {
  ChannelGradients sums;
  for (int64_t p = 0; p < a.x.pixels(); ++p) {
    sums.dbeta += a.masked(p, c);
    sums.dgamma += a.masked(p, c) * a.normalised(p, c);
  }
  return sums;
}

}  // namespace

void RefBackend::batch_norm_statistics(const Tensor& x, const Tensor& mean, const Tensor& var) {
  check_disjoint("mean", mean, {x, var});
  check_disjoint("var", var, {x});
  const Elements xs("x", x);
  const auto means = vector_view("mean", mean, x.channels()), vars = vector_view("var", var, x.channels());
  const auto pixels = static_cast<double>(x.pixels());
  for (int64_t c = 0; c < x.channels(); ++c) {
    double sum = 0;
    for (int64_t p = 0; p < x.pixels(); ++p) sum += xs(p, c);
    means[c] = sum / pixels;
    double squares = 0;
    for (int64_t p = 0; p < x.pixels(); ++p) squares += (xs(p, c) - means[c]) * (xs(p, c) - means[c]);
    vars[c] = squares / pixels;
  }
}

void RefBackend::batch_norm_update_running(const Tensor& mean, const Tensor& var, int64_t pixels, double momentum,
                                           const Tensor& running_mean, const Tensor& running_var) {
  const int64_t channels = mean.channels();
  check_disjoint("running_mean", running_mean, {mean, var, running_var});
  check_disjoint("running_var", running_var, {mean, var});
  const auto means = vector_view("mean", mean, channels), vars = vector_view("var", var, channels);
  const auto running_means = vector_view("running_mean", running_mean, channels);
  const auto running_vars = vector_view("running_var", running_var, channels);
  RIFFLE_CHECK(pixels > 0, "pixels = ", pixels);
  const double unbiased = pixels > 1 ? static_cast<double>(pixels) / static_cast<double>(pixels - 1) : 1;
  for (int64_t c = 0; c < channels; ++c) {
    running_means[c] = (1 - momentum) * running_means[c] + momentum * means[c];
    running_vars[c] = (1 - momentum) * running_vars[c] + momentum * vars[c] * unbiased;
  }
}

void RefBackend::batch_norm_apply(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                  const Tensor& beta, double eps, bool relu, const Tensor& y) {
  check_same_or_disjoint("y", y, x);
  check_disjoint("y", y, {mean, var, gamma, beta});
  const Elements xs("x", x), ys("y", y, x.shape());
  const auto means = vector_view("mean", mean, x.channels()), vars = vector_view("var", var, x.channels());
  const auto gammas = vector_view("gamma", gamma, x.channels()), betas = vector_view("beta", beta, x.channels());
  for (int64_t p = 0; p < x.pixels(); ++p)
    for (int64_t c = 0; c < x.channels(); ++c) {
      const double value = (xs(p, c) - means[c]) / std::sqrt(vars[c] + eps) * gammas[c] + betas[c];
      ys(p, c) = relu && value < 0 ? 0 : value;
    }
}

void RefBackend::batch_norm_backward(const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& var,
                                     const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                                     const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  const auto a = check_backward(x, dy, mean, var, gamma, beta, eps, relu, dx, dgamma, dbeta);
  const auto pixels = static_cast<double>(x.pixels());
  for (int64_t c = 0; c < x.channels(); ++c) {
    const ChannelGradients sums = channel_gradients(a, c);
    for (int64_t p = 0; p < x.pixels(); ++p) {
      const double centred = a.masked(p, c) - sums.dbeta / pixels - a.normalised(p, c) * sums.dgamma / pixels;
      a.dx(p, c) = a.gamma[c] * a.inv_std(c) * centred;
    }
    store(a.dgamma[c], sums.dgamma, write_params);
    store(a.dbeta[c], sums.dbeta, write_params);
  }
}

void RefBackend::batch_norm_backward_frozen(const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& var,
                                            const Tensor& gamma, const Tensor& beta, double eps, bool relu,
                                            Write write_params, const Tensor& dx, const Tensor& dgamma,
                                            const Tensor& dbeta) {
  const auto a = check_backward(x, dy, mean, var, gamma, beta, eps, relu, dx, dgamma, dbeta);
  for (int64_t c = 0; c < x.channels(); ++c) {
    const ChannelGradients sums = channel_gradients(a, c);
    for (int64_t p = 0; p < x.pixels(); ++p) a.dx(p, c) = a.gamma[c] * a.inv_std(c) * a.masked(p, c);
    store(a.dgamma[c], sums.dgamma, write_params);
    store(a.dbeta[c], sums.dbeta, write_params);
  }
}

// The definition: the operations it fuses, one after the other.
void RefBackend::pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& dz,
                                               const BatchNormState& norm, Write write_dx, const Tensor& dx,
                                               Write write_params, const Tensor& dw, const Tensor& dgamma,
                                               const Tensor& dbeta) {
  const Tensor dy = empty(y.shape());
  batch_norm_backward(y, dz, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, norm.relu, write_params, dy, dgamma,
                      dbeta);
  pointwise_backward_weights(x, dy, write_params, dw);
  if (dx.defined()) pointwise_backward_data(dy, w, write_dx, dx);
}

}  // namespace riffle::reference
