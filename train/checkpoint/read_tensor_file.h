// Any checkpoint file: which format it is, its contents decide and not its name; then that format's reader.
#pragma once

#include <string>

#include "train/checkpoint/tensor_file.h"

namespace riffle {

// entry: which of several sets of weights, for formats that nest them (PyTorch); "" is automatic. Formats that are known
// and not read (HDF5, ONNX, single arrays, ...) are refused by name, with what to do instead.
TensorFile read_tensor_file(const std::string& path, const std::string& entry = "");

}  // namespace riffle
