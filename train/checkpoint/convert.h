// From what a file of anybody's holds to a Riffle checkpoint: names and layouts mapped, every tensor accounted for, and
// what the file cannot say (preprocessing, class names) added from the dialect it is of.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/checkpoint/infer_model.h"
#include "train/checkpoint/metadata.h"
#include "train/checkpoint/reconciliation.h"
#include "train/checkpoint/tensor_file.h"

namespace riffle {

struct ConvertOptions {
  ModelClaims claims;
  std::vector<std::string> classes;  // empty: the file's own, ImageNet's where there are 1000, else "0", "1", ...
  std::optional<bool> bgr;           // the order of colours, of a file that Riffle did not write, if not its dialect's
  std::optional<Dialect> preprocessing;  // whose, of such a file, if not its dialect's
  bool averages = false;                 // of a Riffle checkpoint: its moving averages
};

struct ConvertedModel {
  bool own = false;  // the file is a checkpoint that Riffle wrote
  Naming naming = Naming::kRiffle;
  CheckpointMetadata metadata;
  TensorMap tensors;  // f32, under Riffle's names, in PyTorch's layouts; with batch counters where the file has them
  Reconciliation reconciliation;
  std::vector<std::string> notes;  // for people, a line each
};

// Throws where infer_model() does. What is wrong with single tensors is in the reconciliation: see check().
ConvertedModel convert(const TensorFile& file, const ConvertOptions& options, const std::string& path);

// Throws unless the reconciliation is complete and all values are finite. Unexpected tensors, and values that are not
// finite, may be allowed; a network with missing ones is none.
void check(const ConvertedModel& converted, bool allow_unexpected, bool allow_nonfinite, const std::string& path);

// The tensors under the names and in the layouts of `naming`, for a writer.
TensorMap to_naming(const TensorMap& tensors, const ShuffleNetV2Config& model, Naming naming);

}  // namespace riffle
