// The data that a checkpoint is evaluated on: what it was trained with, unless the user names other data.
#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"
#include "train/checkpoint/metadata.h"

namespace riffle {

// spec and split may be empty: then the checkpoint's configuration says. `path` is the checkpoint's, for messages.
std::unique_ptr<Dataset> open_evaluation_data(const CheckpointMetadata& metadata, const std::string& path,
                                              const std::string& spec, const std::string& split);

}  // namespace riffle
