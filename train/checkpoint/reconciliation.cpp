// Counting and reporting.
#include "train/checkpoint/reconciliation.h"

#include <algorithm>
#include <cmath>

#include "train/text.h"

namespace riffle {
namespace {

// Denormals of the f32 that the network computes with, however the file stores them.
void count(const std::vector<float>& values, OddValues& odd) {
  for (const float value : values) {
    switch (std::fpclassify(value)) {
      case FP_NAN:
        ++odd.nans;
        break;
      case FP_INFINITE:
        ++odd.infinities;
        break;
      case FP_SUBNORMAL:
        ++odd.denormals;
        break;
      default:
        break;
    }
  }
}

std::string plural(int64_t count, const std::string& noun) {
  return join(count, " ", noun, count == 1 ? "" : "s");
}

void append_names(std::string& text, const char* title, const std::vector<std::string>& names) {
  if (!names.empty()) text += join("\n  ", title, " ", names.size(), ": ", format_names(names));
}

}  // namespace

OddValues count_odd_values(const std::string& name, const HostTensor& tensor) {
  OddValues odd;
  odd.name = name;
  if (converts_to_f32(tensor.dtype)) count(to_f32(tensor, name), odd);
  return odd;
}

int64_t Reconciliation::nonfinite_tensors() const {
  return std::count_if(odd.begin(), odd.end(), [](const OddValues& o) { return o.nans + o.infinities > 0; });
}

std::string Reconciliation::text() const {
  std::string text = plural(matched, "tensor") + " matched";
  if (complete()) text += ", none missing or unexpected";
  text += nonfinite_tensors() == 0 ? ", all values finite" : "";
  append_names(text, "missing", missing);
  append_names(text, "unexpected", unexpected);
  append_names(text, "of another shape", mismatched);
  if (counters > 0) text += join("\n  kept: ", plural(counters, "batch counter"));
  for (const auto& [reason, tensors] : ignored)
    text += join("\n  ignored: ", plural(tensors, "tensor"), " of ", reason);
  constexpr size_t kShown = 10;
  for (size_t i = 0; i < std::min(kShown, odd.size()); ++i) {
    const OddValues& o = odd[i];
    text += join("\n  ", o.name, ":");
    if (o.nans > 0) text += join(" ", o.nans, " NaN");
    if (o.infinities > 0) text += join(" ", o.infinities, " infinite");
    if (o.denormals > 0) text += join(" ", o.denormals, " denormal");
  }
  if (odd.size() > kShown) text += join("\n  and ", odd.size() - kShown, " more tensors with such values");
  return text;
}

nlohmann::json Reconciliation::to_json() const {
  nlohmann::json values = nlohmann::json::array();
  for (const OddValues& o : odd) {
    values.push_back({{"name", o.name}, {"nan", o.nans}, {"infinite", o.infinities}, {"denormal", o.denormals}});
  }
  return {{"matched", matched},       {"batch_counters", counters}, {"missing", missing},  {"unexpected", unexpected},
          {"mismatched", mismatched}, {"ignored", ignored},         {"odd_values", values}};
}

}  // namespace riffle
