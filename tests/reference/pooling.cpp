// The reference: elementwise operations and pooling.
#include <cmath>

#include "tests/reference/declarations.h"
#include "tests/reference/views.h"

namespace riffle::reference {
namespace {

Shape pooled_shape(const Shape& x, const Window& window) {
  return {x.n, window.out_h(x.h), window.out_w(x.w), x.c};
}

bool inside(const Shape& x, int64_t h, int64_t w) {
  return h >= 0 && h < x.h && w >= 0 && w < x.w;
}

}  // namespace

void RefBackend::relu(const Tensor& x, const Tensor& y) {
  check_same_or_disjoint("y", y, x);
  const Elements xs("x", x), ys("y", y, x.shape());
  for (int64_t p = 0; p < x.pixels(); ++p)
    for (int64_t c = 0; c < x.channels(); ++c) ys(p, c) = xs(p, c) < 0 ? 0 : xs(p, c);
}

void RefBackend::relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) {
  check_same_or_disjoint("dx", dx, dy);
  check_disjoint("dx", dx, {y});
  const Elements ys("y", y), dys("dy", dy, y.shape()), dxs("dx", dx, y.shape());
  for (int64_t p = 0; p < y.pixels(); ++p)
    for (int64_t c = 0; c < y.channels(); ++c) dxs(p, c) = ys(p, c) > 0 ? dys(p, c) : 0;
}

void RefBackend::dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) {
  RIFFLE_CHECK(rate >= 0 && rate < 1, "dropout rate ", rate);
  check_same_or_disjoint("y", y, x);
  const Elements xs("x", x), ys("y", y, x.shape());
  const auto step = static_cast<uint32_t>(scalars.defined() ? vector_view("scalars", scalars, kStepScalars)[kStep] : 0);
  for (int64_t p = 0; p < x.pixels(); ++p)
    for (int64_t c = 0; c < x.channels(); ++c) {
      const bool keep = dropout_keeps(key, step, p * x.channels() + c, static_cast<float>(rate));
      ys(p, c) = keep ? xs(p, c) / (1 - rate) : 0;
    }
}

void RefBackend::max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) {
  check_window(window, x.shape());
  check_disjoint("y", y, {x, winner});
  const Elements xs("x", x), ys("y", y, pooled_shape(x.shape(), window));
  const auto winners = packed_view<uint8_t>("winner", winner, y.shape());
  for (int64_t n = 0; n < y.shape().n; ++n)
    for (int64_t oh = 0; oh < y.shape().h; ++oh)
      for (int64_t ow = 0; ow < y.shape().w; ++ow)
        for (int64_t c = 0; c < y.shape().c; ++c) {
          bool found = false;
          for (int64_t r = 0; r < window.kernel_h; ++r)
            for (int64_t s = 0; s < window.kernel_w; ++s) {
              const int64_t ih = oh * window.stride - window.padding.top + r;
              const int64_t iw = ow * window.stride - window.padding.left + s;
              if (!inside(x.shape(), ih, iw)) continue;
              const double value = xs(n, ih, iw, c);
              double& best = ys(n, oh, ow, c);
              if (found && (std::isnan(best) || !(value > best || std::isnan(value)))) continue;
              found = true;
              best = value;
              winners(n, oh, ow, c) = static_cast<uint8_t>(r * window.kernel_w + s);
            }
        }
}

void RefBackend::max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) {
  check_window(window, dx.shape());
  check_disjoint("dx", dx, {dy, winner});
  const Elements dxs("dx", dx), dys("dy", dy, pooled_shape(dx.shape(), window));
  const auto winners = packed_view<uint8_t>("winner", winner, dy.shape());
  for (int64_t p = 0; p < dx.pixels(); ++p)
    for (int64_t c = 0; c < dx.channels(); ++c) dxs(p, c) = 0;
  for (int64_t n = 0; n < dy.shape().n; ++n)
    for (int64_t oh = 0; oh < dy.shape().h; ++oh)
      for (int64_t ow = 0; ow < dy.shape().w; ++ow)
        for (int64_t c = 0; c < dy.shape().c; ++c) {
          const int64_t tap = winners(n, oh, ow, c);
          const int64_t ih = oh * window.stride - window.padding.top + tap / window.kernel_w;
          const int64_t iw = ow * window.stride - window.padding.left + tap % window.kernel_w;
          RIFFLE_CHECK(inside(dx.shape(), ih, iw), "winner ", tap, " lies outside the input");
          dxs(n, ih, iw, c) += dys(n, oh, ow, c);
        }
}

void RefBackend::global_average_pool(const Tensor& x, const Tensor& y) {
  check_disjoint("y", y, {x});
  const Elements xs("x", x), ys("y", y, {x.shape().n, 1, 1, x.channels()});
  const int64_t area = x.shape().h * x.shape().w;
  for (int64_t n = 0; n < x.shape().n; ++n)
    for (int64_t c = 0; c < x.channels(); ++c) {
      double sum = 0;
      for (int64_t i = 0; i < area; ++i) sum += xs(n * area + i, c);
      ys(n, c) = sum / static_cast<double>(area);
    }
}

void RefBackend::global_average_pool_backward(const Tensor& dy, const Tensor& dx) {
  check_disjoint("dx", dx, {dy});
  const Elements dxs("dx", dx), dys("dy", dy, {dx.shape().n, 1, 1, dx.channels()});
  const int64_t area = dx.shape().h * dx.shape().w;
  for (int64_t p = 0; p < dx.pixels(); ++p)
    for (int64_t c = 0; c < dx.channels(); ++c) dxs(p, c) = dys(p / area, c) / static_cast<double>(area);
}

// The definition: the operations it fuses, one after the other.
void RefBackend::batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                     const Tensor& beta, double eps, const Window& window, const Tensor& y,
                                     const Tensor& winner) {
  const Tensor normalised = empty(x.shape());
  batch_norm_apply(x, mean, var, gamma, beta, eps, true, normalised);
  max_pool(normalised, window, y, winner);
}

void RefBackend::batch_norm_max_pool_backward(const Tensor& x, const Tensor& dy, const Tensor& winner,
                                              const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                              const Tensor& beta, double eps, const Window& window, Write write_params,
                                              const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
  const Tensor dnormalised = empty(x.shape());
  max_pool_backward(dy, winner, window, dnormalised);
  batch_norm_backward(x, dnormalised, mean, var, gamma, beta, eps, true, write_params, dx, dgamma, dbeta);
}

void RefBackend::conv2d_norm_max_pool_backward(const Tensor& input, const Window& conv_window, const Tensor& x,
                                               const BatchNormState& norm, const Window& pool_window, const Tensor& dy,
                                               const Tensor& winner, Write write_params, const Tensor& dw,
                                               const Tensor& dgamma, const Tensor& dbeta) {
  const Tensor dx = empty(x.shape());
  batch_norm_max_pool_backward(x, dy, winner, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, pool_window,
                               write_params, dx, dgamma, dbeta);
  conv2d_backward_weights(input, dx, conv_window, 1, write_params, dw);
}

}  // namespace riffle::reference
