// Depthwise convolution: one filter per channel. 3x3 has kernels of its own, vectorised along channels; other sizes
// take a plain loop, correct and slow (ShuffleNetV2 has none).
#include <algorithm>
#include <vector>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/cpu/depthwise_data_rows.h"
#include "core/cpu/row_geometry.h"

namespace riffle {
namespace {

bool is_3x3(const Window& window) {
  return window.kernel_h == 3 && window.kernel_w == 3;
}

// Calls body(tap, x pixel) for the taps of output (oh, ow) that lie inside the image.
template <class Body>
void for_each_tap(const RowGeometry& g, int64_t oh, int64_t ow, const Body& body) {
  for (int64_t r = 0; r < g.kernel_h; ++r) {
    const int64_t ih = oh * g.stride - g.pad_top + r;
    if (ih < 0 || ih >= g.height) continue;
    for (int64_t s = 0; s < g.kernel_w; ++s) {
      const int64_t iw = ow * g.stride - g.pad_left + s;
      if (iw >= 0 && iw < g.width) body(r * g.kernel_w + s, ih * g.width + iw);
    }
  }
}

void plain_row(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, const float* w, const float* bias,
               bool relu, float* y, int64_t ldy) {
  for (int64_t ow = 0; ow < g.out_width; ++ow) {
    float* out = y + ow * ldy;
    for (int64_t c = 0; c < g.channels; ++c) out[c] = bias ? bias[c] : 0.0f;
    for_each_tap(g, oh, ow, [&](int64_t tap, int64_t pixel) {
      for (int64_t c = 0; c < g.channels; ++c) out[c] += x[pixel * ldx + c] * w[tap * g.channels + c];
    });
    if (relu)
      for (int64_t c = 0; c < g.channels; ++c) out[c] = out[c] < 0 ? 0 : out[c];
  }
}

}  // namespace

void CpuBackend::depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                           const Tensor& y) {
  check_depthwise(x, w, window, y);
  check_no_overlap(y, {&x, &w, &epilogue.bias}, "depthwise");
  const RowGeometry g = row_geometry(x, window, y);
  check_epilogue(epilogue, g.channels, "depthwise");
  const float *px = x.data<float>(), *pw = w.data<float>();
  const float* bias = epilogue.bias.defined() ? epilogue.bias.data<float>() : nullptr;
  float* py = y.data<float>();
  const Chunks chunks = image_rows(y.shape().n * g.out_height, g.out_width, g.channels);
  const Chunks pixels{chunks.items * g.out_width, chunks.grain * g.out_width};
  const Tensor moments = moments_scratch(epilogue.mean.defined(), chunks.count(), g.channels);
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t row = chunks[i].begin; row < chunks[i].end; ++row) {
      const float* image = px + row / g.out_height * g.height * g.width * x.ld();
      float* out = py + row * g.out_width * y.ld();
      if (is_3x3(window)) {
        simd_.depthwise3x3_row(image, x.ld(), g, row % g.out_height, pw, bias, epilogue.relu, false, out, y.ld());
      } else {
        plain_row(image, x.ld(), g, row % g.out_height, pw, bias, epilogue.relu, out, y.ld());
      }
    }
    if (moments.defined())
      piece_moments(moments, i, g.channels, py + pixels[i].begin * y.ld(), y.ld(), pixels[i].size(), 0, g.channels);
  });
  if (moments.defined()) merge_moments(moments, pixels, epilogue.mean, epilogue.var);
}

void CpuBackend::depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                                         const Tensor& dx) {
  check_depthwise(dx, w, window, dy);
  check_no_overlap(dx, {&dy, &w}, "depthwise_backward_data");
  const RowGeometry g = row_geometry(dx, window, dy);
  const float *pdy = dy.data<float>(), *pw = w.data<float>();
  float* pdx = dx.data<float>();
  const bool accumulate = write == Write::kAccumulate;
  if (!is_3x3(window)) {
    if (!accumulate) fill(0, dx);
    parallel_(dx.shape().n, [&](int64_t n) {
      for (int64_t oh = 0; oh < g.out_height; ++oh)
        for (int64_t ow = 0; ow < g.out_width; ++ow)
          for_each_tap(g, oh, ow, [&](int64_t tap, int64_t pixel) {
            const float* gradient = pdy + ((n * g.out_height + oh) * g.out_width + ow) * dy.ld();
            float* out = pdx + (n * g.height * g.width + pixel) * dx.ld();
            for (int64_t c = 0; c < g.channels; ++c) out[c] += gradient[c] * pw[tap * g.channels + c];
          });
    });
    return;
  }
  const DepthwiseDataRows data_rows(simd_, pw, g);
  const Chunks chunks = image_rows(dx.shape().n * g.height, g.width, g.channels);
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t row = chunks[i].begin; row < chunks[i].end; ++row) {
      const float* image = pdy + row / g.height * g.out_height * g.out_width * dy.ld();
      float* out = pdx + row * g.width * dx.ld();
      data_rows(image, dy.ld(), row % g.height, accumulate, out, dx.ld());
    }
  });
}

void CpuBackend::depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                            const Tensor& dw) {
  check_depthwise(x, dw, window, dy);
  check_no_overlap(dw, {&x, &dy}, "depthwise_backward_weights");
  const RowGeometry g = row_geometry(x, window, dy);
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  const int64_t rows = dy.shape().n * g.out_height, size = dw.elements();
  const Chunks parts{rows, divide_up(rows, 16)};  // at most 16 partial sums, added in order
  const Tensor partial = scratch(parts.count() * size);
  parallel_(parts.count(), [&](int64_t part) {
    float* sum = partial.data<float>() + part * size;
    std::fill_n(sum, size, 0.0f);
    for (int64_t row = parts[part].begin; row < parts[part].end; ++row) {
      const float* image = px + row / g.out_height * g.height * g.width * x.ld();
      const float* gradient = pdy + row * g.out_width * dy.ld();
      const int64_t oh = row % g.out_height;
      if (is_3x3(window)) {
        simd_.depthwise3x3_weights_row(image, x.ld(), gradient, dy.ld(), g, oh, sum);
        continue;
      }
      for (int64_t ow = 0; ow < g.out_width; ++ow)
        for_each_tap(g, oh, ow, [&](int64_t tap, int64_t pixel) {
          for (int64_t c = 0; c < g.channels; ++c)
            sum[tap * g.channels + c] += gradient[ow * dy.ld() + c] * image[pixel * x.ld() + c];
        });
    }
  });
  reduce_parts(partial.data<float>(), parts.count(), size, write, dw.data<float>());
}

}  // namespace riffle
