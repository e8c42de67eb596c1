// TensorFile: what every reader of foreign checkpoints produces. Names are the file's own; layouts too, but for the order
// of axes in memory, which is always row-major. What the names mean is decided elsewhere: convert.h.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/checkpoint/host_tensor.h"

namespace riffle {

struct TensorFile {
  std::string format;  // for people: "PyTorch (zip)", "PyTorch (legacy)", "NumPy .npz", "TensorFlow checkpoint V2", ...
  TensorMap tensors;
  nlohmann::json metadata = nlohmann::json::object();  // of safetensors; empty for the other formats
  std::vector<std::string> notes;  // what else was in the file and is not returned, a line each: "'optimizer': skipped"
};

}  // namespace riffle
