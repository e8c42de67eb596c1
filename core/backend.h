// Backend: every primitive the network needs, as one abstract class. Pure virtual functions are the parity check: an
// operation missing on any side does not compile. No registry, no fallback to another device.
//
// Conventions, stated once:
//  * Tensors are N,H,W,C; P = N*H*W pixels. Any argument may be a channel slice (ld > C) unless it says "packed".
//  * Arguments come as inputs, then parameters, then outputs. Outputs are allocated by the caller with the right shape;
//    a wrong shape or dtype throws. An undefined Tensor (Tensor{}) stands for "absent" where a contract allows it.
//  * Outputs are overwritten; their previous contents, NaN included, do not matter. A `Write` argument of kAccumulate
//    adds instead. Outputs do not overlap inputs unless the contract allows it.
//  * Filters: dense K,R,S,C/groups; depthwise 1,R,S,C; pointwise K,1,1,C. Vectors: 1,1,1,C. All packed.
//  * Activations, their gradients, the filters and biases that convolutions read, and logits have dtype(): f32, bf16 or
//    f16. Everything else has parameter_dtype(), f32: parameters' gradients (dw, dgamma, dbeta, sums), the vectors of
//    batch norm, losses, and the optimiser's tensors. On the reference both are f64. Sums are of f32 or wider.
//  * ReLU, here max(0, y), keeps NaN, so that a diverged network shows.
//  * Work may be asynchronous; download() and synchronize() wait.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/captured_work.h"
#include "core/kernels/philox.h"
#include "core/tensor.h"

namespace riffle {

enum class Write { kOverwrite, kAccumulate };

struct Padding {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
  static Padding all(int64_t size) { return {size, size, size, size}; }
};

// A sliding window: kernel size, stride (the same both ways) and zero padding for each side.
struct Window {
  int64_t kernel_h = 3, kernel_w = 3, stride = 1;
  Padding padding;

  int64_t out_h(int64_t in_h) const { return (in_h + padding.top + padding.bottom - kernel_h) / stride + 1; }
  int64_t out_w(int64_t in_w) const { return (in_w + padding.left + padding.right - kernel_w) / stride + 1; }
};

// Consecutive channel ranges that together are one tensor (N,H,W,C), each in memory of its own. A tensor is one part.
class ChannelParts {
 public:
  ChannelParts(const Tensor& whole) : parts_{whole} {}  // NOLINT: a tensor may stand wherever parts may
  // At least one; all of the same N,H,W and dtype.
  explicit ChannelParts(std::vector<Tensor> parts);

  Shape shape() const;  // with the channels of all parts
  const std::vector<Tensor>& parts() const { return parts_; }

