// Tape: records and replays.
#include "core/tape.h"

#include <utility>

namespace riffle {

namespace {

Tensor new_grad(Backend& backend, const GradSlot& x) {
  return x.grad_home() ? x.grad_home()() : backend.empty(x.shape());
}

}  // namespace

void write_grad(Backend& backend, const GradSlot& x, const std::function<void(const Tensor&, Write)>& writes) {
  if (!x.requires_grad()) return;
  if (x.grad().defined()) {
    writes(x.grad(), Write::kAccumulate);
    return;
  }
  const Tensor dx = new_grad(backend, x);
  writes(dx, Write::kOverwrite);
  x.set_grad(dx);
}

void overwrite_grad(Backend& backend, const GradSlot& x, const std::function<void(const Tensor&)>& writes) {
  if (!x.requires_grad()) return;
  if (x.grad().defined()) {
    const Tensor dx = backend.empty(x.shape());
    writes(dx);
    backend.copy(dx, Write::kAccumulate, x.grad());
  } else {
    const Tensor dx = new_grad(backend, x);
    writes(dx);
    x.set_grad(dx);
  }
}

void overwrite_grads(Backend& backend, const GradSlot& a, const GradSlot& b,
                     const std::function<void(const Tensor&, const Tensor&)>& writes) {
  const auto target = [&](const GradSlot& x) {
    return x.requires_grad() && !x.grad().defined() ? new_grad(backend, x) : backend.empty(x.shape());
  };
  const Tensor da = target(a), db = a.same_as(b) ? backend.empty(b.shape()) : target(b);
  writes(da, db);
  const auto keep = [&](const GradSlot& x, const Tensor& dx) {
    if (!x.requires_grad()) return;
    if (x.grad().defined()) {
      backend.copy(dx, Write::kAccumulate, x.grad());
    } else {
      x.set_grad(dx);
    }
  };
  keep(a, da);
  keep(b, db);
}

void give_grad(Backend& backend, const GradSlot& x, const Tensor& dx) {
  if (!x.requires_grad()) return;
  RIFFLE_CHECK(dx.shape() == x.shape(), "gradient of ", x.shape(), " has shape ", dx.shape());
  if (x.grad().defined()) {
    backend.copy(dx, Write::kAccumulate, x.grad());
  } else if (x.grad_home()) {
    const Tensor home = x.grad_home()();
    backend.copy(dx, Write::kOverwrite, home);
    x.set_grad(home);
  } else {
    x.set_grad(dx);
  }
}

void Tape::record(std::string name, const GradSlot& output, BackwardFunction backward) {
  nodes_.push_back({std::move(name), {output}, [backward = std::move(backward)](const std::vector<Tensor>& dys) {
                      backward(dys.front());
                    }});
}

void Tape::record(std::string name, std::vector<GradSlot> outputs, MultiBackwardFunction backward) {
  nodes_.push_back({std::move(name), std::move(outputs), std::move(backward)});
}

void Tape::record(std::string name, const Variable& output, BackwardFunction backward) {
  if (output_observer_) output_observer_(name, output.value());
  record(std::move(name), output.slot(), std::move(backward));
}

void Tape::record(std::string name, const std::vector<Variable>& outputs, MultiBackwardFunction backward) {
  std::vector<GradSlot> slots;
  for (const Variable& output : outputs) {
    if (output_observer_) output_observer_(name, output.value());
    slots.push_back(output.slot());
  }
  record(std::move(name), std::move(slots), std::move(backward));
}

void Tape::backward(const Observer& observer) {
  while (!nodes_.empty()) {
    const Node node = std::move(nodes_.back());
    nodes_.pop_back();
    std::vector<Tensor> dys;
    bool any = false;
    for (const GradSlot& output : node.outputs) {
      dys.push_back(output.grad());
      // The gradient is the node's alone from here on: in-place backward passes reuse its buffer.
      output.clear_grad();
      if (!dys.back().defined()) continue;
      any = true;
      if (observer) observer(node.name, dys.back());
    }
    if (any) node.backward(dys);
  }
}

}  // namespace riffle
