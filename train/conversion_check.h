// The last step of a conversion: the network that was written is run, since weights that fit can still be wrong.
#pragma once

#include <string>
#include <vector>

#include "core/backend.h"
#include "train/checkpoint/host_tensor.h"
#include "train/checkpoint/metadata.h"

namespace riffle {

// Logits (2, classes) of two fixed images of noise, of the evaluation size. `path` is for messages.
std::vector<float> probe_logits(Backend& backend, const CheckpointMetadata& metadata, const TensorMap& tensors,
                                const std::string& path);

// max |a - b| / max |a|.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace riffle
