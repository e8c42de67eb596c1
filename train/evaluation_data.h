// The data that a checkpoint is evaluated on: what it was trained with, unless the user names other data.
#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"
#include "train/checkpoint/metadata.h"

namespace riffle {

// What the user named; where a member is empty, the checkpoint's configuration says. Labels belong to their data: those of
// the configuration are used with its data only, and so is what it says of truncated images; of other data they are errors.
struct EvaluationSource {
  std::string spec, split, val_labels;
  std::string truncated{};  // "error" or "accept", as data.truncated
};

// `path` is the checkpoint's, for messages.
std::unique_ptr<Dataset> open_evaluation_data(const CheckpointMetadata& metadata, const std::string& path,
                                              const EvaluationSource& given);

}  // namespace riffle
