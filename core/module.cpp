// Module: registration and traversal.
#include "core/module.h"

#include <utility>

namespace riffle {
namespace {

std::string dotted(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

}  // namespace

bool records(const Context& context, const Variable& x, std::initializer_list<const Parameter*> parameters) {
  if (!context.tape) return false;
  bool wanted = x.requires_grad();
  for (const Parameter* parameter : parameters) wanted = wanted || (parameter && !parameter->frozen);
  return wanted;
}

void Parameter::freeze(Backend& backend, bool freeze_it) {
  if (freeze_it) {
    grad = Tensor{};
  } else if (!grad.defined()) {
    grad = backend.empty_parameter(value.shape());
  }
  grad_written = false;
  frozen = freeze_it;
}

Parameter& Module::add_parameter(Backend& backend, std::string name, ParameterKind kind, Shape shape, bool decay) {
  for (const auto& other : parameters_) RIFFLE_CHECK(other->name != name, "two parameters are called ", name);
  auto parameter = std::make_unique<Parameter>();
  parameter->name = std::move(name);
  parameter->kind = kind;
  parameter->decay = decay;
  parameter->value = backend.empty_parameter(shape);
  parameter->grad = backend.empty_parameter(shape);
  const bool same = backend.dtype() == backend.parameter_dtype();
  parameter->compute_value = same ? parameter->value : backend.empty(shape);
  parameters_.push_back(std::move(parameter));
  return *parameters_.back();
}

Buffer& Module::add_buffer(Backend& backend, std::string name, int64_t size, double value) {
  auto buffer = std::make_unique<Buffer>(Buffer{std::move(name), backend.empty_parameter(vector_shape(size))});
  backend.fill(value, buffer->value);
  buffers_.push_back(std::move(buffer));
  return *buffers_.back();
}

void Module::add_module(std::string name, Module& child) {
  for (const Child& other : children_) RIFFLE_CHECK(other.name != name, "two modules are called ", name);
  children_.push_back({std::move(name), &child});
}

void Module::visit_modules(const std::string& prefix, const std::function<void(const std::string&, Module&)>& visit) {
  visit(prefix, *this);
  for (const Child& child : children_) child.module->visit_modules(dotted(prefix, child.name), visit);
}

void Module::for_each_module(const std::function<void(const std::string&, Module&)>& visit) {
  visit_modules("", visit);
}

void Module::for_each_parameter(const std::function<void(const std::string&, Parameter&)>& visit) {
  for_each_module([&](const std::string& prefix, Module& module) {
    for (auto& parameter : module.parameters_) visit(dotted(prefix, parameter->name), *parameter);
  });
}

void Module::for_each_buffer(const std::function<void(const std::string&, Buffer&)>& visit) {
  for_each_module([&](const std::string& prefix, Module& module) {
    for (auto& buffer : module.buffers_) visit(dotted(prefix, buffer->name), *buffer);
  });
}

void Module::values_changed(Backend& backend) {
  for_each_parameter([&](const std::string&, Parameter& parameter) { parameter.value_changed(backend); });
}

void Module::zero_grad() {
  for_each_parameter([](const std::string&, Parameter& parameter) { parameter.grad_written = false; });
}

void Module::name_tree(const std::string& path) {
  visit_modules(path, [](const std::string& name, Module& module) { module.path_ = name; });
}

}  // namespace riffle
