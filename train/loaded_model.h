// A checkpoint made into a network that can run, with what its metadata says about it.
#pragma once

#include <memory>
#include <string>

#include "layers/shufflenet_v2.h"
#include "train/checkpoint/metadata.h"

namespace riffle {

struct LoadedModel {
  std::string path;
  CheckpointMetadata metadata;
  std::unique_ptr<ShuffleNetV2> network;
};

// Inference only: batch norms are folded into the convolutions.
LoadedModel load_for_inference(Backend& backend, const std::string& path);

}  // namespace riffle
