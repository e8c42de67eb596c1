// Dense convolution. Windows with rows of 9 or 3 floats (a stem on RGB or gray images) have kernels of their own. For the
// others the windows of an output row are gathered into a small matrix (im2row), which oneDNN's sgemm multiplies: as quick
// as oneDNN's own convolution where that was measured, with no reordered copies of the filter, any padding and group
// count, and the same bits for any number of threads.
#include <algorithm>
#include <cstring>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/cpu/gemm.h"
#include "core/cpu/row_geometry.h"

namespace riffle {
namespace {

struct Geometry {
  int64_t images, height, width, channels;  // of the input
  int64_t out_height, out_width, outputs;
  int64_t groups, group_inputs, group_outputs;
  Window window;

  Geometry(const Tensor& x, const Window& w, int64_t group_count, const Tensor& y)
      : images(x.shape().n),
        height(x.shape().h),
        width(x.shape().w),
        channels(x.channels()),
        out_height(y.shape().h),
        out_width(y.shape().w),
        outputs(y.channels()),
        groups(group_count),
        group_inputs(channels / group_count),
        group_outputs(outputs / group_count),
        window(w) {}

  int64_t rows() const { return images * out_height; }
  int64_t image_size() const { return height * width * channels; }
  int64_t patch() const { return window.kernel_h * window.kernel_w * group_inputs; }  // one window of one group
  // Output rows a piece: a gathered matrix of about 100 KB.
  Chunks row_chunks() const { return {rows(), std::clamp<int64_t>(25600 / (out_width * patch()), 1, out_height)}; }
};

// The part of window row r of the window at (ih0, iw0) that lies inside the image: taps [begin, end).
struct Taps {
  int64_t begin, end;
};
Taps inside(int64_t start, int64_t taps, int64_t size) {
  return {std::min(taps, std::max<int64_t>(0, -start)), std::max<int64_t>(0, std::min(taps, size - start))};
}

// Calls body(patch offset, input offset, floats) for every run of adjacent values of group `group` that output row
// `row` = n*OH + oh reads, and outside(patch offset, floats) for those in the padding. Offsets into the row's matrix
// (out_width, patch) and into x.
template <class Inside, class Outside>
void for_each_run(const Geometry& g, int64_t row, int64_t group, const Inside& body, const Outside& outside) {
  const int64_t n = row / g.out_height, oh = row % g.out_height;
  const int64_t ih0 = oh * g.window.stride - g.window.padding.top;
  const int64_t tap_row = g.window.kernel_w * g.group_inputs;
  for (int64_t ow = 0; ow < g.out_width; ++ow) {
    const int64_t iw0 = ow * g.window.stride - g.window.padding.left;
    const Taps columns = inside(iw0, g.window.kernel_w, g.width);
    for (int64_t r = 0; r < g.window.kernel_h; ++r) {
      const int64_t patch_offset = ow * g.patch() + r * tap_row;
      const int64_t ih = ih0 + r;
      if (ih < 0 || ih >= g.height || columns.begin >= columns.end) {
        outside(patch_offset, tap_row);
        continue;
      }
      if (columns.begin > 0) outside(patch_offset, columns.begin * g.group_inputs);
      const int64_t pixel = (n * g.height + ih) * g.width + iw0;
      if (g.groups == 1) {  // the taps of a row are adjacent in the image
        body(patch_offset + columns.begin * g.channels, (pixel + columns.begin) * g.channels,
             (columns.end - columns.begin) * g.channels);
      } else {
        for (int64_t s = columns.begin; s < columns.end; ++s)
          body(patch_offset + s * g.group_inputs, (pixel + s) * g.channels + group * g.group_inputs, g.group_inputs);
      }
      if (columns.end < g.window.kernel_w)
        outside(patch_offset + columns.end * g.group_inputs, (g.window.kernel_w - columns.end) * g.group_inputs);
    }
  }
}

// The gathered matrix (rows * out_width, patch) of some output rows.
void gather(const Geometry& g, const float* x, Range rows, int64_t group, float* matrix) {
  for (int64_t row = rows.begin; row < rows.end; ++row, matrix += g.out_width * g.patch()) {
    for_each_run(
        g, row, group,
        [&](int64_t to, int64_t from, int64_t count) {
          std::memcpy(matrix + to, x + from, static_cast<size_t>(count) * sizeof(float));
        },
        [&](int64_t to, int64_t count) { std::fill_n(matrix + to, count, 0.0f); });
  }
}

// The kernel for narrow windows, null where the windows are not.
template <class Kernel>
Kernel narrow(const Geometry& g, Kernel nine, Kernel three) {
  if (g.groups != 1) return nullptr;
  const int64_t run = g.window.kernel_w * g.channels;
  return run == 9 ? nine : run == 3 ? three : nullptr;
}

// to (columns, rows) = from (rows, columns), transposed. Filters only: small.
void transpose(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
}

}  // namespace

void CpuBackend::conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups,
                        const Epilogue& epilogue, const Tensor& y) {
  check_conv2d(x, w, window, groups, y);
  check_no_overlap(y, {&x, &w, &epilogue.bias}, "conv2d");
  const Geometry g(x, window, groups, y);
  check_epilogue(epilogue, g.outputs, "conv2d");
  const float *px = x.data<float>(), *pw = w.data<float>();
  const float* bias = epilogue.bias.defined() ? epilogue.bias.data<float>() : nullptr;
  float* py = y.data<float>();
  if (const NarrowKernels::Row narrow_row = narrow(g, simd_.narrow9_row, simd_.narrow3_row)) {
    const RowGeometry image = row_geometry(x, window, y);
    const Tensor turned = scratch(w.elements());  // (patch, K)
    transpose(pw, g.outputs, g.patch(), turned.data<float>());
    const Chunks chunks = image_rows(g.rows(), g.out_width, g.outputs);
    const Chunks pixels{chunks.items * g.out_width, chunks.grain * g.out_width};
    const Tensor moments = moments_scratch(epilogue.mean.defined(), chunks.count(), g.outputs);
    parallel_(chunks.count(), [&](int64_t i) {
      for (int64_t row = chunks[i].begin; row < chunks[i].end; ++row)
        narrow_row(px + row / g.out_height * g.image_size(), image, row % g.out_height, turned.data<float>(), g.outputs,
                   bias, epilogue.relu, py + row * g.out_width * g.outputs);
      if (moments.defined())
        piece_moments(moments, i, g.outputs, py + pixels[i].begin * g.outputs, g.outputs, pixels[i].size(), 0,
                      g.outputs);
    });
    if (moments.defined()) merge_moments(moments, pixels, epilogue.mean, epilogue.var);
    return;
  }
  const Chunks chunks = g.row_chunks();
  const int64_t matrix_size = chunks.grain * g.out_width * g.patch();
  const Tensor matrices = scratch(parallel_.threads() * matrix_size);
  parallel_(chunks.count(), [&](int64_t i, int thread) {
    const Range rows = chunks[i];
    const int64_t pixels = rows.size() * g.out_width;
    float* matrix = matrices.data<float>() + thread * matrix_size;
    float* out = py + rows.begin * g.out_width * g.outputs;
    for (int64_t group = 0; group < groups; ++group) {
      gather(g, px, rows, group, matrix);
      products_.gemm(Transpose::kNo, Transpose::kYes, pixels, g.group_outputs, g.patch(), matrix, g.patch(),
                     pw + group * g.group_outputs * g.patch(), g.patch(), false, out + group * g.group_outputs,
                     g.outputs);
    }
    if (bias || epilogue.relu) simd_.bias_relu(out, g.outputs, pixels, g.outputs, bias, epilogue.relu);
  });
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

void CpuBackend::conv2d_backward_data(const Tensor& dy, const Tensor& w, const Window& window, int64_t groups,
                                      Write write, const Tensor& dx) {
  check_conv2d(dx, w, window, groups, dy);
  check_no_overlap(dx, {&dy, &w}, "conv2d_backward_data");
  const Geometry g(dx, window, groups, dy);
  const float *pdy = dy.data<float>(), *pw = w.data<float>();
  float* pdx = dx.data<float>();
  if (write == Write::kOverwrite) fill(0, dx);
  // Windows of one image overlap, so an image is the piece: its rows are scattered in order.
  const int64_t matrix_size = g.out_width * g.patch();
  const Tensor matrices = scratch(parallel_.threads() * matrix_size);
  parallel_(g.images, [&](int64_t n, int thread) {
    float* matrix = matrices.data<float>() + thread * matrix_size;
    for (int64_t row = n * g.out_height; row < (n + 1) * g.out_height; ++row) {
      for (int64_t group = 0; group < groups; ++group) {
        products_.gemm(Transpose::kNo, Transpose::kNo, g.out_width, g.patch(), g.group_outputs,
                       pdy + row * g.out_width * g.outputs + group * g.group_outputs, g.outputs,
                       pw + group * g.group_outputs * g.patch(), g.patch(), false, matrix, g.patch());
        for_each_run(
            g, row, group,
            [&](int64_t from, int64_t to, int64_t count) {
              for (int64_t j = 0; j < count; ++j) pdx[to + j] += matrix[from + j];
            },
            [](int64_t, int64_t) {});
      }
    }
  });
}

void CpuBackend::conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, int64_t groups,
                                         Write write, const Tensor& dw) {
  check_conv2d(x, dw, window, groups, dy);
  check_no_overlap(dw, {&x, &dy}, "conv2d_backward_weights");
  const Geometry g(x, window, groups, dy);
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  if (narrow(g, simd_.narrow9_weights_row, simd_.narrow3_weights_row)) {
    narrow_backward_weights(x, dy.shape(), window, write, dw,
                            [&](int64_t row, int) { return pdy + row * g.out_width * g.outputs; });
    return;
  }
  // At most 16 partial sums, added in order.
  const Chunks chunks = g.row_chunks();
  const Chunks parts{chunks.count(), divide_up(chunks.count(), 16)};
  const int64_t matrix_size = chunks.grain * g.out_width * g.patch(), filter_size = dw.elements();
  const Tensor matrices = scratch(parallel_.threads() * matrix_size), partial = scratch(parts.count() * filter_size);
  parallel_(parts.count(), [&](int64_t part, int thread) {
    float* matrix = matrices.data<float>() + thread * matrix_size;
    float* sum = partial.data<float>() + part * filter_size;
    for (int64_t i = parts[part].begin; i < parts[part].end; ++i) {
      const Range rows = chunks[i];
      for (int64_t group = 0; group < groups; ++group) {
        gather(g, px, rows, group, matrix);
        products_.gemm(Transpose::kYes, Transpose::kNo, g.group_outputs, g.patch(), rows.size() * g.out_width,
                       pdy + rows.begin * g.out_width * g.outputs + group * g.group_outputs, g.outputs, matrix,
                       g.patch(), i > parts[part].begin, sum + group * g.group_outputs * g.patch(), g.patch());
      }
    }
  });
  reduce_parts(partial.data<float>(), parts.count(), filter_size, write, dw.data<float>());
}

