// The mean of several checkpoints' weights: of the last epochs of a run, or of runs from one beginning (Izmailov et al.,
// "Averaging Weights Leads to Wider Optima and Better Generalization", 2018).
#pragma once

#include <string>
#include <vector>

#include "train/checkpoint/safetensors.h"

namespace riffle {

// weights: as for read_network(). Every tensor is the mean in double, batch norm's running statistics too: these are only
// near those of the averaged weights. The metadata is the last checkpoint's, without what was measured of it. Throws where
// network, classes or input are not the same in all, naming the first difference.
CheckpointFile average_checkpoints(const std::vector<std::string>& paths, const std::string& weights);

}  // namespace riffle
