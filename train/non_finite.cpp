// The first tensor that is not finite.
#include "train/non_finite.h"

#include <cmath>
#include <utility>
#include <vector>

#include "core/check.h"

namespace riffle {
namespace {

// "3 of 512 values are not finite, the first is NaN", or "".
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
  return join(count, " of ", values.size(), " values are not finite, the first is ",
              std::isnan(first) ? "NaN" : join(first));
}

}  // namespace

void NonFiniteSearch::look(const std::string& what, const Tensor& tensor) {
  if (!found_.empty()) return;
  const std::string description = describe_non_finite(backend_, tensor);
  if (!description.empty()) found_ = what + " (" + description + ")";
}

void NonFiniteSearch::look_at_gradients() {
  std::vector<std::pair<std::string, Tensor>> gradients;
  network_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (!parameter.frozen) gradients.emplace_back(name, parameter.grad);
  });
  for (auto gradient = gradients.rbegin(); gradient != gradients.rend(); ++gradient)
    look("the gradient of " + gradient->first, gradient->second);
}

std::string NonFiniteSearch::found() {
  if (found_.empty()) return "";
  int64_t count = 0;
  std::string first;
  network_.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (describe_non_finite(backend_, parameter.value).empty()) return;
    if (count++ == 0) first = name;
  });
  if (count == 0) return found_;
  if (count == 1) return join(found_, "; the parameter ", first, " is not finite itself");
  return join(found_, "; ", count, " parameters are not finite themselves, the first is ", first);
}

}  // namespace riffle
