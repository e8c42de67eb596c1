// Module: a named tree of parameters (trained) and buffers (running statistics). A checkpoint is name -> tensor.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "core/channel_order.h"
#include "core/context.h"

namespace riffle {

// How a parameter is laid out, for checkpoint writers and initialisers.
enum class ParameterKind {
  kDenseFilter,      // (K,R,S,C/groups)
  kDepthwiseFilter,  // (1,R,S,C)
  kMatrix,           // (K,1,1,C): pointwise convolution
  kLinear,           // (K,1,1,C): classifier
  kVector,           // (1,1,1,C)
};

struct Parameter {
  std::string name;  // local, e.g. "weight"; for_each gives full names
  ParameterKind kind;
  bool decay;                 // weight decay applies (never to BN and biases)
  Tensor value;               // of the backend's parameter_dtype(), packed
  Tensor grad;                // like value
  Tensor compute_value;       // what operations on activations read: value in the backend's dtype(), or value itself
  StoredOrder order{};        // of all three; set before values are
  bool grad_written = false;  // false: the next gradient overwrites; true: it accumulates
  bool frozen = false;        // no gradient is computed and no update applied; see freeze()

  // A frozen parameter keeps no memory for its gradient; a thawed one has it again, not written.
  void freeze(Backend& backend, bool freeze_it);

  // Of a norm's parameters, which operations read as they are: no rounded copy is kept and written.
  void read_unrounded() { compute_value = value; }

  // To be called when something other than sgd_step has written `value`.
  void value_changed(Backend& backend) {
    if (compute_value.raw() != value.raw()) backend.copy(value, Write::kOverwrite, compute_value);
  }

  Write next_write() {
    const Write write = grad_written ? Write::kAccumulate : Write::kOverwrite;
    grad_written = true;
    return write;
  }
};

// Whether an operation with these parameters (absent ones null) has anything to record: a gradient somebody wants.
bool records(const Context& context, const Variable& x, std::initializer_list<const Parameter*> parameters);

struct Buffer {
  std::string name;
  Tensor value;  // (1,1,1,C), packed
  StoredOrder order{};
  bool frozen = false;  // never updated
};

class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;  // children are registered by address
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  // In registration order, with dotted full names such as "stage2.0.branch2.1.running_mean".
  void for_each_parameter(const std::function<void(const std::string& name, Parameter& parameter)>& visit);
  void for_each_buffer(const std::function<void(const std::string& name, Buffer& buffer)>& visit);
  void for_each_module(const std::function<void(const std::string& name, Module& module)>& visit);

  // Parameter::value_changed of all: for whoever filled the values from outside.
  void values_changed(Backend& backend);
  // Forgets all gradients: the next backward pass overwrites them.
  void zero_grad();

  // Full dotted name, "" for a root. Known once the root is complete; see name_tree().
  const std::string& path() const { return path_; }
  // Call on the root after construction: gives every module its path, for tape nodes and error messages.
  void name_tree(const std::string& path = "");
  // `child` must live as long as this module.
  void add_module(std::string name, Module& child);

 protected:
  // Value and gradient are allocated, not initialised. The references stay valid as long as the module.
  Parameter& add_parameter(Backend& backend, std::string name, ParameterKind kind, Shape shape, bool decay);
  Buffer& add_buffer(Backend& backend, std::string name, int64_t size, double value);

 private:
  struct Child {
    std::string name;
    Module* module;
  };
  void visit_modules(const std::string& prefix, const std::function<void(const std::string&, Module&)>& visit);

  std::string path_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<Child> children_;
};

}  // namespace riffle
