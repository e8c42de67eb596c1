// Loading for inference.
#include "train/loaded_model.h"

#include "train/checkpoint/checkpoint.h"

namespace riffle {

LoadedModel load_for_inference(Backend& backend, const std::string& path) {
  const CheckpointFile file = read_safetensors(path);
  LoadedModel model;
  model.path = path;
  model.metadata = metadata_from_json(file.metadata, path);
  model.network = std::make_unique<ShuffleNetV2>(backend, model.metadata.model, /*seed=*/0);
  import_module(backend, *model.network, file.tensors, path, describe_architecture(file.metadata));
  model.network->fold_batch_norm(backend);
  return model;
}

}  // namespace riffle
