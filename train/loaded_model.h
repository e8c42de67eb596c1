// A checkpoint made into a network that can run, with what its metadata says about it.
#pragma once

#include <memory>
#include <string>

#include "layers/shufflenet_v2.h"
#include "train/checkpoint/host_tensor.h"
#include "train/checkpoint/metadata.h"

namespace riffle {

struct LoadedModel {
  std::string path;
  CheckpointMetadata metadata;
  std::unique_ptr<ShuffleNetV2> network;
};

// A network as a checkpoint holds it.
struct StoredNetwork {
  CheckpointMetadata metadata;
  TensorMap tensors;         // under the network's own names
  std::string architecture;  // describe_architecture()
};

// weights: "raw" (as trained), "ema" (their moving averages), or "" for those that the file holds under the network's own
// names; metadata.averaged says which were taken. Throws where the file lacks them.
StoredNetwork read_network(const std::string& path, const std::string& weights);

// read_network() for inference only: batch norms are folded into the convolutions.
LoadedModel load_for_inference(Backend& backend, const std::string& path, const std::string& weights);

}  // namespace riffle
