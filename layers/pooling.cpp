// MaxPool2d and GlobalAvgPool.
#include "layers/pooling.h"

#include "core/contracts.h"

namespace riffle {

Variable max_pool2d(const Context& context, const std::string& name, const Variable& x, const Window& window) {
  Backend& backend = context.backend;
  const Shape& in = x.shape();
  check_window_fits(window, in, name.c_str());
  const Shape out{in.n, window.out_h(in.h), window.out_w(in.w), in.c};
  const Tensor y = backend.empty(out);
  const Tensor winner = backend.empty(out, DType::kU8);
  backend.max_pool(x.value(), window, y, winner);
  const Variable output(y, context.records(x));
  if (!context.records(x)) return output;
  context.tape->record(name, output, [&backend, dx_slot = x.slot(), winner, window](const Tensor& dy) {
    overwrite_grad(backend, dx_slot, [&](const Tensor& dx) { backend.max_pool_backward(dy, winner, window, dx); });
  });
  return output;
}

Variable global_avg_pool(const Context& context, const std::string& name, const Variable& x) {
  Backend& backend = context.backend;
  const ProfileRange range(backend, name);
  const Tensor y = backend.empty({x.shape().n, 1, 1, x.shape().c});
  backend.global_average_pool(x.value(), y);
  const Variable output(y, context.records(x));
  if (!context.records(x)) return output;
  context.tape->record(name, output, [&backend, dx_slot = x.slot()](const Tensor& dy) {
    overwrite_grad(backend, dx_slot, [&](const Tensor& dx) { backend.global_average_pool_backward(dy, dx); });
  });
  return output;
}

}  // namespace riffle
