// For tests that look for what training changes.
#pragma once

#include <string>

namespace riffle {

// The shift of the norm between a depthwise and a pointwise convolution: the next norm subtracts it again, so that its
// gradient is zero, and training leaves it as it was.
inline bool is_subtracted_again(const std::string& tensor) {
  const auto ends_with = [&](const std::string& end) {
    return tensor.size() >= end.size() && tensor.compare(tensor.size() - end.size(), end.size(), end) == 0;
  };
  return ends_with(".branch1.1.bias") || ends_with(".branch2.4.bias");
}

}  // namespace riffle
