// SoftmaxCrossEntropy.
#include "layers/softmax_cross_entropy.h"

namespace riffle {

Tensor softmax_cross_entropy(const Context& context, const Variable& logits, const Tensor& labels, double smoothing,
                             double grad_scale, const Tensor& scalars) {
  Backend& backend = context.backend;
  const int64_t images = logits.shape().n;
  const Tensor loss = backend.empty_parameter({images, 1, 1, 1});
  const Tensor dlogits = context.records(logits) ? backend.empty(logits.shape()) : Tensor{};
  backend.softmax_cross_entropy(logits.value(), labels, smoothing, grad_scale / static_cast<double>(images), scalars,
                                loss, dlogits);
  if (dlogits.defined()) give_grad(backend, logits.slot(), dlogits);
  return loss;
}

}  // namespace riffle