void CpuBackend::narrow_backward_weights(const Tensor& x, const Shape& out, const Window& window, Write write,
                                         const Tensor& dw, const GradientRow& dy_row) {
  const RowGeometry image{x.shape().h,        x.shape().w,        out.h,           out.w,
                          x.channels(),       window.kernel_h,    window.kernel_w, window.stride,
                          window.padding.top, window.padding.left};
  const auto weights_row = window.kernel_w * x.channels() == 9 ? simd_.narrow9_weights_row : simd_.narrow3_weights_row;
  const int64_t outputs = out.c, image_size = x.shape().h * x.shape().w * x.channels(), size = dw.elements();
  const Chunks parts{out.n * out.h, divide_up(out.n * out.h, 16)};
  const Tensor partial = scratch((parts.count() + 1) * size);  // and their sum; (patch, K) each
  parallel_(parts.count(), [&](int64_t part, int thread) {
    float* sum = partial.data<float>() + part * size;
    std::fill_n(sum, size, 0.0f);
    for (int64_t row = parts[part].begin; row < parts[part].end; ++row)
      weights_row(x.data<float>() + row / out.h * image_size, image, row % out.h, dy_row(row, thread), outputs, sum);
  });
  float* total = partial.data<float>() + parts.count() * size;
  reduce_parts(partial.data<float>(), parts.count(), size, Write::kOverwrite, total);
  const Tensor turned = scratch(size);
  transpose(total, size / outputs, outputs, turned.data<float>());
  reduce_parts(turned.data<float>(), 1, size, write, dw.data<float>());
}

