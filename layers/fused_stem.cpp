// The stem as one node.
#include "layers/fused_stem.h"

#include "core/contracts.h"

namespace riffle {
namespace {

Write next_write(const FusedStem& s) {
  const Write write = s.filter->next_write();
  for (Parameter* parameter : {&s.norm->weight(), &s.norm->bias()})
    RIFFLE_CHECK(parameter->next_write() == write, "the parameters of the stem must be zeroed together");
  return write;
}

Tensor windowed(Backend& backend, const Shape& in, const Window& window, int64_t channels, const std::string& name) {
  check_window_fits(window, in, name.c_str());
  return backend.empty({in.n, window.out_h(in.h), window.out_w(in.w), channels});
}

}  // namespace

bool can_fuse(const Context& context, const Variable& x, const FusedStem& stem) {
  return stem.norm->trains(context) && !stem.filter->frozen && !x.requires_grad();
}

Variable fused_stem(const Context& context, const std::string& name, const Variable& x, const FusedStem& stem) {
  Backend& backend = context.backend;
  const BatchStatistics batch = stem.norm->batch_statistics(context);
  const Tensor conv = windowed(backend, x.shape(), stem.conv_window, stem.filter->value.shape().n, name);
  backend.conv2d(x.value(), stem.filter->compute_value, stem.conv_window, 1, {{}, false, batch.mean, batch.var}, conv);
  stem.norm->update_running(backend, batch.mean, batch.var, conv.pixels());
  const BatchNormState norm = stem.norm->state(batch.mean, batch.var, /*relu=*/true);
  const Tensor y = windowed(backend, conv.shape(), stem.pool_window, conv.channels(), name);
  const Tensor winner = backend.empty(y.shape(), DType::kU8);
  backend.batch_norm_max_pool(conv, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, stem.pool_window, y, winner);

  const Variable output(y, true);
  context.tape->record(name, output, [&backend, stem, input = x.value(), conv, norm, winner](const Tensor& dy) {
    backend.conv2d_norm_max_pool_backward(input, stem.conv_window, conv, norm, stem.pool_window, dy, winner,
                                          next_write(stem), stem.filter->grad, stem.norm->weight().grad,
                                          stem.norm->bias().grad);
  });
  return output;
}

}  // namespace riffle
