// ReLU, dropout, pooling.
#include <algorithm>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/cpu/row_geometry.h"

namespace riffle {

void CpuBackend::relu(const Tensor& x, const Tensor& y) {
  check_same_shape(x, y, "relu");
  const float* px = x.data<float>();
  float* py = y.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t r = chunks[i].begin; r < chunks[i].end; ++r)
      for (int64_t c = 0; c < x.channels(); ++c) {
        const float v = px[r * x.ld() + c];
        py[r * y.ld() + c] = v < 0 ? 0 : v;
      }
  });
}

void CpuBackend::relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) {
  check_same_shape(y, dy, "relu_backward");
  check_same_shape(y, dx, "relu_backward");
  const float *py = y.data<float>(), *pdy = dy.data<float>();
  float* pdx = dx.data<float>();
  const Chunks chunks = row_chunks(y.pixels(), y.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    simd_.relu_backward(py + rows.begin * y.ld(), y.ld(), pdy + rows.begin * dy.ld(), dy.ld(), rows.size(),
                        y.channels(), pdx + rows.begin * dx.ld(), dx.ld());
  });
}

void CpuBackend::dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) {
  check_same_shape(x, y, "dropout");
  if (scalars.defined()) check_scalars(scalars, "dropout");
  RIFFLE_CHECK(rate >= 0 && rate < 1, "dropout rate ", rate, " is not in [0, 1)");
  const float* px = x.data<float>();
  float* py = y.data<float>();
  const auto step = static_cast<uint32_t>(scalars.defined() ? scalars.data<float>()[kStep] : 0.0f);
  const float limit = static_cast<float>(rate), scale = static_cast<float>(1 / (1 - rate));
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t r = chunks[i].begin; r < chunks[i].end; ++r)
      for (int64_t c = 0; c < x.channels(); ++c)
        py[r * y.ld() + c] = dropout_keeps(key, step, r * x.channels() + c, limit) ? px[r * x.ld() + c] * scale : 0.0f;
  });
}

void CpuBackend::max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) {
  check_max_pool(x, window, y, winner, "max_pool");
  const RowGeometry g = row_geometry(x, window, y);
  const float* px = x.data<float>();
  float* py = y.data<float>();
  uint8_t* pwinner = winner.data<uint8_t>();
  parallel_.each(image_rows(y.shape().n * g.out_height, g.out_width, g.channels), [&](int64_t row) {
    simd_.max_pool_row(px + row / g.out_height * g.height * g.width * x.ld(), x.ld(), g, row % g.out_height,
                       py + row * g.out_width * y.ld(), y.ld(), pwinner + row * g.out_width * g.channels);
  });
}

void CpuBackend::max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) {
  check_max_pool(dx, window, dy, winner, "max_pool_backward");
  const RowGeometry g = row_geometry(dx, window, dy);
  const float* pdy = dy.data<float>();
  const uint8_t* pwinner = winner.data<uint8_t>();
  float* pdx = dx.data<float>();
  const int64_t out_pixels = g.out_height * g.out_width;
  parallel_.each(image_rows(dx.shape().n * g.height, g.width, g.channels), [&](int64_t row) {
    const int64_t n = row / g.height;
    simd_.max_pool_data_row(pdy + n * out_pixels * dy.ld(), dy.ld(), pwinner + n * out_pixels * g.channels, g,
                            row % g.height, pdx + row * g.width * dx.ld(), dx.ld());
  });
}

void CpuBackend::global_average_pool(const Tensor& x, const Tensor& y) {
  const Shape expected{x.shape().n, 1, 1, x.channels()};
  RIFFLE_CHECK(y.shape() == expected, "global_average_pool: expected ", expected, ", got ", y.shape());
  check_no_overlap(y, {&x}, "global_average_pool");
  const int64_t pixels = x.shape().h * x.shape().w;
  const float* px = x.data<float>();
  float* py = y.data<float>();
  parallel_(x.shape().n, [&](int64_t n) {
    float* out = py + n * y.ld();
    simd_.column_sums(px + n * pixels * x.ld(), x.ld(), pixels, x.channels(), out);
    for (int64_t c = 0; c < x.channels(); ++c) out[c] /= static_cast<float>(pixels);
  });
}

void CpuBackend::global_average_pool_backward(const Tensor& dy, const Tensor& dx) {
  const Shape expected{dx.shape().n, 1, 1, dx.channels()};
  RIFFLE_CHECK(dy.shape() == expected, "global_average_pool_backward: expected ", expected, ", got ", dy.shape());
  check_no_overlap(dx, {&dy}, "global_average_pool_backward");
  const int64_t pixels = dx.shape().h * dx.shape().w;
  const float* pdy = dy.data<float>();
  float* pdx = dx.data<float>();
  parallel_(dx.shape().n, [&](int64_t n) {
    for (int64_t p = n * pixels; p < (n + 1) * pixels; ++p)
      for (int64_t c = 0; c < dx.channels(); ++c)
        pdx[p * dx.ld() + c] = pdy[n * dy.ld() + c] / static_cast<float>(pixels);
  });
}

}  // namespace riffle
