// Pointwise convolutions (1x1) as matrix products. oneDNN's own convolution falls back to a reference loop on channel
// slices; its sgemm takes any row pitch at full speed. We split the product ourselves, one single-threaded sgemm a
// piece, because then the pieces, and so the results, depend on the shape only.
#include <dnnl.h>
#include <omp.h>

#include <algorithm>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/cpu/gemm.h"

namespace riffle {

void gemm(Transpose transpose_a, Transpose transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
          const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  omp_set_num_threads(1);  // of the calling thread: oneDNN would otherwise start a team of its own
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a == Transpose::kYes ? 'T' : 'N', transpose_b == Transpose::kYes ? 'T' : 'N', m, n, k, 1.0f,
                 a, lda, b, ldb, accumulate ? 1.0f : 0.0f, c, ldc);
  RIFFLE_CHECK(status == dnnl_success, "oneDNN sgemm of ", m, "x", n, "x", k, " returned status ", status);
}

namespace {

// (rows x columns) of a product's result, in pieces of enough work for one sgemm (its operands about 128 KB, which
// measured best), enough pieces for many threads.
struct Tiles {
  Chunks rows, columns;
  int64_t count() const { return rows.count() * columns.count(); }
};

Tiles product_tiles(int64_t rows, int64_t inner, int64_t columns) {
  const int64_t grain = std::clamp<int64_t>(32768 / (inner + columns) / 16 * 16, 64, 512);
  Tiles tiles{{rows, grain}, {columns, columns}};
  if (tiles.rows.count() < 16) tiles.columns.grain = std::max<int64_t>(64, divide_up(columns, 16));
  return tiles;
}

}  // namespace

void CpuBackend::pointwise(const Tensor& x, const Tensor& w, const Epilogue& epilogue, const Tensor& y) {
  check_pointwise(x, w, y);
  check_no_overlap(y, {&x, &w, &epilogue.bias}, "pointwise");
  const int64_t inputs = x.channels(), outputs = y.channels();
  check_epilogue(epilogue, outputs, "pointwise");
  const float *px = x.data<float>(), *pw = w.data<float>();
  const float* bias = epilogue.bias.defined() ? epilogue.bias.data<float>() : nullptr;
  float* py = y.data<float>();
  const Tiles tiles = product_tiles(x.pixels(), inputs, outputs);
  const Tensor moments = moments_scratch(epilogue.mean.defined(), tiles.rows.count(), outputs);
  parallel_(tiles.count(), [&](int64_t i) {
    const Range rows = tiles.rows[i / tiles.columns.count()], columns = tiles.columns[i % tiles.columns.count()];
    float* out = py + rows.begin * y.ld() + columns.begin;
    gemm_(Transpose::kNo, Transpose::kYes, rows.size(), columns.size(), inputs, px + rows.begin * x.ld(), x.ld(),
          pw + columns.begin * inputs, inputs, false, out, y.ld());
    if (bias || epilogue.relu)
      simd_.bias_relu(out, y.ld(), rows.size(), columns.size(), bias ? bias + columns.begin : nullptr, epilogue.relu);
    if (moments.defined())
      piece_moments(moments, i / tiles.columns.count(), outputs, out, y.ld(), rows.size(), columns.begin,
                    columns.size());
  });
  if (moments.defined()) merge_moments(moments, tiles.rows, epilogue.mean, epilogue.var);
}

void CpuBackend::pointwise_backward_data(const Tensor& dy, const Tensor& w, Write write, const Tensor& dx) {
  check_pointwise(dx, w, dy);
  check_no_overlap(dx, {&dy, &w}, "pointwise_backward_data");
  const int64_t inputs = dx.channels(), outputs = dy.channels();
  const float *pdy = dy.data<float>(), *pw = w.data<float>();
  float* pdx = dx.data<float>();
  const Tiles tiles = product_tiles(dx.pixels(), outputs, inputs);
  parallel_(tiles.count(), [&](int64_t i) {
    const Range rows = tiles.rows[i / tiles.columns.count()], columns = tiles.columns[i % tiles.columns.count()];
    gemm_(Transpose::kNo, Transpose::kNo, rows.size(), columns.size(), outputs, pdy + rows.begin * dy.ld(), dy.ld(),
          pw + columns.begin, inputs, write == Write::kAccumulate, pdx + rows.begin * dx.ld() + columns.begin, dx.ld());
  });
}

void CpuBackend::pointwise_backward_weights(const Tensor& x, const Tensor& dy, Write write, const Tensor& dw) {
  check_pointwise(x, dw, dy);
  check_no_overlap(dw, {&x, &dy}, "pointwise_backward_weights");
  const int64_t inputs = x.channels(), outputs = dy.channels(), pixels = x.pixels();
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  float* pdw = dw.data<float>();
  // dw (K,C) is small and the pixels are many: split both, K into slices and the pixels into parts whose sums are added
  // up in order afterwards.
  const Chunks slices{outputs, 64};
  const int64_t wanted_parts = std::clamp<int64_t>(16 / slices.count(), 1, divide_up(pixels, 512));
  const Chunks parts{pixels, divide_up(pixels, wanted_parts)};
  const bool direct = parts.count() == 1;
  const Tensor partial = direct ? Tensor{} : scratch(parts.count() * outputs * inputs);
  parallel_(parts.count() * slices.count(), [&](int64_t i) {
    const Range part = parts[i / slices.count()], slice = slices[i % slices.count()];
    float* target = direct ? pdw : partial.data<float>() + i / slices.count() * outputs * inputs;
    for (int64_t begin = part.begin; begin < part.end; begin += 256) {
      const int64_t rows = std::min<int64_t>(256, part.end - begin);
      const bool accumulate = begin > part.begin || (direct && write == Write::kAccumulate);
      gemm_(Transpose::kYes, Transpose::kNo, slice.size(), inputs, rows, pdy + begin * dy.ld() + slice.begin, dy.ld(),
            px + begin * x.ld(), x.ld(), accumulate, target + slice.begin * inputs, inputs);
    }
  });
  if (!direct) reduce_parts(partial.data<float>(), parts.count(), outputs * inputs, write, pdw);
}

void CpuBackend::channel_sums(const Tensor& x, Write write, const Tensor& sums) {
  check_vectors({&sums}, x.channels(), "channel_sums");
  check_no_overlap(sums, {&x}, "channel_sums");
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  const Tensor partial = scratch(chunks.count() * x.channels());
  const float* px = x.data<float>();
  parallel_(chunks.count(), [&](int64_t i) {
    simd_.column_sums(px + chunks[i].begin * x.ld(), x.ld(), chunks[i].size(), x.channels(),
                      partial.data<float>() + i * x.channels());
  });
  reduce_parts(partial.data<float>(), chunks.count(), x.channels(), write, sums.data<float>());
}

}  // namespace riffle