 private:
  std::vector<Tensor> parts_;
};

// What a convolution does to its result on the way to memory: y = conv + bias, then max(0, y); or, instead of those, what
// batch_norm_statistics would say of y, computed while it is in the cache.
struct Epilogue {
  Tensor bias{};  // (C) or undefined
  bool relu = false;
  Tensor mean{}, var{};  // outputs, (C) each; both or none, and then neither bias nor relu
};

// What batch_norm_apply was given. Vectors of (C).
struct BatchNormState {
  Tensor mean, var, gamma, beta;
  double eps = 1e-5;
  bool relu = false;
};

// uint8 pixels to network input: y = (x * scale - mean[c]) / std[c] for channel c of the *output* order.
struct Normalisation {
  double scale = 1.0 / 255;
  std::vector<double> mean{0.485, 0.456, 0.406};  // one per channel
  std::vector<double> std{0.229, 0.224, 0.225};
  bool reverse_channels = false;  // true: the network reads BGR, the images are RGB
};

// Two images and their labels in one: within the box, pixels are `inside` of the image and 1 - inside of its partner, the
// image before it in the batch (of the first, the last); outside of it they are the image's own. Mixup: the box is the
// whole image. CutMix: inside is 0.
struct ImageMix {
  int64_t top = 0, bottom = 0, left = 0, right = 0;  // rows top .. bottom-1, columns left .. right-1
  double inside = 1;                                 // from 0 to 1
};

// One parameter of a multi-tensor update. All of one size, packed.
struct ParameterUpdate {
  Tensor weight, grad, momentum;
  double weight_decay = 0;
  double lr_multiplier = 1;
  Tensor compute_value{};  // of dtype(), or undefined: receives the new weight, rounded
};

// g' = grad * grad_scale + weight_decay * w; v = momentum*v + g'; w -= lr * v (Nesterov: w -= lr * (g' + momentum*v)).
struct SgdRule {
  double momentum = 0.9;
  bool nesterov = false;
};

// Numbers that change from step to step: elements of a packed vector of parameter_dtype(), on the device, so that a
// captured step reads the current ones when it is replayed.
enum StepScalar : int64_t {
  kLearningRate,
  kEmaDecay,
  kLossScale,  // what the loss was multiplied by before the backward pass; 1 except with f16
  kGradScale,  // what sgd_step multiplies gradients by
  kApply,      // 0: sgd_step and ema_update change nothing, because a gradient was not finite; else 1
  kStep,       // the number of the step, from 0, modulo kStepModulus: what dropout draws another mask by
  kHalted,     // not 0: a gradient was not finite, and until this is 0 again no step applies; see scale_gradients
  kStepScalars
};
inline constexpr int64_t kStepModulus = int64_t{1} << 24;  // below it f32 holds every whole number

struct MemoryStatistics {
  int64_t bytes_in_use = 0, bytes_held = 0, peak_bytes = 0;
  int64_t system_allocations = 0;  // stops growing after the second training step
};

// How long the device was in a range: see Backend::time_ranges().
struct RangeTime {
  std::string name;
  double milliseconds = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // --- identity and memory ---
  virtual Device device() const = 0;
  virtual DType dtype() const = 0;              // of activations
  virtual DType parameter_dtype() const = 0;    // of parameters: f32, and f64 on the reference
  virtual std::string description() const = 0;  // one line for people: "CPU: 2 threads, AVX-512, oneDNN 2.6.3"
  // What libraries and algorithms this backend has settled on so far, in lines for people; empty where there is nothing
  // to choose.
  virtual std::vector<std::string> choices() const = 0;
  // Contents are undefined. Freed memory is kept for reuse; the rows of a tensor are packed and start 64-byte aligned.
  virtual Tensor empty(Shape shape, DType dtype) = 0;
  Tensor empty(Shape shape) { return empty(shape, dtype()); }
  Tensor empty_parameter(Shape shape) { return empty(shape, parameter_dtype()); }
  virtual MemoryStatistics memory() const = 0;
  virtual void synchronize() = 0;

  // --- work as a whole ---
  // Whether capture() can be used here.
  virtual bool can_capture() const = 0;
  // Records what `work` queues, without running it; later replays run it on the same memory. Transfers and waiting are
  // errors in it, and so is memory that the backend would have to ask the system for: run the same work twice before.
  // Throws where it cannot be done. The result must go before this backend does.
  virtual std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) = 0;
  // Brackets work in profiles of the device, with the name of the layer that queues it. They nest.
  virtual void begin_range(const std::string& name) = 0;
  virtual void end_range() = 0;
  // From here on the device's time in each range is taken; what lies within another range is part of that. Such work
  // cannot be captured.
  virtual void time_ranges() = 0;
  // The ranges since time_ranges(), in their order. Waits, and takes no more times.
  virtual std::vector<RangeTime> range_times() = 0;

