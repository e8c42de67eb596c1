// CudaBackend: activations in f32, bf16 or f16 on one GPU. Dense convolutions are cuDNN's, matrix products cuBLASLt's,
// everything else kernels of ours: each .cu file holds the kernels of its subject and the methods that launch them.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/captured_work.h"
#include "cuda/allocator.h"
#include "cuda/gpu.h"
#include "cuda/options.h"
#include "cuda/range_events.h"
#include "cuda/runtime.h"
#include "cuda/status.h"

namespace riffle {

class ConvolutionPlans;  // cuda/convolution_plans.h: cuDNN
class MatrixProducts;    // cuda/matrix_products.h: cuBLASLt

// Work is queued on one compute stream, in the order of the calls, and runs behind the program. One thread at a time
// may call methods, with the device current there: the constructor makes it so, elsewhere use_device(index) does.
class CudaBackend final : public Backend {
 public:
  // Makes the device the calling thread's.
  explicit CudaBackend(const CudaOptions& options);
  ~CudaBackend() override;

  Device device() const override { return {DeviceKind::kCuda, options_.device}; }
  DType dtype() const override { return options_.dtype; }
  DType parameter_dtype() const override { return DType::kF32; }
  std::string description() const override;
  std::vector<std::string> choices() const override;
  using Backend::empty;
  Tensor empty(Shape shape, DType dtype) override;
  MemoryStatistics memory() const override { return allocator_->statistics(); }
  void synchronize() override;
  bool can_capture() const override { return true; }
  // Records what `work` queues, without running it; see StepGraph. Transfers and waiting are errors in it. The result
  // must go before this backend does.
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override;
  // Brackets work in profiles (NVTX), with the name of the layer that queues it. They nest.
  void begin_range(const std::string& name) override;
  void end_range() override;
  void time_ranges() override;
  std::vector<RangeTime> range_times() override;

  // transfer.cpp
  void upload(const void* host, DType host_dtype, const Tensor& y) override;
  void download(const Tensor& x, DType host_dtype, void* host) override;

  // movement.cu
  void fill(double value, const Tensor& y) override;
  void copy(const Tensor& x, Write write, const Tensor& y) override;
  void normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation,
                 const Tensor& y) override;

