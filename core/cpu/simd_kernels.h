// The CPU's inner loops over rows of f32 channels, behind tables of function pointers for each instruction set. They
// are single-threaded and know no tensors: CpuBackend splits the work into chunks that depend on shapes only, so
// results depend on neither thread count nor schedule. All pointers are to the first channel of the first row; ld = row
// pitch.
#pragma once

#include <cstdint>

namespace riffle {

// Per-channel coefficients of y = (x - mean) * scale + shift.
struct ChannelAffine {
  const float* mean;
  const float* scale;
  const float* shift;

  // The same for channels `begin` and on.
  ChannelAffine from(int64_t begin) const { return {mean + begin, scale + begin, shift + begin}; }
};

// One image of a depthwise convolution or pooling: geometry shared by its kernels.
struct RowGeometry {
  int64_t height, width;          // of the input
  int64_t out_height, out_width;  // of the output
  int64_t channels;
  int64_t kernel_h, kernel_w, stride, pad_top, pad_left;
};

struct RowKernels {
  // y = max(0, y + bias); bias may be null, relu is optional.
  void (*bias_relu)(float* y, int64_t ld, int64_t rows, int64_t channels, const float* bias, bool relu);
  // y = (x - mean)*scale + shift, then ReLU. y may be x.
  void (*affine)(const float* x, int64_t ldx, int64_t rows, int64_t channels, const ChannelAffine& a, bool relu,
                 float* y, int64_t ldy);
  // centre[c] is close to the mean; sum[c] = sum of (x - centre), squares[c] = sum of its squares.
  void (*moments)(const float* x, int64_t ld, int64_t rows, int64_t channels, float* centre, float* sum,
                  float* squares);
  // sum[c] = sum of x.
  void (*column_sums)(const float* x, int64_t ld, int64_t rows, int64_t channels, float* sum);
  // With g = dy, masked by affine(x) > 0 if relu: sum_g[c] = sum g; sum_gx[c] = sum g*(x - mean).
  void (*norm_backward_sums)(const float* x, int64_t ldx, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                             const ChannelAffine& a, bool relu, float* sum_g, float* sum_gx);
  // dx = scale*g + from_x*(x - mean) + offset. dx may be dy.
  void (*norm_backward_apply)(const float* x, int64_t ldx, const float* dy, int64_t lddy, int64_t rows,
                              int64_t channels, const ChannelAffine& a, bool relu, const float* from_x,
                              const float* offset, float* dx, int64_t lddx);
  void (*relu_backward)(const float* y, int64_t ldy, const float* dy, int64_t lddy, int64_t rows, int64_t channels,
                        float* dx, int64_t lddx);
  void (*add)(const float* x, int64_t ldx, int64_t rows, int64_t channels, float* y, int64_t ldy);  // y += x
  // y = dx + from_x * (x - mean).
  void (*add_centred)(const float* x, int64_t ldx, int64_t rows, int64_t channels, const float* mean,
                      const float* from_x, const float* dx, int64_t lddx, float* y, int64_t ldy);
  // y[2i] = a[i], y[2i+1] = b[i] for i < half; and back.
  void (*interleave)(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, int64_t half, float* y,
                     int64_t ldy);
  void (*deinterleave)(const float* x, int64_t ldx, int64_t rows, int64_t half, float* a, int64_t lda, float* b,
                       int64_t ldb);

