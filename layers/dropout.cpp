// Dropout.
#include "layers/dropout.h"

#include "core/rng.h"

namespace riffle {

Variable dropout(const Context& context, const std::string& name, const Variable& x, double rate, uint64_t layer) {
  if (!context.training || rate == 0) return x;
  Backend& backend = context.backend;
  const ProfileRange range(backend, name);
  const PhiloxKey key = RandomStream(context.seed, RandomPurpose::kDropout, context.batch, layer).key();
  const Tensor y = backend.empty(x.shape());
  backend.dropout(x.value(), key, rate, context.scalars, y);
  const Variable output(y, context.records(x));
  if (!context.records(x)) return output;
  context.tape->record(name, output,
                       [&backend, dx_slot = x.slot(), key, rate, scalars = context.scalars](const Tensor& dy) {
                         backend.dropout(dy, key, rate, scalars, dy);
                         give_grad(backend, dx_slot, dy);
                       });
  return output;
}

}  // namespace riffle
