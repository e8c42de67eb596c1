// A depthwise convolution together with the norms before and after it. An image at a time: what lies between the norm
// and the convolution (stage 2 of 1.0x: 0.2 MB an image) stays in the second-level cache and never reaches memory, which
// is what bounds a training step.
#include <algorithm>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"
#include "core/cpu/depthwise_data_rows.h"
#include "core/cpu/row_geometry.h"

namespace riffle {

void CpuBackend::norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                                const Tensor& mean, const Tensor& var, const Tensor& y) {
  check_norm_depthwise(x, before, w, window, y, "norm_depthwise");
  check_vectors({&mean, &var}, y.channels(), "norm_depthwise");
  check_no_overlap(y, {&x, &w}, "norm_depthwise");
  const NormCoefficients k = norm_coefficients(before);
  const RowGeometry g = row_geometry(x, window, y);
  const int64_t in_pixels = g.height * g.width, out_pixels = g.out_height * g.out_width;
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* py = y.data<float>();
  const Chunks images{y.shape().n * out_pixels, out_pixels};
  const Tensor moments = moments_scratch(true, images.count(), g.channels);
  const Tensor normalised = scratch(parallel_.threads() * in_pixels * g.channels);
  parallel_(images.count(), [&](int64_t n, int thread) {
    float* z = normalised.data<float>() + thread * in_pixels * g.channels;
    simd_.affine(px + n * in_pixels * x.ld(), x.ld(), in_pixels, g.channels, k.affine, before.relu, z, g.channels);
    float* out = py + n * out_pixels * y.ld();
    for (int64_t oh = 0; oh < g.out_height; ++oh)
      simd_.depthwise3x3_row(z, g.channels, g, oh, pw, nullptr, /*relu=*/false, /*accumulate=*/false,
                             out + oh * g.out_width * y.ld(), y.ld());
    piece_moments(moments, n, g.channels, out, y.ld(), out_pixels, 0, g.channels);
  });
  merge_moments(moments, images, mean, var);
}

void CpuBackend::norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                         const Window& window, const Tensor& y, const Tensor& mean_y,
                                         const Tensor& from_y, const Tensor& dy, Write write_dx, const Tensor& dx,
                                         Write write_dw, const Tensor& dw, const Tensor& sums) {
  const char* name = "norm_depthwise_backward";
  const bool normed = before.mean.defined();
  check_norm_depthwise(x, before, w, window, y, name);
  check_same_shape(y, dy, name);
  check_same_shape(x, dx, name);
  check_same_shape(w, dw, name);
  check_vectors({&mean_y, &from_y}, y.channels(), name);
  if (normed) check_norm_sums(sums, x.channels(), name);
  RIFFLE_CHECK(!normed || write_dx == Write::kOverwrite, name, ": sums are of a whole gradient");
  check_no_overlap(dx, {&x, &w, &y, &dy}, name);
  const NormCoefficients k = normed ? norm_coefficients(before) : NormCoefficients{};
  const RowGeometry g = row_geometry(x, window, y);
  const int64_t channels = g.channels, in_pixels = g.height * g.width, out_pixels = g.out_height * g.out_width;
  const int64_t images = x.shape().n, filter = dw.elements();
  const float *px = x.data<float>(), *py = y.data<float>(), *pdy = dy.data<float>();
  float* pdx = dx.data<float>();
  const DepthwiseDataRows data_rows(simd_, w.data<float>(), g);
  const Tensor partial_dw = scratch(images * filter), partial_sums = scratch(normed ? images * 2 * channels : 1);
  const int64_t thread_scratch = (out_pixels + (normed ? in_pixels : 0)) * channels;
  const Tensor thread_memory = scratch(parallel_.threads() * thread_scratch);
  parallel_(images, [&](int64_t n, int thread) {
    const float* image = px + n * in_pixels * x.ld();
    float* gradient = thread_memory.data<float>() + thread * thread_scratch;
    simd_.add_centred(py + n * out_pixels * y.ld(), y.ld(), out_pixels, channels, mean_y.data<float>(),
                      from_y.data<float>(), pdy + n * out_pixels * dy.ld(), dy.ld(), gradient, channels);
    const float* z = image;
    if (normed) {
      float* normalised = gradient + out_pixels * channels;
      simd_.affine(image, x.ld(), in_pixels, channels, k.affine, before.relu, normalised, channels);
      z = normalised;
    }
    float* sum = partial_dw.data<float>() + n * filter;
    std::fill_n(sum, filter, 0.0f);
    for (int64_t oh = 0; oh < g.out_height; ++oh)
      simd_.depthwise3x3_weights_row(z, normed ? channels : x.ld(), gradient + oh * g.out_width * channels, channels, g,
                                     oh, sum);
    float* out = pdx + n * in_pixels * dx.ld();
    for (int64_t ih = 0; ih < g.height; ++ih)
      data_rows(gradient, channels, ih, write_dx == Write::kAccumulate, out + ih * g.width * dx.ld(), dx.ld());
    if (!normed) return;
    float* norm_sum = partial_sums.data<float>() + n * 2 * channels;
    simd_.norm_backward_sums(image, x.ld(), out, dx.ld(), in_pixels, channels, k.affine, before.relu, norm_sum,
                             norm_sum + channels);
  });
  reduce_parts(partial_dw.data<float>(), images, filter, write_dw, dw.data<float>());
  if (normed) reduce_parts(partial_sums.data<float>(), images, 2 * channels, Write::kOverwrite, sums.data<float>());
}

}  // namespace riffle
