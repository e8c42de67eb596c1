// A branch of a shuffle unit as one node.
#include "layers/fused_branch.h"

#include "core/contracts.h"
#include "layers/scatter.h"

namespace riffle {
namespace {

// What the forward pass leaves for the backward pass. Shapes: x (N,H,W,C), first (N,H,W,D), middle (N,OH,OW,D),
// last (N,OH,OW,K).
struct Saved {
  Tensor x;
  Tensor first;                // first pointwise convolution's output; undefined in a projection
  BatchNormState first_norm;   // undefined tensors in a projection
  Tensor middle;               // depthwise convolution's output
  BatchNormState middle_norm;  // without ReLU
  Tensor scaled_filter;        // the last filter with middle_norm folded in
  Tensor last;                 // last pointwise convolution's output, but for the constant middle_norm would add
  BatchNormState last_norm;
};

bool trains(const Context& context, const PointwiseBlock& block) {
  return !block.filter || (!block.filter->frozen && block.norm->trains(context));
}

Write next_write(const FusedBranch& b) {
  const Write write = b.last.filter->next_write();
  const auto together = [&](Parameter& parameter) {
    RIFFLE_CHECK(parameter.next_write() == write, "the parameters of a branch must be zeroed together");
  };
  together(*b.depthwise_filter);
  for (BatchNorm2d* norm : {b.first.norm, b.depthwise_norm, b.last.norm}) {
    if (!norm) continue;
    together(norm->weight());
    together(norm->bias());
  }
  if (b.first.filter) together(*b.first.filter);
  return write;
}

void forward_first(const Context& context, const FusedBranch& b, Saved& saved) {
  Backend& backend = context.backend;
  const BatchStatistics batch = b.first.norm->batch_statistics(context);
  saved.first = backend.empty(saved.x.shape().with_channels(b.first.filter->value.shape().n));
  backend.pointwise(saved.x, b.first.filter->compute_value, {{}, false, batch.mean, batch.var}, saved.first);
  b.first.norm->update_running(backend, batch.mean, batch.var, saved.first.pixels());
  saved.first_norm = b.first.norm->state(batch.mean, batch.var, b.first.relu);
}

void forward_depthwise(const Context& context, const FusedBranch& b, Saved& saved) {
  Backend& backend = context.backend;
  const Tensor& in = b.first.filter ? saved.first : saved.x;
  const Shape& s = in.shape();
  check_window_fits(b.window, s, "fused_branch");
  const BatchStatistics batch = b.depthwise_norm->batch_statistics(context);
  saved.middle = backend.empty({s.n, b.window.out_h(s.h), b.window.out_w(s.w), s.c});
  const Tensor& filter = b.depthwise_filter->compute_value;
  if (b.first.filter) {
    backend.norm_depthwise(in, saved.first_norm, filter, b.window, batch.mean, batch.var, saved.middle);
  } else {
    backend.depthwise(in, filter, b.window, {{}, false, batch.mean, batch.var}, saved.middle);
  }
  b.depthwise_norm->update_running(backend, batch.mean, batch.var, saved.middle.pixels());
  saved.middle_norm = b.depthwise_norm->state(batch.mean, batch.var, /*relu=*/false);
}

void forward_last(const Context& context, const FusedBranch& b, Saved& saved) {
  Backend& backend = context.backend;
  const Shape& filter = b.last.filter->value.shape();
  saved.scaled_filter = backend.empty(filter);
  const Tensor shift = backend.empty_parameter(vector_shape(filter.n));
  backend.fold_norm(b.last.filter->value, saved.middle_norm, saved.scaled_filter, shift);
  const BatchStatistics batch = b.last.norm->batch_statistics(context);
  saved.last = backend.empty(saved.middle.shape().with_channels(filter.n));
  backend.pointwise(saved.middle, saved.scaled_filter, {{}, false, batch.mean, batch.var}, saved.last);
  backend.copy(batch.mean, Write::kAccumulate, shift);  // the mean with the constant
  b.last.norm->update_running(backend, shift, batch.var, saved.last.pixels());
  saved.last_norm = b.last.norm->state(batch.mean, batch.var, b.last.relu);
}

void backward(Backend& backend, const FusedBranch& b, const Saved& s, const GradSlot& dx_slot, const ChannelParts& dz) {
  const Write write = next_write(b);
  // One `write` serves all outputs of an operation; this one, a temporary, starts from zero where others accumulate.
  const Tensor dscaled = backend.empty_parameter(s.scaled_filter.shape());
  if (write == Write::kAccumulate) backend.fill(0, dscaled);
  const Tensor dmiddle = backend.empty(s.middle.shape());
  backend.pointwise_batch_norm_backward(s.middle, s.scaled_filter, s.last, dz, /*sums=*/{}, s.last_norm,
                                        Write::kOverwrite, dmiddle, write, dscaled, b.last.norm->weight().grad,
                                        b.last.norm->bias().grad);
  const Tensor from_middle = backend.empty_parameter(vector_shape(s.middle.channels()));
  backend.fold_norm_backward(b.last.filter->value, dscaled, s.middle_norm, s.middle.pixels(), write,
                             b.last.filter->grad, b.depthwise_norm->weight().grad, b.depthwise_norm->bias().grad,
                             from_middle);

  const auto depthwise_backward = [&](const Tensor& in, Write write_dx, const Tensor& dx, const Tensor& sums) {
    backend.norm_depthwise_backward(in, s.first_norm, b.depthwise_filter->compute_value, b.window, s.middle,
                                    s.middle_norm.mean, from_middle, dmiddle, write_dx, dx, write,
                                    b.depthwise_filter->grad, sums);
  };
  if (!b.first.filter) {
    if (!dx_slot.requires_grad()) {
      depthwise_backward(s.x, Write::kOverwrite, backend.empty(s.x.shape()), {});
      return;
    }
    write_grad(backend, dx_slot, [&](const Tensor& dx, Write write_dx) { depthwise_backward(s.x, write_dx, dx, {}); });
    return;
  }
  const Tensor dfirst = backend.empty(s.first.shape());
  const Tensor sums = backend.empty_parameter({1, 1, 2, s.first.channels()});
  depthwise_backward(s.first, Write::kOverwrite, dfirst, sums);
  const auto first_backward = [&](const Tensor& dx, Write write_dx) {
    backend.pointwise_batch_norm_backward(s.x, b.first.filter->compute_value, s.first, dfirst, sums, s.first_norm,
                                          write_dx, dx, write, b.first.filter->grad, b.first.norm->weight().grad,
                                          b.first.norm->bias().grad);
  };
  if (dx_slot.requires_grad()) {
    write_grad(backend, dx_slot, first_backward);
  } else {
    first_backward(Tensor{}, Write::kOverwrite);
  }
}

}  // namespace

bool can_fuse(const Context& context, const FusedBranch& b) {
  return b.window.kernel_h == 3 && b.window.kernel_w == 3 && b.window.stride <= 2 && trains(context, b.first) &&
         trains(context, b.last) && !b.depthwise_filter->frozen && b.depthwise_norm->trains(context);
}

std::vector<Variable> fused_branch(const Context& context, const std::string& name, const Variable& x,
                                   const FusedBranch& b, const std::vector<Tensor>& parts) {
  Backend& backend = context.backend;
  Saved saved;
  saved.x = x.value();
  if (b.first.filter) forward_first(context, b, saved);
  forward_depthwise(context, b, saved);
  forward_last(context, b, saved);
  const BatchNormState& norm = saved.last_norm;
  backend.batch_norm_apply(saved.last, norm.mean, norm.var, norm.gamma, norm.beta, norm.eps, norm.relu,
                           ChannelParts(parts));
  std::vector<Variable> made;
  std::vector<Shape> shapes;
  for (const Tensor& part : parts) {
    made.emplace_back(part, true);
    shapes.push_back(part.shape());
  }
  context.tape->record(name, made, [&backend, b, saved, shapes, dx_slot = x.slot()](const std::vector<Tensor>& dzs) {
    backward(backend, b, saved, dx_slot, gathered_grads(backend, dzs, shapes));
  });
  return made;
}

}  // namespace riffle
