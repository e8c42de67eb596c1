// ChannelShuffle.
#include "layers/channel_shuffle.h"

namespace riffle {

Variable channel_shuffle(const Context& context, const std::string& name, const Variable& x, int64_t groups) {
  Backend& backend = context.backend;
  const Tensor y = backend.empty(x.shape());
  backend.channel_shuffle(x.value(), groups, y);
  const Variable output(y, context.records(x));
  if (!context.records(x)) return output;
  context.tape->record(name, output, [&backend, dx_slot = x.slot(), groups](const Tensor& dy) {
    overwrite_grad(backend, dx_slot,
                   [&](const Tensor& dx) { backend.channel_shuffle(dy, dx.channels() / groups, dx); });
  });
  return output;
}

Variable concat_shuffle(const Context& context, const std::string& name, const Variable& a, const Variable& b) {
  Backend& backend = context.backend;
  const Tensor y = backend.empty(a.shape().with_channels(2 * a.shape().c));
  backend.interleave(a.value(), b.value(), y);
  const bool records = context.records(a) || context.records(b);
  const Variable output(y, records);
  if (!records) return output;
  context.tape->record(name, output, [&backend, a = a.slot(), b = b.slot()](const Tensor& dy) {
    overwrite_grads(backend, a, b, [&](const Tensor& da, const Tensor& db) { backend.deinterleave(dy, da, db); });
  });
  return output;
}

std::pair<Variable, Variable> shuffle_split(const Context& context, const std::string& name, const Variable& x) {
  Backend& backend = context.backend;
  RIFFLE_CHECK(x.shape().c % 2 == 0, name, ": an odd number of channels, ", x.shape(), ", has no halves");
  const Shape half = x.shape().with_channels(x.shape().c / 2);
  const Tensor even = backend.empty(half), odd = backend.empty(half);
  backend.deinterleave(x.value(), even, odd);
  const bool records = context.records(x);
  const Variable a(even, records), b(odd, records);
  if (!records) return {a, b};
  context.tape->record(name, {a.slot(), b.slot()},
                       [&backend, dx_slot = x.slot(), half](const std::vector<Tensor>& dys) {
                         const auto or_zero = [&](const Tensor& dy) {
                           if (dy.defined()) return dy;
                           const Tensor zero = backend.empty(half);
                           backend.fill(0, zero);
                           return zero;
                         };
                         const Tensor da = or_zero(dys[0]), db = or_zero(dys[1]);
                         overwrite_grad(backend, dx_slot, [&](const Tensor& dx) { backend.interleave(da, db, dx); });
                       });
  return {a, b};
}

}  // namespace riffle
