// What became of every tensor of a file when it was read as a network: the proof that a conversion lost nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/checkpoint/host_tensor.h"

namespace riffle {

// Values that are not what weights should be.
struct OddValues {
  std::string name;
  int64_t nans = 0, infinities = 0, denormals = 0;
};
// Of a floating-point tensor; all zero for others.
OddValues count_odd_values(const std::string& name, const HostTensor& tensor);

struct Reconciliation {
  int64_t matched = 0;
  int64_t counters = 0;  // batch counters of PyTorch's norms: not the network's, kept for the way back
  std::vector<std::string> missing, unexpected, mismatched;  // the last with both shapes
  std::map<std::string, int64_t> ignored;                    // reason -> tensors
  std::vector<OddValues> odd;                                // tensors with NaN, infinity or denormals

  int64_t nonfinite_tensors() const;
  bool complete() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  // A line if all is well, else a line for each kind of finding, with names.
  std::string text() const;
  nlohmann::json to_json() const;
};

}  // namespace riffle
