// The weights in a checkpoint of a run, without what only training needs.
#pragma once

#include <string>
#include <utility>

#include "train/checkpoint/module_io.h"
#include "train/checkpoint/safetensors.h"

namespace riffle {

inline TensorMap weights_of(const std::string& path) {
  CheckpointFile file = read_safetensors(path);
  TensorMap weights;
  for (auto& [name, tensor] : file.tensors)
    if (name.rfind(kMomentumPrefix, 0) != 0) weights.emplace(name, std::move(tensor));
  return weights;
}

}  // namespace riffle
