// Reverse-mode differentiation. A Variable is a value with a slot for its gradient; a Tape records one node an
// operation, in execution order, and replays them in reverse. The first write of a gradient overwrites, later ones
// accumulate; each popped node frees what it saved.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.h"

namespace riffle {

// The gradient of one value: a cheap handle. Backward functions keep this, and not the value, of the tensors whose values
// they do not need; so those are freed early.
class GradSlot {
 public:
  GradSlot() = default;
  GradSlot(const Shape& shape, bool requires_grad) : state_(std::make_shared<State>(State{shape, requires_grad})) {}

  bool defined() const { return state_ != nullptr; }
  bool same_as(const GradSlot& other) const { return state_ == other.state_; }
  const Shape& shape() const { return state_->shape; }
  bool requires_grad() const { return state_->requires_grad; }

  // Undefined until something wrote it. A gradient belongs to one slot: backward passes may overwrite it in place.
  const Tensor& grad() const { return state_->grad; }
  void set_grad(Tensor grad) const { state_->grad = std::move(grad); }
  void clear_grad() const { state_->grad = Tensor{}; }

  // Where the gradient is to be written, if not into a tensor of its own: the halves of a channel split share one.
  using GradHome = std::function<Tensor()>;
  void set_grad_home(GradHome home) const { state_->grad_home = std::move(home); }
  const GradHome& grad_home() const { return state_->grad_home; }

 private:
  struct State {
    Shape shape;
    bool requires_grad;
    Tensor grad{};
    GradHome grad_home{};
  };
  std::shared_ptr<State> state_;
};

// A value with the slot of its gradient.
class Variable {
 public:
  Variable() = default;
  explicit Variable(Tensor value, bool requires_grad = true)
      : value_(std::move(value)), slot_(value_.shape(), requires_grad) {}

  bool defined() const { return slot_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  const GradSlot& slot() const { return slot_; }
  bool requires_grad() const { return slot_.requires_grad(); }
  const Tensor& grad() const { return slot_.grad(); }
  void set_grad(Tensor grad) const { slot_.set_grad(std::move(grad)); }
  void clear_grad() const { slot_.clear_grad(); }

 private:
  Tensor value_;
  GradSlot slot_;
};

// Gives a backward function the place to write dx of `x`. `writes(dx, write)` is called with an allocated tensor and
// kOverwrite if this is the first gradient of x, with x's gradient and kAccumulate otherwise. Does nothing if x needs
// no gradient.
void write_grad(Backend& backend, const GradSlot& x, const std::function<void(const Tensor& dx, Write write)>& writes);
// The same for operations that can only overwrite: a later gradient goes through a temporary and is added.
void overwrite_grad(Backend& backend, const GradSlot& x, const std::function<void(const Tensor& dx)>& writes);
// The same for an operation that writes two gradients in one pass. One that is not wanted goes to scratch memory.
void overwrite_grads(Backend& backend, const GradSlot& a, const GradSlot& b,
                     const std::function<void(const Tensor& da, const Tensor& db)>& writes);
// Hands a finished gradient over: it becomes x's, or is added to it. An operation whose dx may be dy
// (BackwardFunction's) writes dx there and gives dy: nothing is allocated.
void give_grad(Backend& backend, const GradSlot& x, const Tensor& dx);

class Tape {
 public:
  // dy: the gradient of the node's output, defined.
  using BackwardFunction = std::function<void(const Tensor& dy)>;
  // dys: of each output; undefined for those that received none, but not for all.
  using MultiBackwardFunction = std::function<void(const std::vector<Tensor>& dys)>;

  // `name` appears in error messages and profiles. Nodes whose outputs never received a gradient are skipped.
  void record(std::string name, const GradSlot& output, BackwardFunction backward);
  void record(std::string name, std::vector<GradSlot> outputs, MultiBackwardFunction backward);
  // The same, and the observer of outputs sees the values.
  void record(std::string name, const Variable& output, BackwardFunction backward);
  void record(std::string name, const std::vector<Variable>& outputs, MultiBackwardFunction backward);

  // Replays all nodes, from whatever gradients were set. The tape is empty afterwards. `observer`, if given, sees each
  // node's name and output gradient before it runs (for finding the first non-finite one).
  using Observer = std::function<void(const std::string& name, const Tensor& dy)>;
  void backward(const Observer& observer = {});
  // Sees each output that is recorded as a Variable, with its node's name, as it is recorded.
  void observe_outputs(Observer observer) { output_observer_ = std::move(observer); }

  size_t size() const { return nodes_.size(); }
  void clear() { nodes_.clear(); }

 private:
  struct Node {
    std::string name;
    std::vector<GradSlot> outputs;
    MultiBackwardFunction backward;
  };
  std::vector<Node> nodes_;
  Observer output_observer_;
};

}  // namespace riffle