  // --- movement ---
  // Host memory (packed, of `host_dtype`) to y and back. Host f32 and f64 convert to and from any floating dtype
  // (nearest even), otherwise dtypes must be equal.
  virtual void upload(const void* host, DType host_dtype, const Tensor& y) = 0;
  virtual void download(const Tensor& x, DType host_dtype, void* host) = 0;
  virtual void fill(double value, const Tensor& y) = 0;
  // y = x, or y += x. Same shape. Dtypes dtype() and parameter_dtype() convert (nearest even), others must be equal.
  virtual void copy(const Tensor& x, Write write, const Tensor& y) = 0;
  // images: u8 (N,H,W,C) packed -> y (N,H,W,C). flips: u8 (N,1,1,1) packed, or undefined; image n is mirrored left to
  // right where flips[n] is not 0.
  virtual void normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation,
                         const Tensor& y) = 0;
  // The same of two images each: y[n] = mix of normalised images n and (n + N - 1) % N. The box lies within the image.
  virtual void normalize_mixed(const Tensor& images, const Normalisation& normalisation, const ImageMix& mix,
                               const Tensor& y) = 0;

  // --- channel permutations ---
  // y[j*groups + i] = x[i*(C/groups) + j]; see core/kernels/channel_shuffle.h. C is a multiple of groups.
  virtual void channel_shuffle(const Tensor& x, int64_t groups, const Tensor& y) = 0;
  // y[2i] = a[i], y[2i+1] = b[i]: concat and torchvision's shuffle in one pass. a, b: (N,H,W,C/2); y: (N,H,W,C).
  virtual void interleave(const Tensor& a, const Tensor& b, const Tensor& y) = 0;
  // a[i] = x[2i], b[i] = x[2i+1]: the inverse; Megvii's shuffle and split in one pass.
  virtual void deinterleave(const Tensor& x, const Tensor& a, const Tensor& b) = 0;

  // --- convolutions (cross-correlation, as everywhere in the field) ---
  // Strides are positive, padding is not negative, and no window is larger than its padded input.
  // x (N,H,W,C), w (K,R,S,C/groups), y (N,OH,OW,K). x, y, dx and dy packed.
  virtual void conv2d(const Tensor& x, const Tensor& w, const Window& window, int64_t groups, const Epilogue& epilogue,
                      const Tensor& y) = 0;
  virtual void conv2d_backward_data(const Tensor& dy, const Tensor& w, const Window& window, int64_t groups,
                                    Write write, const Tensor& dx) = 0;
  virtual void conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, int64_t groups,
                                       Write write, const Tensor& dw) = 0;
  // One filter per channel. x (N,H,W,C), w (1,R,S,C), y (N,OH,OW,C).
  virtual void depthwise(const Tensor& x, const Tensor& w, const Window& window, const Epilogue& epilogue,
                         const Tensor& y) = 0;
  virtual void depthwise_backward_data(const Tensor& dy, const Tensor& w, const Window& window, Write write,
                                       const Tensor& dx) = 0;
  virtual void depthwise_backward_weights(const Tensor& x, const Tensor& dy, const Window& window, Write write,
                                          const Tensor& dw) = 0;
  // 1x1 convolution as a matrix product: y (P,K) = x (P,C) * w (K,C)^T. Linear layers are this with H = W = 1.
  virtual void pointwise(const Tensor& x, const Tensor& w, const Epilogue& epilogue, const Tensor& y) = 0;
  virtual void pointwise_backward_data(const Tensor& dy, const Tensor& w, Write write, const Tensor& dx) = 0;
  virtual void pointwise_backward_weights(const Tensor& x, const Tensor& dy, Write write, const Tensor& dw) = 0;
  // sums[c] = sum over pixels of x[., c]: the gradient of a bias.
  virtual void channel_sums(const Tensor& x, Write write, const Tensor& sums) = 0;

  // --- batch normalisation (Ioffe and Szegedy, 2015) ---
  // mean[c] and biased variance var[c] over the P pixels. Accurate where |mean| >> sqrt(var).
  virtual void batch_norm_statistics(const Tensor& x, const Tensor& mean, const Tensor& var) = 0;
  // running = (1 - momentum) * running + momentum * batch, with var * P/(P-1) (unbiased; var itself where P = 1).
  virtual void batch_norm_update_running(const Tensor& mean, const Tensor& var, int64_t pixels, double momentum,
                                         const Tensor& running_mean, const Tensor& running_var) = 0;
  // y = (x - mean) / sqrt(var + eps) * gamma + beta, then max(0, y) if relu. y may be x.
  virtual void batch_norm_apply(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                const Tensor& beta, double eps, bool relu, const ChannelParts& y) = 0;
  // Gradient of statistics + apply together. With g = dy masked by ReLU, xh = (x - mean) * inv_std:
  // dbeta = sum g; dgamma = sum g*xh; dx = gamma*inv_std * (g - dbeta/P - xh*dgamma/P). dx may be dy.
  virtual void batch_norm_backward(const Tensor& x, const ChannelParts& dy, const Tensor& mean, const Tensor& var,
                                   const Tensor& gamma, const Tensor& beta, double eps, bool relu, Write write_params,
                                   const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) = 0;
  // Gradient of apply alone, with mean and var constant (running statistics, as in a frozen layer):
  // dx = gamma*inv_std * g. dx may be dy.
  virtual void batch_norm_backward_frozen(const Tensor& x, const ChannelParts& dy, const Tensor& mean,
                                          const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                          bool relu, Write write_params, const Tensor& dx, const Tensor& dgamma,
                                          const Tensor& dbeta) = 0;

  // Gradient of batch_norm_apply(y) with y = pointwise(x, w), statistics included: batch_norm_backward, then both of the
  // convolution's, without the gradient of y in between. dz: of the norm's output. dx may be undefined. sums: as
  // norm_depthwise_backward leaves them for dz and y, or undefined.
  virtual void pointwise_batch_norm_backward(const Tensor& x, const Tensor& w, const Tensor& y, const ChannelParts& dz,
                                             const Tensor& sums, const BatchNormState& norm, Write write_dx,
                                             const Tensor& dx, Write write_params, const Tensor& dw,
                                             const Tensor& dgamma, const Tensor& dbeta) = 0;

  // --- a norm without ReLU folded into the pointwise convolution after it, so that its result is never written ---
  // pointwise(batch_norm_apply(x), w) = pointwise(x, scaled_w) + shift. With scale = gamma / sqrt(var + eps):
  // scaled_w[k,c] = w[k,c]*scale[c]; shift[k] = sum_c w[k,c]*(beta[c] - mean[c]*scale[c]). w and shift have
  // parameter_dtype(), scaled_w dtype(). norm.relu is false.
  virtual void fold_norm(const Tensor& w, const BatchNormState& norm, const Tensor& scaled_w, const Tensor& shift) = 0;
  // Its gradient where a norm with batch statistics follows: that subtracts the shift again, so the gradient of the
  // convolution's output sums to zero over the pixels, and dbeta is zero. From dscaled_w (of parameter_dtype()), with P
  // the pixels of x: dw = dscaled_w*scale; dgamma[c] = inv_std[c] * sum_k w[k,c]*dscaled_w[k,c]; dbeta = 0; and
  // from_x[c] = -scale[c]*inv_std[c]*dgamma[c]/P, with which dx = pointwise_backward_data(dy, scaled_w) +
  // from_x*(x - mean). write_params is of dw, dgamma and dbeta.
  virtual void fold_norm_backward(const Tensor& w, const Tensor& dscaled_w, const BatchNormState& norm, int64_t pixels,
                                  Write write_params, const Tensor& dw, const Tensor& dgamma, const Tensor& dbeta,
                                  const Tensor& from_x) = 0;

  // --- a depthwise convolution between two norms, in one pass over memory ---
  // y = depthwise(batch_norm_apply(x, before), w), and the statistics mean, var of y. The window is
  // 3x3, of stride 1 or 2.
  virtual void norm_depthwise(const Tensor& x, const BatchNormState& before, const Tensor& w, const Window& window,
                              const Tensor& mean, const Tensor& var, const Tensor& y) = 0;
  // The gradient, where the norm after it was folded (fold_norm_backward): that of y is dy + from_y*(y - mean_y).
  // dx: gradient of what the convolution read, z = batch_norm_apply(x, before), or x itself if `before` is undefined
  // (before.mean is). sums (1,1,2,C), packed: what batch_norm_backward adds up, of dz masked by ReLU and of that times
  // (x - before.mean); written if `before` is defined. write_dx is kOverwrite then. The window is
  // 3x3, of stride 1 or 2.
  virtual void norm_depthwise_backward(const Tensor& x, const BatchNormState& before, const Tensor& w,
                                       const Window& window, const Tensor& y, const Tensor& mean_y,
                                       const Tensor& from_y, const Tensor& dy, Write write_dx, const Tensor& dx,
                                       Write write_dw, const Tensor& dw, const Tensor& sums) = 0;

  // --- elementwise and pooling ---
  // Batch norm, ReLU and max-pooling in one pass, for the network's largest tensors: max_pool of batch_norm_apply with
  // relu, and max_pool_backward then batch_norm_backward, without the tensors of x's size in between.
  virtual void batch_norm_max_pool(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                   const Tensor& beta, double eps, const Window& window, const Tensor& y,
                                   const Tensor& winner) = 0;
  virtual void batch_norm_max_pool_backward(const Tensor& x, const Tensor& dy, const Tensor& winner, const Tensor& mean,
                                            const Tensor& var, const Tensor& gamma, const Tensor& beta, double eps,
                                            const Window& window, Write write_params, const Tensor& dx,
                                            const Tensor& dgamma, const Tensor& dbeta) = 0;
  // batch_norm_max_pool_backward with ReLU, then conv2d_backward_weights of the convolution (groups = 1) that made x from
  // `input`, whose own gradient nobody wants: the gradient of x, the largest tensor of a step, is never written.
  virtual void conv2d_norm_max_pool_backward(const Tensor& input, const Window& conv_window, const Tensor& x,
                                             const BatchNormState& norm, const Window& pool_window, const Tensor& dy,
                                             const Tensor& winner, Write write_params, const Tensor& dw,
                                             const Tensor& dgamma, const Tensor& dbeta) = 0;
  // y may be x.
  virtual void relu(const Tensor& x, const Tensor& y) = 0;
  // dx = y > 0 ? dy : 0. dx may be dy.
  virtual void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) = 0;
  // y = x * keep / (1 - rate), keep from dropout_keeps(key, step, packed element index, rate), step = scalars[kStep], or
  // 0 where scalars is undefined. Its own backward. y may be x.
  virtual void dropout(const Tensor& x, PhiloxKey key, double rate, const Tensor& scalars, const Tensor& y) = 0;
  // Padding never wins. winner: u8 (N,OH,OW,C), packed: r*S + s of the maximum (the first one on ties; NaN wins).
  virtual void max_pool(const Tensor& x, const Window& window, const Tensor& y, const Tensor& winner) = 0;
  virtual void max_pool_backward(const Tensor& dy, const Tensor& winner, const Window& window, const Tensor& dx) = 0;
  // x (N,H,W,C) -> y (N,1,1,C), the mean; backward spreads dy / (H*W).
  virtual void global_average_pool(const Tensor& x, const Tensor& y) = 0;
  virtual void global_average_pool_backward(const Tensor& dy, const Tensor& dx) = 0;

  // --- loss and metrics ---
  // Labels, losses and ranks are packed.
  // logits (N,1,1,K), labels i32 (N,1,1,1) in 0..K-1. The target is (1 - smoothing)*onehot + smoothing/K.
  // loss (N,1,1,1), of each image. dlogits, if defined: gradient of grad_scale * sum of losses (1/N: of the mean), times
  // scalars[kLossScale] where scalars are defined.
  virtual void softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing, double grad_scale,
                                     const Tensor& scalars, const Tensor& loss, const Tensor& dlogits) = 0;
  // The same for any target: targets (N,1,1,K) of parameter_dtype(), rows of probabilities t whose sum need not be 1.
  // loss = -sum_k t_k log p_k, where 0 * log 0 is 0; its gradient is (sum t) * p - t.
  virtual void soft_cross_entropy(const Tensor& logits, const Tensor& targets, double grad_scale, const Tensor& scalars,
                                  const Tensor& loss, const Tensor& dlogits) = 0;
  // Targets for it, of two labels an image and with label smoothing: targets (N,1,1,K) = (1 - smoothing) *
  // (share * onehot(labels) + (1 - share) * onehot(others)) + smoothing/K. labels, others: i32 (N,1,1,1) in 0..K-1, packed.
  virtual void mixed_targets(const Tensor& labels, const Tensor& others, double share, double smoothing,
                             const Tensor& targets) = 0;
  // rank i32 (N,1,1,1): how many classes score above the label; of equal scores, the lower index counts as above.
  // A row with any NaN gets rank K (never correct). Correct at k means rank < k.
  virtual void label_rank(const Tensor& logits, const Tensor& labels, const Tensor& rank) = 0;

  // --- optimiser: one call over all parameters. scalars: see StepScalar ---
  virtual void sgd_step(const std::vector<ParameterUpdate>& updates, const SgdRule& rule, const Tensor& scalars) = 0;
  // sum f64 (1,1,1,1): of the squares over all tensors, in double and a fixed order; NaN or Inf show in it.
  virtual void squared_norm(const std::vector<Tensor>& tensors, const Tensor& sum) = 0;
  // From squared_norm of the gradients (which carry the loss scale): scalars[kGradScale] = 1/loss scale, times
  // max_norm/norm where max_norm > 0 and norm = sqrt(squared_norm)/loss scale is above it. scalars[kApply] = 0 if
  // skip_not_finite and squared_norm is not finite or scalars[kHalted] is not 0, else 1; scalars[kHalted] = 1 - kApply.
  virtual void scale_gradients(const Tensor& squared_norm, double max_norm, bool skip_not_finite,
                               const Tensor& scalars) = 0;
  // averages[i] = d * averages[i] + (1 - d) * values[i], d = scalars[kEmaDecay]. Packed, pairwise equal sizes.
  virtual void ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values,
                          const Tensor& scalars) = 0;
  // What a step that does not apply has changed, undone: kept[i] = values[i] if scalars[kApply] is not 0, else values[i] =
  // kept[i]. Of parameter_dtype(), packed, pairwise equal sizes.
  virtual void keep_or_restore(const std::vector<Tensor>& values, const std::vector<Tensor>& kept,
                               const Tensor& scalars) = 0;
};

}  // namespace riffle