void CpuBackend::conv2d_norm_max_pool_backward(const Tensor& input, const Window& conv_window, const Tensor& x,
                                               const BatchNormState& norm, const Window& pool_window, const Tensor& dy,
                                               const Tensor& winner, Write write_params, const Tensor& dw,
                                               const Tensor& dgamma, const Tensor& dbeta) {
  const char* name = "conv2d_norm_max_pool_backward";
  check_conv2d(input, dw, conv_window, 1, x);
  check_max_pool(x, pool_window, dy, winner, name);
  check_no_overlap(dw, {&input, &x, &dy}, name);
  check_vectors({&norm.mean, &norm.var, &norm.gamma, &norm.beta, &dgamma, &dbeta}, x.channels(), name);
  const NormCoefficients k = norm_coefficients(norm);
  const Geometry g(input, conv_window, 1, x);
  if (!narrow(g, simd_.narrow9_weights_row, simd_.narrow3_weights_row)) {
    const Tensor dx = empty(x.shape());
    batch_norm_max_pool_backward(x, dy, winner, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, pool_window,
                                 write_params, dx, dgamma, dbeta);
    conv2d_backward_weights(input, dx, conv_window, 1, write_params, dw);
    return;
  }
  const NormGradient gradient = norm_max_pool_sums(x, dy, winner, k, pool_window, write_params, dgamma, dbeta);
  const RowGeometry pool = row_geometry(x, pool_window, dy);
  const int64_t row_size = pool.width * pool.channels;
  const Tensor rows = scratch(parallel_.threads() * row_size);
  narrow_backward_weights(input, x.shape(), conv_window, write_params, dw, [&](int64_t row, int thread) {
    float* dx = rows.data<float>() + thread * row_size;
    norm_max_pool_data_row(x, dy, winner, k, gradient, pool, row, dx, pool.channels);
    return static_cast<const float*>(dx);
  });
}

}  // namespace riffle