  // mixing.cu
  void normalize_mixed(const Tensor& images, const Normalisation& normalisation, const ImageMix& mix,
                       const Tensor& y) override;
  void mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                     const Tensor& targets) override;

  // channel_shuffle.cu
  void channel_shuffle(const Tensor& x, int64_t groups, const Tensor& y) override;
  void interleave(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void deinterleave(const Tensor& x, const Tensor& a, const Tensor& b) override;

  // conv2d.cpp
  void conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups, const Epilogue& epilogue,
              const Tensor& y) override;
  void conv2d_backward_data(const Tensor& dy, const Tensor& w, const Window& window, int64_t groups, Write write,
                            const Tensor& dx) override;
  void conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, int64_t groups, Write write,
                               const Tensor& dw) override;
  void conv2d_norm_max_pool_backward(const Tensor& input, const Window& conv_window, const Tensor& x,
                                     const BatchNormState& norm, const Window& pool_window, const Tensor& dy,
                                     const Tensor& winner, Write write_params, const Tensor& dw, const Tensor& dgamma,
                                     const Tensor& dbeta) override;

  // depthwise.cu
  void depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                 const Tensor& y) override;
  void depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                               const Tensor& dx) override;
  void depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                  const Tensor& dw) override;

  // pointwise.cpp
  void pointwise(const Tensor& x, const Tensor& w, const Epilogue& epilogue, const Tensor& y) override;
  void pointwise_backward_data(const Tensor& dy, const Tensor& w, Write write, const Tensor& dx) override;
  void pointwise_backward_weights(const Tensor& x, const Tensor& dy, Write write, const Tensor& dw) override;
  // channel_sums.cu
  void channel_sums(const Tensor& x, Write write, const Tensor& sums) override;

  // batch_norm_statistics.cu and batch_norm.cu
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

  // batch_norm_fused.cu
  void pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y, const ChannelParts& dz,
                                     const Tensor& sums, const BatchNormState& norm, Write write_dx, const Tensor& dx,
                                     Write write_params, const Tensor& dw, const Tensor& dgamma,
                                     const Tensor& dbeta) override;
  void fold_norm(const Tensor& w, const BatchNormState& norm, const Tensor& scaled_w, const Tensor& shift) override;
  void fold_norm_backward(const Tensor& w, const Tensor& dscaled_w, const BatchNormState& norm, int64_t pixels,
                          Write write_params, const Tensor& dw, const Tensor& dgamma, const Tensor& dbeta,
                          const Tensor& from_x) override;

  // depthwise_fused.cu
  void norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                      const Tensor& mean, const Tensor& var, const Tensor& y) override;
  void norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                               const Tensor& y, const Tensor& mean_y, const Tensor& from_y, const Tensor& dy,
                               Write write_dx, const Tensor& dx, Write write_dw, const Tensor& dw,
                               const Tensor& sums) override;

  // batch_norm_pool.cu
  void batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                           const Tensor& beta, double eps, const Window& window, const Tensor& y,
                           const Tensor& winner) override;
  void batch_norm_max_pool_backward(const Tensor& x, const Tensor& dy, const Tensor& winner, const Tensor& mean,
                                    const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                    const Window& window, Write write_params, const Tensor& dx, const Tensor& dgamma,
                                    const Tensor& dbeta) override;

  // pooling.cu: elementwise operations and pooling
  void relu(const Tensor& x, const Tensor& y) override;
  void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) override;
  void dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) override;
  void max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) override;
  void max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) override;
  void global_average_pool(const Tensor& x, const Tensor& y) override;
  void global_average_pool_backward(const Tensor& dy, const Tensor& dx) override;

  // loss.cu
  void softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                             const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) override;
  void soft_cross_entropy(const Tensor& logits, const Tensor& targets, double grad_scale, const Tensor& scalars,
                          const Tensor& loss, const Tensor& dlogits) override;
  void label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) override;

  // optimizer.cu
  void sgd_step(const std::vector<ParameterUpdate>& updates, const SgdRule& rule, const Tensor& scalars) override;
  void squared_norm(const std::vector<Tensor>& tensors, const Tensor& sum) override;
  void scale_gradients(const Tensor& squared_norm, double max_norm, bool skip_not_finite,
                       const Tensor& scalars) override;
  void ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values,
                  const Tensor& scalars) override;
  void keep_or_restore(const std::vector<Tensor>& values, const std::vector<Tensor>& kept,
                       const Tensor& scalars) override;

 private:
  // Launches on the compute stream and checks. Grids and blocks are of threads as CUDA counts them.
  template <class... Parameters, class... Arguments>
  void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
              Arguments&&... arguments) {
    check_cuda(gpu::launch(kernel, grid, block, shared_bytes, stream_.get(), std::forward<Arguments>(arguments)...),
               name, __FILE__, __LINE__);
  }
  // loss.cu: both cross-entropies, once their arguments are checked.
  template <class Targets>
  void cross_entropy(const char* name, const Tensor& logits, const Targets& targets, double grad_scale,
                     const Tensor& scalars, const Tensor& loss, const Tensor& dlogits);
  // Both gradients of batch norm: sums, unless known, then dx.
  void norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& known_sums, const BatchNormState& norm,
                     bool statistics_depend_on_x, Write write_params, const Tensor& dx, const Tensor& dgamma,
                     const Tensor& dbeta);
  // sums (2, parts, C): of masked dy, and of it times x - mean. Writes dgamma, dbeta and, if defined, gradient (2, C):
  // from_x and offset of dx = scale*g + from_x*(x - mean) + offset.
  void finish_norm_sums(const Tensor& sums, const BatchNormState& norm, int64_t pixels, Write write_params,
                        const Tensor& dgamma, const Tensor& dbeta, const Tensor& gradient);
  // Sums of masked dy and of it times x - mean, (2, parts, C), which are still to be added up over the parts.
  Tensor norm_gradient_sums(const Tensor& x, const ChannelParts& dy, const BatchNormState& norm);
  // depthwise_cudnn.cpp: the operations of those names with options_.cudnn_depthwise, once arguments are checked.
  void cudnn_depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                       const Tensor& y);
  void cudnn_depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                                     const Tensor& dx);
  void cudnn_depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                        const Tensor& dw);
  void cudnn_norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                            const Tensor& mean, const Tensor& var, const Tensor& y);
  void cudnn_norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                     const Window& window, const Tensor& y, const Tensor& mean_y, const Tensor& from_y,
                                     const Tensor& dy, Write write_dx, const Tensor& dx, Write write_dw,
                                     const Tensor& dw, const Tensor& sums);
  // Made, and their libraries opened, when first needed.
  MatrixProducts& products();
  ConvolutionPlans& convolutions();
  // y = y + bias[c], then max(0, y) if relu: a convolution's epilogue. channel_sums.cu
  void add_bias(const Tensor& bias, bool relu, const Tensor& y);
  // total (packed, f32) = or += the sum over partial (parts, elements of total), in order.
  void sum_parts(const float* partial, int64_t parts, Write write, const Tensor& total);
  // Memory until the tensor goes; reused in stream order.
  Tensor scratch(int64_t floats) { return empty(vector_shape(floats), DType::kF32); }

  // An upload's first stop on the device, so that it crosses the bus while the compute stream is busy.
  struct ArrivalBuffer {
    std::shared_ptr<void> memory;
    size_t bytes = 0;
    Event arrived, consumed;  // the copy stream wrote it; the compute stream read it
  };
  // The copy stream may write to it after this.
  ArrivalBuffer& next_arrival(size_t bytes);
  // Queues a copy between two matrices of the dtype and shape of `like`, on the compute stream.
  void copy_matrix(const void* from, int64_t from_ld, const Tensor& like, void* to, int64_t to_ld);
  void check_ours(const Tensor& tensor, const char* operation) const;
  void check_not_capturing(const char* operation) const;

  CudaOptions options_;
  DeviceProperties properties_;
  Stream stream_, copy_stream_;  // compute; from host to device
  std::shared_ptr<DeviceAllocator> allocator_;
  PinnedStaging staging_;
  RangeEvents range_events_;
  std::array<ArrivalBuffer, 2> arrivals_;
  size_t next_arrival_ = 0;
  std::unique_ptr<MatrixProducts> products_;
  std::unique_ptr<ConvolutionPlans> convolutions_;
};

}  // namespace riffle
