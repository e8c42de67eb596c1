// What tests look at: the elements of tensors, and those of a module's tensors by name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/module.h"

namespace riffle {

// All elements, in the order of the shape.
template <class T = double>
std::vector<T> host(Backend& backend, const Tensor& x) {
  std::vector<T> values(static_cast<size_t>(x.elements()));
  backend.download(x, DTypeOf<T>::value, values.data());
  return values;
}

template <class T>
using ValuesByName = std::map<std::string, std::vector<T>>;

template <class T = double>
ValuesByName<T> parameters_of(Backend& backend, Module& module) {
  ValuesByName<T> values;
  module.for_each_parameter(
      [&](const std::string& name, Parameter& parameter) { values[name] = host<T>(backend, parameter.value); });
  return values;
}

template <class T = double>
ValuesByName<T> buffers_of(Backend& backend, Module& module) {
  ValuesByName<T> values;
  module.for_each_buffer(
      [&](const std::string& name, Buffer& buffer) { values[name] = host<T>(backend, buffer.value); });
  return values;
}

}  // namespace riffle
