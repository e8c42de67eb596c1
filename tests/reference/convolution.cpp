// The reference: convolutions, each from its definition. One enumeration of (output, tap, input) triples serves the
// forward pass and both gradients; since these are sums over the same set of products, they cannot disagree.
#include <algorithm>

#include "tests/reference/declarations.h"
#include "tests/reference/views.h"

namespace riffle::reference {
namespace {

// One product of the convolution's sum: y[n,oh,ow,k] gets x[n,ih,iw,c] * w[k,r,s,c within its group].
struct Term {
  int64_t n, oh, ow, k;
  int64_t ih, iw, c;
  int64_t r, s, cg;
};

Shape output_shape(const Shape& x, const Window& window, int64_t channels) {
  return {x.n, window.out_h(x.h), window.out_w(x.w), channels};
}

// Calls visit(term) for every product whose input pixel is not padding. w: (K,R,S,C/groups).
template <class Visit>
void for_each_term(const Shape& x, const Shape& w, const Window& window, const Visit& visit) {
  const Shape y = output_shape(x, window, w.n);
  const int64_t outputs_per_group = w.n / (x.c / w.c);
  Term t{};
  for (t.n = 0; t.n < y.n; ++t.n)
    for (t.oh = 0; t.oh < y.h; ++t.oh)
      for (t.ow = 0; t.ow < y.w; ++t.ow)
        for (t.k = 0; t.k < w.n; ++t.k)
          for (t.r = 0; t.r < w.h; ++t.r)
            for (t.s = 0; t.s < w.w; ++t.s) {
              t.ih = t.oh * window.stride - window.padding.top + t.r;
              t.iw = t.ow * window.stride - window.padding.left + t.s;
              if (t.ih < 0 || t.ih >= x.h || t.iw < 0 || t.iw >= x.w) continue;
              for (t.cg = 0; t.cg < w.c; ++t.cg) {
                t.c = t.k / outputs_per_group * w.c + t.cg;
                visit(t);
              }
            }
}

// Checks w against x and the window; returns the shape of y.
Shape check_filter(const Shape& x, const Shape& w, const Window& window, int64_t groups) {
  check_window(window, x);
  RIFFLE_CHECK(groups > 0 && x.c % groups == 0 && w.n % groups == 0, x.c, " input and ", w.n, " output channels in ",
               groups, " groups");
  const Shape expected{w.n, window.kernel_h, window.kernel_w, x.c / groups};
  RIFFLE_CHECK(w == expected, "w is ", w, ", expected ", expected, " for x ", x, " in ", groups, " groups");
  return output_shape(x, window, w.n);
}

void fill_elements(const Elements& view, double value) {
  for (int64_t p = 0; p < view.pixels(); ++p)
    for (int64_t c = 0; c < view.channels(); ++c) view(p, c) = value;
}

void prepare(const Elements& output, Write write) {
  if (write == Write::kOverwrite) fill_elements(output, 0);
}

void apply_epilogue(const Epilogue& epilogue, const Tensor& y) {
  const Elements out("y", y);
  if (epilogue.bias.defined()) {
    const auto bias = vector_view("bias", epilogue.bias, out.channels());
    for (int64_t p = 0; p < out.pixels(); ++p)
      for (int64_t c = 0; c < out.channels(); ++c) out(p, c) += bias[c];
  }
  if (!epilogue.relu) return;
  for (int64_t p = 0; p < out.pixels(); ++p)
    for (int64_t c = 0; c < out.channels(); ++c)
      if (out(p, c) < 0) out(p, c) = 0;
}

// A depthwise filter (1,R,S,C) as the grouped dense filter (C,R,S,1) that it is.
Shape as_grouped(const Shape& depthwise_filter) {
  return {depthwise_filter.c, depthwise_filter.h, depthwise_filter.w, 1};
}

Shape check_depthwise(const Shape& x, const Shape& w, const Window& window) {
  RIFFLE_CHECK(w.n == 1, "a depthwise filter is 1,R,S,C, got ", w);
  return check_filter(x, as_grouped(w), window, x.c);
}

}  // namespace

void RefBackend::conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups,
                        const Epilogue& epilogue, const Tensor& y) {
  check_disjoint("y", y, {x, w, epilogue.bias});
  const Shape y_shape = check_filter(x.shape(), w.shape(), window, groups);
  const auto xs = packed_view("x", x, x.shape()), ws = packed_view("w", w, w.shape()),
             ys = packed_view("y", y, y_shape);
  fill_elements(ys, 0);
  for_each_term(x.shape(), w.shape(), window,
                [&](const Term& t) { ys(t.n, t.oh, t.ow, t.k) += xs(t.n, t.ih, t.iw, t.c) * ws(t.k, t.r, t.s, t.cg); });
  apply_epilogue(epilogue, y);
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

void RefBackend::conv2d_backward_data(const Tensor& dy, const Tensor& w, const Window& window, int64_t groups,
                                      Write write, const Tensor& dx) {
  check_disjoint("dx", dx, {dy, w});
  const Shape y_shape = check_filter(dx.shape(), w.shape(), window, groups);
  const auto dys = packed_view("dy", dy, y_shape), ws = packed_view("w", w, w.shape());
  const auto dxs = packed_view("dx", dx, dx.shape());
  prepare(dxs, write);
  for_each_term(dx.shape(), w.shape(), window, [&](const Term& t) {
    dxs(t.n, t.ih, t.iw, t.c) += dys(t.n, t.oh, t.ow, t.k) * ws(t.k, t.r, t.s, t.cg);
  });
}

void RefBackend::conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, int64_t groups,
                                         Write write, const Tensor& dw) {
  check_disjoint("dw", dw, {x, dy});
  const Shape y_shape = check_filter(x.shape(), dw.shape(), window, groups);
  const auto xs = packed_view("x", x, x.shape()), dys = packed_view("dy", dy, y_shape);
  const auto dws = packed_view("dw", dw, dw.shape());
  prepare(dws, write);
  for_each_term(x.shape(), dw.shape(), window, [&](const Term& t) {
    dws(t.k, t.r, t.s, t.cg) += dys(t.n, t.oh, t.ow, t.k) * xs(t.n, t.ih, t.iw, t.c);
  });
}

