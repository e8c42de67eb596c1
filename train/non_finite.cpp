// The first tensor that is not finite.
#include "train/non_finite.h"

#include <cmath>
#include <utility>
#include <vector>

#include "core/check.h"

namespace riffle {
namespace {

// "3 of 512 values are not finite, the first is nan", or "".
std::string describe_non_finite(Backend& backend, const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  backend.download(tensor, DType::kF32, values.data());
  int64_t count = 0;
  float first = 0;
  for (const float value : values) {
    if (std::isfinite(value)) continue;
    if (count++ == 0) first = value;
  }
  if (count == 0) return "";
  return join(count, " of ", values.size(), " values are not finite, the first is ", first);
}

}  // namespace

void NonFiniteSearch::look(const std::string& what, const Tensor& tensor) {
  if (!found_.empty()) return;
  const std::string description = describe_non_finite(backend_, tensor);
  if (!description.empty()) found_ = what + " (" + description + ")";
}

void NonFiniteSearch::look_at_output(const std::string& name, const Tensor& y) {
  if (!found_.empty()) return;
  look("the output of " + name, y);
  if (found_.empty()) return;
  network_.for_each_parameter([&](const std::string& full_name, Parameter& parameter) {
    const bool of_layer = full_name.compare(0, name.size() + 1, name + ".") == 0;
    if (of_layer && !describe_non_finite(backend_, parameter.value).empty())
      found_ += ", whose parameter " + full_name + " is not finite itself";
  });
}

void NonFiniteSearch::look_at_gradients() {
  std::vector<std::pair<std::string, Tensor>> gradients;
  network_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (!parameter.frozen) gradients.emplace_back(name, parameter.grad);
  });
  for (auto gradient = gradients.rbegin(); gradient != gradients.rend(); ++gradient)
    look("the gradient of " + gradient->first, gradient->second);
}

}  // namespace riffle
