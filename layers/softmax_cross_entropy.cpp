// SoftmaxCrossEntropy.
#include "layers/softmax_cross_entropy.h"

namespace riffle {
namespace {

// operation(image_scale, loss, dlogits) computes the losses, and the gradient where dlogits is defined.
template <class Operation>
Tensor root_of(const Context& context, const Variable& logits, double grad_scale, const Operation& operation) {
  Backend& backend = context.backend;
  const ProfileRange range(backend, "loss");
  const int64_t images = logits.shape().n;
  const Tensor loss = backend.empty_parameter({images, 1, 1, 1});
  const Tensor dlogits = context.records(logits) ? backend.empty(logits.shape()) : Tensor{};
  operation(grad_scale / static_cast<double>(images), loss, dlogits);
  if (dlogits.defined()) give_grad(backend, logits.slot(), dlogits);
  return loss;
}

}  // namespace

Tensor softmax_cross_entropy(const Context& context, const Variable& logits, const Tensor& labels, double smoothing,
                             double grad_scale, const Tensor& scalars) {
  return root_of(context, logits, grad_scale, [&](double image_scale, const Tensor& loss, const Tensor& dlogits) {
    context.backend.softmax_cross_entropy(logits.value(), labels, smoothing, image_scale, scalars, loss, dlogits);
  });
}

Tensor soft_cross_entropy(const Context& context, const Variable& logits, const Tensor& targets, double grad_scale,
                          const Tensor& scalars) {
  return root_of(context, logits, grad_scale, [&](double image_scale, const Tensor& loss, const Tensor& dlogits) {
    context.backend.soft_cross_entropy(logits.value(), targets, image_scale, scalars, loss, dlogits);
  });
}

}  // namespace riffle