void RefBackend::depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                           const Tensor& y) {
  check_disjoint("y", y, {x, w, epilogue.bias});
  const Shape y_shape = check_depthwise(x.shape(), w.shape(), window);
  const Elements xs("x", x), ys("y", y, y_shape);
  const auto ws = packed_view("w", w, w.shape());
  fill_elements(ys, 0);
  for_each_term(x.shape(), as_grouped(w.shape()), window,
                [&](const Term& t) { ys(t.n, t.oh, t.ow, t.c) += xs(t.n, t.ih, t.iw, t.c) * ws(0, t.r, t.s, t.c); });
  apply_epilogue(epilogue, y);
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

void RefBackend::depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                                         const Tensor& dx) {
  check_disjoint("dx", dx, {dy, w});
  const Shape y_shape = check_depthwise(dx.shape(), w.shape(), window);
  const Elements dys("dy", dy, y_shape), dxs("dx", dx);
  const auto ws = packed_view("w", w, w.shape());
  prepare(dxs, write);
  for_each_term(dx.shape(), as_grouped(w.shape()), window,
                [&](const Term& t) { dxs(t.n, t.ih, t.iw, t.c) += dys(t.n, t.oh, t.ow, t.c) * ws(0, t.r, t.s, t.c); });
}

void RefBackend::depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                            const Tensor& dw) {
  check_disjoint("dw", dw, {x, dy});
  const Shape y_shape = check_depthwise(x.shape(), dw.shape(), window);
  const Elements xs("x", x), dys("dy", dy, y_shape);
  const auto dws = packed_view("dw", dw, dw.shape());
  prepare(dws, write);
  for_each_term(x.shape(), as_grouped(dw.shape()), window,
                [&](const Term& t) { dws(0, t.r, t.s, t.c) += dys(t.n, t.oh, t.ow, t.c) * xs(t.n, t.ih, t.iw, t.c); });
}

void RefBackend::pointwise(const Tensor& x, const Tensor& w, const Epilogue& epilogue, const Tensor& y) {
  check_disjoint("y", y, {x, w, epilogue.bias});
  const Elements xs("x", x), ys("y", y, x.shape().with_channels(w.shape().n));
  const auto ws = packed_view("w", w, {w.shape().n, 1, 1, x.channels()});
  for (int64_t p = 0; p < xs.pixels(); ++p)
    for (int64_t k = 0; k < ys.channels(); ++k) {
      double sum = 0;
      for (int64_t c = 0; c < xs.channels(); ++c) sum += xs(p, c) * ws(k, c);
      ys(p, k) = sum;
    }
  apply_epilogue(epilogue, y);
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

void RefBackend::pointwise_backward_data(const Tensor& dy, const Tensor& w, Write write, const Tensor& dx) {
  check_disjoint("dx", dx, {dy, w});
  const Elements dxs("dx", dx), dys("dy", dy, dx.shape().with_channels(w.shape().n));
  const auto ws = packed_view("w", w, {w.shape().n, 1, 1, dx.channels()});
  for (int64_t p = 0; p < dxs.pixels(); ++p)
    for (int64_t c = 0; c < dxs.channels(); ++c) {
      double sum = 0;
      for (int64_t k = 0; k < dys.channels(); ++k) sum += dys(p, k) * ws(k, c);
      store(dxs(p, c), sum, write);
    }
}

void RefBackend::pointwise_backward_weights(const Tensor& x, const Tensor& dy, Write write, const Tensor& dw) {
  check_disjoint("dw", dw, {x, dy});
  const Elements xs("x", x), dys("dy", dy, x.shape().with_channels(dy.channels()));
  const auto dws = packed_view("dw", dw, {dy.channels(), 1, 1, x.channels()});
  for (int64_t k = 0; k < dys.channels(); ++k)
    for (int64_t c = 0; c < xs.channels(); ++c) {
      double sum = 0;
      for (int64_t p = 0; p < xs.pixels(); ++p) sum += dys(p, k) * xs(p, c);
      store(dws(k, c), sum, write);
    }
}

void RefBackend::channel_sums(const Tensor& x, Write write, const Tensor& sums) {
  check_disjoint("sums", sums, {x});
  const Elements xs("x", x);
  const auto out = vector_view("sums", sums, x.channels());
  for (int64_t c = 0; c < x.channels(); ++c) {
    double sum = 0;
    for (int64_t p = 0; p < x.pixels(); ++p) sum += xs(p, c);
    store(out[c], sum, write);
  }
}

}  // namespace riffle::reference
