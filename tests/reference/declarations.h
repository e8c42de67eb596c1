// The reference backend's class, for the files that implement it. Tests include ref_backend.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace riffle::reference {

class RefBackend final : public Backend {
 public:
  Device device() const override { return {}; }
  DType dtype() const override { return DType::kF64; }
  DType parameter_dtype() const override { return DType::kF64; }
  std::string description() const override { return "reference: naive loops in float64"; }
  std::vector<std::string> choices() const override { return {}; }
  using Backend::empty;
  Tensor empty(Shape shape, DType dtype) override;
  MemoryStatistics memory() const override { return *memory_; }
  void synchronize() override {}
  bool can_capture() const override { return false; }
  std::unique_ptr<CapturedWork> capture(const std::function<void()>&) override {
    fail("work is captured on CUDA devices only");
  }
  void begin_range(const std::string&) override {}
  void end_range() override {}
  void time_ranges() override { fail("the reference backend takes no times"); }
  std::vector<RangeTime> range_times() override { fail("the reference backend takes no times"); }

  // movement.cpp
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

  // convolution.cpp
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

  // batch_norm.cpp
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

  // pooling.cpp: elementwise and pooling
  void relu(const Tensor& x, const Tensor& y) override;
  void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) override;
  void dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) override;
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
  void max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) override;
  void max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) override;
  void global_average_pool(const Tensor& x, const Tensor& y) override;
  void global_average_pool_backward(const Tensor& dy, const Tensor& dx) override;

  // loss_and_optimizer.cpp
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
  // The parts as one tensor (a copy if there are several), and back.
  Tensor gathered(const ChannelParts& parts);
  void scatter(const Tensor& whole, const ChannelParts& parts);

  // Shared with the deleters of tensors, which may outlive the backend.
  std::shared_ptr<MemoryStatistics> memory_ = std::make_shared<MemoryStatistics>();
};

}  // namespace riffle::reference
