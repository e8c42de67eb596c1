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

struct FoldedNorm {
  FoldedNorm(const Tensor& filter, const BatchNormState& norm)
      : w("w", filter),
        mean(vector_view("mean", norm.mean, filter.channels())),
        var(vector_view("var", norm.var, filter.channels())),
        gamma(vector_view("gamma", norm.gamma, filter.channels())),
        beta(vector_view("beta", norm.beta, filter.channels())),
        eps(norm.eps) {
    RIFFLE_CHECK(!norm.relu && filter.packed(), "only a norm without ReLU folds, into packed filters");
  }

  double inv_std(int64_t c) const { return 1 / std::sqrt(var[c] + eps); }
  double scale(int64_t c) const { return gamma[c] * inv_std(c); }

  Elements w, mean, var, gamma, beta;
  double eps;
};

void check_3x3(const Window& window) {
  RIFFLE_CHECK(window.kernel_h == 3 && window.kernel_w == 3, "the window is ", window.kernel_h, "x", window.kernel_w,
               ", expected 3x3");
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
                                  const Tensor& beta, double eps, bool relu, const ChannelParts& parts) {
  RIFFLE_CHECK(parts.shape() == x.shape(), "y is ", parts.shape(), ", expected ", x.shape());
  const Tensor y = parts.parts().size() == 1 ? parts.parts().front() : empty(x.shape());
  for (const Tensor& part : parts.parts()) check_disjoint("y", part, {mean, var, gamma, beta});
  check_same_or_disjoint("y", y, x);
  const Elements xs("x", x), ys("y", y);
  const auto means = vector_view("mean", mean, x.channels()), vars = vector_view("var", var, x.channels());
  const auto gammas = vector_view("gamma", gamma, x.channels()), betas = vector_view("beta", beta, x.channels());
  for (int64_t p = 0; p < x.pixels(); ++p)
    for (int64_t c = 0; c < x.channels(); ++c) {
      const double value = (xs(p, c) - means[c]) / std::sqrt(vars[c] + eps) * gammas[c] + betas[c];
      ys(p, c) = relu && value < 0 ? 0 : value;
    }
  if (parts.parts().size() > 1) scatter(y, parts);
}

void RefBackend::batch_norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& mean, const Tensor& var,
                                     const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                                     const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  const auto a = check_backward(x, gathered(dy), mean, var, gamma, beta, eps, relu, dx, dgamma, dbeta);
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

void RefBackend::batch_norm_backward_frozen(const Tensor& x, const ChannelParts& dy, const Tensor& mean,
                                            const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                            bool relu, Write write_params, const Tensor& dx, const Tensor& dgamma,
                                            const Tensor& dbeta) {
  const auto a = check_backward(x, gathered(dy), mean, var, gamma, beta, eps, relu, dx, dgamma, dbeta);
  for (int64_t c = 0; c < x.channels(); ++c) {
    const ChannelGradients sums = channel_gradients(a, c);
    for (int64_t p = 0; p < x.pixels(); ++p) a.dx(p, c) = a.gamma[c] * a.inv_std(c) * a.masked(p, c);
    store(a.dgamma[c], sums.dgamma, write_params);
    store(a.dbeta[c], sums.dbeta, write_params);
  }
}

// The definition: the operations it fuses, one after the other.
void RefBackend::pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y,
                                               const ChannelParts& dz, const Tensor& /*sums*/,
                                               const BatchNormState& norm, Write write_dx, const Tensor& dx,
                                               Write write_params, const Tensor& dw, const Tensor& dgamma,
                                               const Tensor& dbeta) {
  for (const Tensor& part : dz.parts()) check_disjoint("dx", dx, {part});
  check_disjoint("dx", dx, {x, w, y, dw});
  const Tensor dy = empty(y.shape());
  batch_norm_backward(y, dz, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, norm.relu, write_params, dy, dgamma,
                      dbeta);
  pointwise_backward_weights(x, dy, write_params, dw);
  if (dx.defined()) pointwise_backward_data(dy, w, write_dx, dx);
}

Tensor RefBackend::gathered(const ChannelParts& parts) {
  if (parts.parts().size() == 1) return parts.parts().front();
  const Tensor whole = empty(parts.shape());
  int64_t begin = 0;
  for (const Tensor& part : parts.parts()) {
    copy(part, Write::kOverwrite, whole.channel_slice(begin, part.channels()));
    begin += part.channels();
  }
  return whole;
}

void RefBackend::scatter(const Tensor& whole, const ChannelParts& parts) {
  int64_t begin = 0;
  for (const Tensor& part : parts.parts()) {
    copy(whole.channel_slice(begin, part.channels()), Write::kOverwrite, part);
    begin += part.channels();
  }
}

