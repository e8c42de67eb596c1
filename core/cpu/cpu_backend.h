// CpuBackend: f32 on host memory (matrix products of bf16 on request). Pointwise convolutions are oneDNN matrix products on row pitches, dense convolutions
// the same on gathered rows, everything else loops over rows (simd_kernels.h) split into chunks (parallel.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/cpu/allocator.h"
#include "core/cpu/packed_product.h"
#include "core/cpu/parallel.h"
#include "core/cpu/range_clock.h"
#include "core/cpu/simd_kernels.h"

namespace riffle {

// What the inputs of matrix products (pointwise convolutions, the classifier, dense convolutions but the stem's) are
// rounded to. Tensors and sums are f32 either way: on a CPU the products are the cost, and half of a training step.
enum class Products { kF32, kBF16 };

// threads: 0 means as many as OpenMP would use (OMP_NUM_THREADS, else the processors available). Results do not depend
// on it. poison: empty() fills with NaN (0xCD bytes for integers), so that reading what nobody wrote shows in tests.
// products: kBF16 throws where cpu_has_bf16() is false.
std::unique_ptr<Backend> make_cpu_backend(int threads, bool poison = false, Products products = Products::kF32);

bool cpu_has_bf16();  // AVX512-BF16, and RIFFLE_ISA does not choose less

// "AVX-512", "AVX2" or "baseline": what the inner loops use here. Setting the environment variable RIFFLE_ISA to
// avx512, avx2 or baseline chooses a lesser one (for tests); one that the processor lacks is an error.
std::string cpu_isa();
std::string cpu_model();        // as /proc/cpuinfo names it
std::string one_dnn_version();  // "2.6.3"
int default_cpu_threads();

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, bool poison, Products products);

  Device device() const override { return {DeviceKind::kCpu, 0}; }
  DType dtype() const override { return DType::kF32; }
  DType parameter_dtype() const override { return DType::kF32; }
  std::string description() const override;
  std::vector<std::string> choices() const override { return {}; }
  using Backend::empty;
  Tensor empty(Shape shape, DType dtype) override;
  MemoryStatistics memory() const override { return allocator_->statistics(); }
  void synchronize() override {}
  bool can_capture() const override { return false; }
  std::unique_ptr<CapturedWork> capture(const std::function<void()>&) override {
    fail("work is captured on CUDA devices only");
  }
  void begin_range(const std::string& name) override { range_clock_.begin(name); }
  void end_range() override { range_clock_.end(); }
  void time_ranges() override { range_clock_.start(); }
  std::vector<RangeTime> range_times() override { return range_clock_.stop(); }

  void upload(const void* host, DType host_dtype, const Tensor& y) override;
  void download(const Tensor& x, DType host_dtype, void* host) override;
  void fill(double value, const Tensor& y) override;
  void copy(const Tensor& x, Write write, const Tensor& y) override;
  void normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation,
                 const Tensor& y) override;
  void normalize_mixed(const Tensor& images, const Normalisation& normalisation, const ImageMix& mix,
                       const Tensor& y) override;

  void channel_shuffle(const Tensor& x, int64_t groups, const Tensor& y) override;
  void interleave(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void deinterleave(const Tensor& x, const Tensor& a, const Tensor& b) override;

  void conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups, const Epilogue& epilogue,
              const Tensor& y) override;
  void conv2d_backward_data(const Tensor& dy, const Tensor& w, const Window& window, int64_t groups, Write write,
                            const Tensor& dx) override;
  void conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, int64_t groups, Write write,
                               const Tensor& dw) override;
  void depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                 const Tensor& y) override;
  void depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                               const Tensor& dx) override;
  void depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                  const Tensor& dw) override;
  void pointwise(const Tensor& x, const Tensor& w, const Epilogue& epilogue, const Tensor& y) override;
  void pointwise_backward_data(const Tensor& dy, const Tensor& w, Write write, const Tensor& dx) override;
  void pointwise_backward_weights(const Tensor& x, const Tensor& dy, Write write, const Tensor& dw) override;
  void channel_sums(const Tensor& x, Write write, const Tensor& sums) override;

  void batch_norm_statistics(const Tensor& x, const Tensor& mean, const Tensor& var) override;
  void batch_norm_update_running(const Tensor& mean, const Tensor& var, int64_t pixels, double momentum,
                                 const Tensor& running_mean, const Tensor& running_var) override;
  void batch_norm_apply(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma, const Tensor& beta,
                        double eps, bool relu, const ChannelParts& y) override;
  void batch_norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& mean, const Tensor& var,
                           const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                           const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) override;
  void batch_norm_backward_frozen(const Tensor& x, const ChannelParts& dy, const Tensor& mean, const Tensor& var,
                                  const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                                  const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) override;

  void pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y, const ChannelParts& dz,
                                     const Tensor& sums, const BatchNormState& norm, Write write_dx, const Tensor& dx,
                                     Write write_params, const Tensor& dw, const Tensor& dgamma,
                                     const Tensor& dbeta) override;
  void fold_norm(const Tensor& w, const BatchNormState& norm, const Tensor& scaled_w, const Tensor& shift) override;
  void fold_norm_backward(const Tensor& w, const Tensor& dscaled_w, const BatchNormState& norm, int64_t pixels,
                          Write write_params, const Tensor& dw, const Tensor& dgamma, const Tensor& dbeta,
                          const Tensor& from_x) override;
  void norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                      const Tensor& mean, const Tensor& var, const Tensor& y) override;
  void norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                               const Tensor& y, const Tensor& mean_y, const Tensor& from_y, const Tensor& dy,
                               Write write_dx, const Tensor& dx, Write write_dw, const Tensor& dw,
                               const Tensor& sums) override;
  void batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                           const Tensor& beta, double eps, const Window& window, const Tensor& y,
                           const Tensor& winner) override;
  void conv2d_norm_max_pool_backward(const Tensor& input, const Window& conv_window, const Tensor& x,
                                     const BatchNormState& norm, const Window& pool_window, const Tensor& dy,
                                     const Tensor& winner, Write write_params, const Tensor& dw, const Tensor& dgamma,
                                     const Tensor& dbeta) override;
  void batch_norm_max_pool_backward(const Tensor& x, const Tensor& dy, const Tensor& winner, const Tensor& mean,
                                    const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                    const Window& window, Write write_params, const Tensor& dx, const Tensor& dgamma,
                                    const Tensor& dbeta) override;

  void relu(const Tensor& x, const Tensor& y) override;
  void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) override;
  void dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) override;
  void max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) override;
  void max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) override;
  void global_average_pool(const Tensor& x, const Tensor& y) override;
  void global_average_pool_backward(const Tensor& dy, const Tensor& dx) override;

  void softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                             const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) override;
  void soft_cross_entropy(const Tensor& logits, const Tensor& targets, double grad_scale, const Tensor& scalars,
                          const Tensor& loss, const Tensor& dlogits) override;
  void mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                     const Tensor& targets) override;
  void label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) override;

  void sgd_step(const std::vector<ParameterUpdate>& updates, const SgdRule& rule, const Tensor& scalars) override;
  void squared_norm(const std::vector<Tensor>& tensors, const Tensor& sum) override;
  void scale_gradients(const Tensor& squared_norm, double max_norm, bool skip_not_finite,
                       const Tensor& scalars) override;
  void ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values,
                  const Tensor& scalars) override;
  void keep_or_restore(const std::vector<Tensor>& values, const std::vector<Tensor>& kept,
                       const Tensor& scalars) override;

 private:
  struct NormCoefficients {
    std::vector<float> scale, inv_std;  // scale = gamma * inv_std
    ChannelAffine affine;               // points into scale and the tensors
  };
  struct NormGradient {  // dx = scale*g + from_x*(x - mean) + offset
    std::vector<float> from_x, offset;
  };
  NormCoefficients norm_coefficients(const Tensor& mean, const Tensor& var, const Tensor& gamma, const Tensor& beta,
                                     double eps);
  NormCoefficients norm_coefficients(const BatchNormState& norm) {
    return norm_coefficients(norm.mean, norm.var, norm.gamma, norm.beta, norm.eps);
  }
  // From partial sums of g = masked dy (C) and g*(x - mean) (C), `parts` times: writes dgamma and dbeta, returns what
  // dx needs.
  NormGradient norm_gradient(const NormCoefficients& coefficients, const float* partial, int64_t parts,
                             int64_t channels, int64_t pixels, bool statistics_depend_on_x, Write write_params,
                             const Tensor& dgamma, const Tensor& dbeta);
  // `sums`: known already, or undefined.
  NormGradient norm_sums(const Tensor& x, const ChannelParts& dy, const Tensor& sums,
                         const NormCoefficients& coefficients, bool relu, bool statistics_depend_on_x,
                         Write write_params, const Tensor& dgamma, const Tensor& dbeta);
  void norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& sums, const NormCoefficients& coefficients,
                     bool relu, bool statistics_depend_on_x, Write write_params, const Tensor& dx, const Tensor& dgamma,
                     const Tensor& dbeta);
  // dx = gradient for rows [rows.begin, rows.end) of x; dx points to the first of them.
  void norm_backward_rows(const Tensor& x, const ChannelParts& dy, Range rows, const NormCoefficients& coefficients,
                          const NormGradient& gradient, bool relu, float* dx, int64_t lddx) const;
  // The two halves of batch_norm_max_pool_backward: the sums, and row `row` of all images' rows; dx points to that row.
  NormGradient norm_max_pool_sums(const Tensor& x, const Tensor& dy, const Tensor& winner,
                                  const NormCoefficients& coefficients, const Window& window, Write write_params,
                                  const Tensor& dgamma, const Tensor& dbeta);
  void norm_max_pool_data_row(const Tensor& x, const Tensor& dy, const Tensor& winner,
                              const NormCoefficients& coefficients, const NormGradient& gradient,
                              const RowGeometry& geometry, int64_t row, float* dx, int64_t lddx) const;
  // conv2d_backward_weights where a window's row is 9 or 3 floats; dy_row(row, thread) gives row `row` of all images'
  // rows of dy, whose shape is `out`.
  using GradientRow = std::function<const float*(int64_t row, int thread)>;
  void narrow_backward_weights(const Tensor& x, const Shape& out, const Window& window, Write write, const Tensor& dw,
                               const GradientRow& dy_row);
  // Batch norm's statistics from pieces: moments of each, (pieces, 3, C), then their merger. Chunks are of pixels.
  Tensor moments_scratch(bool wanted, int64_t pieces, int64_t channels) {
    return wanted ? scratch(3 * pieces * channels) : Tensor{};
  }
  // Channels [begin, begin + count) of piece `piece`; y points to its first pixel's channel `begin`.
  void piece_moments(const Tensor& partial, int64_t piece, int64_t channels, const float* y, int64_t ld, int64_t pixels,
                     int64_t begin, int64_t count);
  void merge_moments(const Tensor& partial, const Chunks& pixels, const Tensor& mean, const Tensor& var);
  // total[c] = sum over parts of partial[part][c], in order; overwrites or accumulates.
  void reduce_parts(const float* partial, int64_t parts, int64_t size, Write write, float* total);
  // Its packed operand lives in `memory`, which must outlive it.
  PackedProduct packed_product(const PackedProduct::Problem& problem, Tensor& memory);
  Tensor scratch(int64_t floats) { return empty(vector_shape(floats), DType::kF32); }

  Parallel parallel_;
  bool poison_;
  std::shared_ptr<CachingAllocator> allocator_;
  const SimdKernels& simd_;
  RangeClock range_clock_;
  const MatrixProducts products_;
};

}  // namespace riffle
