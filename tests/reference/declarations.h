// The reference backend's class, for the files that implement it. Tests include ref_backend.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace riffle::reference {

class RefBackend final : public Backend {
 public:
  Device device() const override { return {}; }
  DType dtype() const override { return DType::kF64; }
  std::string description() const override { return "reference: naive loops in float64"; }
  using Backend::empty;
  Tensor empty(Shape shape, DType dtype) override;
  MemoryStatistics memory() const override { return *memory_; }
  void synchronize() override {}

  // movement.cpp
  void upload(const void* host, DType host_dtype, const Tensor& y) override;
  void download(const Tensor& x, DType host_dtype, void* host) override;
  void fill(double value, const Tensor& y) override;
  void copy(const Tensor& x, Write write, const Tensor& y) override;
  void normalize(const Tensor& images, const Normalisation& normalisation, const Tensor& y) override;
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
                        double eps, bool relu, const Tensor& y) override;
  void batch_norm_backward(const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& var,
                           const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                           const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) override;
  void batch_norm_backward_frozen(const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& var,
                                  const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                                  const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) override;

  // pooling.cpp: elementwise and pooling
  void relu(const Tensor& x, const Tensor& y) override;
  void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) override;
  void dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& y) override;
  void pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& dz,
                                     const BatchNormState& norm, Write write_dx, const Tensor& dx, Write write_params,
                                     const Tensor& dw, const Tensor& dgamma, const Tensor& dbeta) override;
  void batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                           const Tensor& beta, double eps, const Window& window, const Tensor& y,
                           const Tensor& winner) override;
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
                             const Tensor& loss, const Tensor& dlogits) override;
  void label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) override;
  void sgd_step(const std::vector<ParameterUpdate>& updates, const SgdStep& step) override;
  double squared_norm(const std::vector<Tensor>& tensors) override;
  void ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values, double decay) override;

 private:
  // Shared with the deleters of tensors, which may outlive the backend.
  std::shared_ptr<MemoryStatistics> memory_ = std::make_shared<MemoryStatistics>();
};

}  // namespace riffle::reference
