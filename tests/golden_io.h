// Goldens: arrays that PyTorch computed, stored as .npz by scripts/goldens (docs/goldens.md), and how far a result may
// be from them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/check.h"
#include "train/checkpoint/checkpoint.h"

namespace riffle {

// The elements of a host tensor, converted.
template <class To>
std::vector<To> elements_as(const HostTensor& tensor, const std::string& name) {
  const auto read = [&](auto element) {
    std::vector<decltype(element)> values(static_cast<size_t>(tensor.elements()));
    RIFFLE_CHECK(values.size() * sizeof(element) == tensor.bytes.size(), name, " has ", tensor.bytes.size(), " bytes");
    if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return std::vector<To>(values.begin(), values.end());
  };
  switch (tensor.dtype) {
    case FileDType::kF32:
      return read(float{});
    case FileDType::kF64:
      return read(double{});
    case FileDType::kI32:
      return read(int32_t{});
    case FileDType::kI64:
      return read(int64_t{});
    case FileDType::kU8:
      return read(uint8_t{});
    default:
      fail(name, ": goldens hold f32, f64, i32 and u8, not ", tensor.dtype);
  }
}

class Golden {
 public:
  explicit Golden(std::string path) : path_(std::move(path)), tensors_(read_npz(path_)) {}

  const std::string& path() const { return path_; }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }

  const HostTensor& at(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail(path_, ": no array \"", name, "\"; remake it: docs/goldens.md");
    return found->second;
  }
  template <class T>
  std::vector<T> values(const std::string& name) const {
    return elements_as<T>(at(name), name);
  }
  template <class T>
  T scalar(const std::string& name) const {
    const std::vector<T> all = values<T>(name);
    RIFFLE_CHECK(all.size() == 1, name, " has ", all.size(), " elements");
    return all.front();
  }
  // The arrays "prefix/NAME", as NAME.
  TensorMap below(const std::string& prefix) const {
    TensorMap found;
    for (const auto& [name, tensor] : tensors_) {
      if (name.rfind(prefix + "/", 0) == 0) found.emplace(name.substr(prefix.size() + 1), tensor);
    }
    return found;
  }

 private:
  std::string path_;
  TensorMap tensors_;
};

inline double largest_magnitude(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// max|actual - expected| / max(max|expected|, floor); infinite if the sizes differ or a value is not finite. The floor
// is for tensors that are zero but for rounding.
inline double relative_error(const std::vector<double>& actual, const std::vector<double>& expected, double floor = 0) {
  if (actual.size() != expected.size()) return INFINITY;
  double difference = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(actual[i])) return INFINITY;
    difference = std::max(difference, std::abs(actual[i] - expected[i]));
  }
  const double scale = std::max(largest_magnitude(expected), floor);
  return difference == 0 ? 0 : difference / scale;
}

}  // namespace riffle
