// Concat.
#include "layers/concat.h"

namespace riffle {

Variable concat(const Context& context, const std::string& name, const Variable& a, const Variable& b) {
  Backend& backend = context.backend;
  const int64_t first = a.shape().c, second = b.shape().c;
  const Tensor y = backend.empty(a.shape().with_channels(first + second));
  backend.copy(a.value(), Write::kOverwrite, y.channel_slice(0, first));
  backend.copy(b.value(), Write::kOverwrite, y.channel_slice(first, second));
  const bool records = context.records(a) || context.records(b);
  const Variable output(y, records);
  if (!records) return output;
  context.tape->record(name, output, [&backend, a = a.slot(), b = b.slot(), first, second](const Tensor& dy) {
    give_grad(backend, a, dy.channel_slice(0, first));
    give_grad(backend, b, dy.channel_slice(first, second));
  });
  return output;
}

}  // namespace riffle