  // g' = g*grad_scale + decay*w; v = momentum*v + g'; w -= lr*(nesterov ? g' + momentum*v : v).
  void (*sgd)(float* w, const float* grad, float* velocity, int64_t count, float lr, float momentum, float decay,
              float grad_scale, bool nesterov);
  void (*ema)(float* average, const float* value, int64_t count, float decay);
};

// 3x3 windows; w is (9, C).
struct DepthwiseKernels {
  // Output row `oh` of one image; x is the image.
  void (*depthwise3x3_row)(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, const float* w,
                           const float* bias, bool relu, bool accumulate, float* y, int64_t ldy);
  // Input row `ih` of dx of one image; dy is the image.
  void (*depthwise3x3_data_row)(const float* dy, int64_t lddy, const RowGeometry& g, int64_t ih, const float* w,
                                bool accumulate, float* dx, int64_t lddx);
  // dw (9, C) += contribution of output row `oh`; dy is the row.
  void (*depthwise3x3_weights_row)(const float* x, int64_t ldx, const float* dy, int64_t lddy, const RowGeometry& g,
                                   int64_t oh, float* dw);
};

// winner: (out_width, C) for a row, (out_height, out_width, C) for an image.
struct PoolingKernels {
  // Output row `oh` of one image; x is the image, winner the row.
  void (*max_pool_row)(const float* x, int64_t ldx, const RowGeometry& g, int64_t oh, float* y, int64_t ldy,
                       uint8_t* winner);
  // Input row `ih` of dx of one image; dy and winner are the image.
  void (*max_pool_data_row)(const float* dy, int64_t lddy, const uint8_t* winner, const RowGeometry& g, int64_t ih,
                            float* dx, int64_t lddx);
  // max_pool_row of relu(affine(x)).
  void (*norm_max_pool_row)(const float* x, int64_t ldx, const ChannelAffine& a, const RowGeometry& g, int64_t oh,
                            float* y, int64_t ldy, uint8_t* winner);
  // What norm_backward_sums would add up over max_pool_data_row's dx, from output row `oh`; added to sum_g and sum_gx.
  // x is the image, dy and winner the row.
  void (*norm_max_pool_sums_row)(const float* x, int64_t ldx, const float* dy, int64_t lddy, const uint8_t* winner,
                                 const ChannelAffine& a, const RowGeometry& g, int64_t oh, float* sum_g, float* sum_gx);
  // norm_backward_apply of max_pool_data_row, for input row `ih`: x and dx are the row (dx may be x), dy and winner the
  // image.
  void (*norm_max_pool_data_row)(const float* x, int64_t ldx, const float* dy, int64_t lddy, const uint8_t* winner,
                                 const ChannelAffine& a, const float* from_x, const float* offset, const RowGeometry& g,
                                 int64_t ih, float* dx, int64_t lddx);
};

// Dense convolutions of packed images whose windows have rows of 9 (or 3) floats. w, dw: (kernel_h, 9 (or 3), outputs).
struct NarrowKernels {
  using Row = void (*)(const float* x, const RowGeometry& g, int64_t oh, const float* w, int64_t outputs,
                       const float* bias, bool relu, float* y);
  using WeightsRow = void (*)(const float* x, const RowGeometry& g, int64_t oh, const float* dy, int64_t outputs,
                              float* dw);
  // Output row `oh` of one image; x is the image.
  Row narrow9_row, narrow3_row;
  // dw += contribution of output row `oh`; dy is the row.
  WeightsRow narrow9_weights_row, narrow3_weights_row;
};

constexpr int64_t kProductPanel = 64;  // columns of a packed right operand

// Memory that will be read soon: it is prefetched between a product's instructions, as far as they suffice. May be empty.
struct Upcoming {
  const float* data;
  int64_t floats;
};

// Matrix products. Null where the instruction set has none.
struct ProductKernels {
  // c (rows, columns) = a (rows, inner) * b, or += if accumulate. packed_b: panels (inner, kProductPanel) of b's columns,
  // the last filled up with zeros.
  void (*product)(const float* a, int64_t lda, int64_t rows, int64_t inner, const float* packed_b, int64_t columns,
                  bool accumulate, float* c, int64_t ldc, Upcoming upcoming);
  // c (rows, columns) = a (inner, rows) transposed * b (inner, columns), or += if accumulate.
  void (*transposed_product)(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t inner, int64_t rows,
                             int64_t columns, bool accumulate, float* c, int64_t ldc, Upcoming upcoming);
};

struct SimdKernels : RowKernels, DepthwiseKernels, PoolingKernels, NarrowKernels, ProductKernels {};

// The best that this processor can run, chosen once.
const SimdKernels& simd_kernels();

}  // namespace riffle