// The pointwise convolution of the norm's result is one of x with other weights, plus a constant.
void RefBackend::fold_norm(const Tensor& w, const BatchNormState& norm, const Tensor& scaled_w, const Tensor& shift) {
  const FoldedNorm f(w, norm);
  const auto scaled = packed_view("scaled_w", scaled_w, w.shape());
  const auto shifts = vector_view("shift", shift, w.shape().n);
  for (int64_t k = 0; k < w.shape().n; ++k) {
    shifts[k] = 0;
    for (int64_t c = 0; c < w.channels(); ++c) {
      scaled(k, c) = f.w(k, c) * f.scale(c);
      shifts[k] += f.w(k, c) * (f.beta[c] - f.mean[c] * f.scale(c));
    }
  }
}

void RefBackend::fold_norm_backward(const Tensor& w, const Tensor& dscaled_w, const BatchNormState& norm,
                                    int64_t pixels, Write write_params, const Tensor& dw, const Tensor& dgamma,
                                    const Tensor& dbeta, const Tensor& from_x) {
  const FoldedNorm f(w, norm);
  const auto dscaled = packed_view("dscaled_w", dscaled_w, w.shape()), dws = packed_view("dw", dw, w.shape());
  const auto dgammas = vector_view("dgamma", dgamma, w.channels()), dbetas = vector_view("dbeta", dbeta, w.channels());
  const auto from_xs = vector_view("from_x", from_x, w.channels());
  for (int64_t c = 0; c < w.channels(); ++c) {
    double dscale = 0;
    for (int64_t k = 0; k < w.shape().n; ++k) {
      dscale += f.w(k, c) * dscaled(k, c);
      store(dws(k, c), dscaled(k, c) * f.scale(c), write_params);
    }
    from_xs[c] = -f.scale(c) * f.inv_std(c) * dscale * f.inv_std(c) / static_cast<double>(pixels);
    store(dgammas[c], dscale * f.inv_std(c), write_params);
    store(dbetas[c], 0, write_params);
  }
}

// The definitions: the operations that these fuse, one after the other.
void RefBackend::norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                                const Tensor& mean, const Tensor& var, const Tensor& y) {
  check_3x3(window);
  check_disjoint("y", y, {x});
  const Tensor z = empty(x.shape());
  batch_norm_apply(x, before.mean, before.var, before.gamma, before.beta, before.eps, before.relu, z);
  depthwise(z, w, window, {{}, false, mean, var}, y);
}

void RefBackend::norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                         const Window& window, const Tensor& y, const Tensor& mean_y,
                                         const Tensor& from_y, const Tensor& dy, Write write_dx, const Tensor& dx,
                                         Write write_dw, const Tensor& dw, const Tensor& sums) {
  check_3x3(window);
  check_disjoint("dx", dx, {x, w, y, dy});
  const Tensor whole_dy = empty(y.shape());
  const Elements ys("y", y), dys("dy", dy, y.shape()), whole("dy", whole_dy);
  const auto means = vector_view("mean_y", mean_y, y.channels()), factors = vector_view("from_y", from_y, y.channels());
  for (int64_t p = 0; p < y.pixels(); ++p)
    for (int64_t c = 0; c < y.channels(); ++c) whole(p, c) = dys(p, c) + factors[c] * (ys(p, c) - means[c]);

  const bool normed = before.mean.defined();
  const Tensor z = normed ? empty(x.shape()) : x;
  if (normed) batch_norm_apply(x, before.mean, before.var, before.gamma, before.beta, before.eps, before.relu, z);
  depthwise_backward_weights(z, whole_dy, window, write_dw, dw);
  depthwise_backward_data(whole_dy, w, window, write_dx, dx);
  if (!normed) return;
  RIFFLE_CHECK(write_dx == Write::kOverwrite, "sums are of a whole gradient");
  const auto totals = packed_view("sums", sums, {1, 1, 2, x.channels()});
  const Elements xs("x", x), zs("z", z), dxs("dx", dx);
  const auto centre = vector_view("before.mean", before.mean, x.channels());
  for (int64_t c = 0; c < x.channels(); ++c) {
    totals(0, c) = totals(1, c) = 0;
    for (int64_t p = 0; p < x.pixels(); ++p) {
      const double g = before.relu && !(zs(p, c) > 0) ? 0 : dxs(p, c);
      totals(0, c) += g;
      totals(1, c) += g * (xs(p, c) - centre[c]);
    }
  }
}

}  // namespace riffle::reference
