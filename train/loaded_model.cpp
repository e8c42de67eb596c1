// Loading for inference.
#include "train/loaded_model.h"

#include <utility>

#include "train/checkpoint/checkpoint.h"

namespace riffle {
namespace {

// The moving averages that `file` holds beside the weights, under the weights' names.
TensorMap averages_of(const TensorMap& tensors) {
  const std::string prefix = kAveragePrefix;
  TensorMap averages;
  for (auto at = tensors.lower_bound(prefix); at != tensors.end() && at->first.rfind(prefix, 0) == 0; ++at) {
    averages.emplace(at->first.substr(prefix.size()), at->second);
  }
  return averages;
}

}  // namespace

StoredNetwork read_network(const std::string& path, const std::string& weights) {
  CheckpointFile file = read_safetensors(path);
  StoredNetwork stored{metadata_from_json(file.metadata, path), {}, describe_architecture(file.metadata)};
  const bool want_averages = weights == "ema";
  const bool beside = !weights.empty() && want_averages != stored.metadata.averaged;
  const TensorMap averages = beside && want_averages ? averages_of(file.tensors) : TensorMap{};
  if (beside && averages.empty()) {
    fail(path, " has no ", want_averages ? "averaged" : "raw", " weights, only ",
         want_averages ? "raw ones; train with ema.decay to get them" : "averaged ones; last.safetensors has both");
  }
  if (beside) stored.metadata.averaged = true;
  stored.tensors = beside ? averages : std::move(file.tensors);
  return stored;
}

LoadedModel load_for_inference(Backend& backend, const std::string& path, const std::string& weights) {
  const StoredNetwork stored = read_network(path, weights);
  LoadedModel model{path, stored.metadata, nullptr};
  model.network = std::make_unique<ShuffleNetV2>(backend, model.metadata.model, /*seed=*/0);
  import_module(backend, *model.network, stored.tensors, path, stored.architecture);
  model.network->fold_batch_norm(backend);
  return model;
}

}  // namespace riffle
