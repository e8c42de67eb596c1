// ChannelSplit. The parts write their gradients into slices of one tensor, which then is x's gradient.
#include "layers/channel_split.h"

#include <memory>

namespace riffle {

std::pair<Variable, Variable> channel_split(const Context& context, const std::string& name, const Variable& x,
                                            int64_t first) {
  Backend& backend = context.backend;
  const int64_t channels = x.shape().c, second = channels - first;
  const bool records = context.records(x);
  const Variable a(x.value().channel_slice(0, first), records);
  const Variable b(x.value().channel_slice(first, second), records);
  if (!records) return {a, b};

  const auto whole = std::make_shared<Tensor>();  // allocated when the first part needs it
  const auto home = [&backend, whole, shape = x.shape()](int64_t begin, int64_t count) {
    if (!whole->defined()) *whole = backend.empty(shape);
    return whole->channel_slice(begin, count);
  };
  a.slot().set_grad_home([home, first] { return home(0, first); });
  b.slot().set_grad_home([home, first, second] { return home(first, second); });
  context.tape->record(name, {a.slot(), b.slot()},
                       [&backend, dx_slot = x.slot(), home, whole, first, second](const std::vector<Tensor>& dys) {
                         const auto bring_home = [&](const Tensor& dy, int64_t begin, int64_t count) {
                           const Tensor part = home(begin, count);
                           if (!dy.defined()) {
                             backend.fill(0, part);  // nothing depended on this part
                           } else if (!dy.shares_storage(part)) {
                             backend.copy(dy, Write::kOverwrite, part);  // a gradient that was set from outside
                           }
                         };
                         bring_home(dys[0], 0, first);
                         bring_home(dys[1], first, second);
                         give_grad(backend, dx_slot, *whole);
                       });
  return {a, b};
}

}  // namespace riffle
