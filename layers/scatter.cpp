// Scatter.
#include "layers/scatter.h"

namespace riffle {

std::vector<Variable> scatter(const Context& context, const std::string& name, const Variable& x,
                              const std::vector<Tensor>& parts) {
  Backend& backend = context.backend;
  const bool records = context.records(x);
  std::vector<Variable> made;
  std::vector<GradSlot> slots;
  std::vector<Shape> shapes;
  int64_t begin = 0;
  for (const Tensor& part : parts) {
    backend.copy(x.value().channel_slice(begin, part.channels()), Write::kOverwrite, part);
    begin += part.channels();
    made.emplace_back(part, records);
    slots.push_back(made.back().slot());
    shapes.push_back(part.shape());
  }
  RIFFLE_CHECK(begin == x.shape().c, name, ": parts of ", begin, " channels for ", x.shape());
  if (!records) return made;
  context.tape->record(name, slots, [&backend, dx_slot = x.slot(), shapes](const std::vector<Tensor>& dys) {
    overwrite_grad(backend, dx_slot, [&](const Tensor& dx) {
      int64_t first = 0;
      const ChannelParts parts_dy = gathered_grads(backend, dys, shapes);
      for (const Tensor& dy : parts_dy.parts()) {
        backend.copy(dy, Write::kOverwrite, dx.channel_slice(first, dy.channels()));
        first += dy.channels();
      }
    });
  });
  return made;
}

ChannelParts gathered_grads(Backend& backend, const std::vector<Tensor>& dys, const std::vector<Shape>& shapes) {
  std::vector<Tensor> parts = dys;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].defined()) continue;
    parts[i] = backend.empty(shapes[i]);
    backend.fill(0, parts[i]);
  }
  return ChannelParts(std::move(parts));
}

}  // namespace riffle
