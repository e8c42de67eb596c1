// ReLU.
#include "layers/relu.h"

namespace riffle {

Variable relu(const Context& context, const std::string& name, const Variable& x) {
  Backend& backend = context.backend;
  const Tensor y = backend.empty(x.shape());
  backend.relu(x.value(), y);
  const Variable output(y, context.records(x));
  if (!context.records(x)) return output;
  context.tape->record(name, output, [&backend, dx_slot = x.slot(), y](const Tensor& dy) {
    backend.relu_backward(y, dy, dy);
    give_grad(backend, dx_slot, dy);
  });
  return output;
}

}  // namespace riffle
