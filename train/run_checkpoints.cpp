// The checkpoints of a run.
#include "train/run_checkpoints.h"

#include "train/checkpoint/checkpoint.h"

namespace riffle {

nlohmann::json RunCheckpoints::metadata(bool averaged, const CheckpointMetadata::Training& training,
                                        const MetricSums* sums) const {
  CheckpointMetadata metadata = metadata_;
  metadata.averaged = averaged;
  metadata.training = training;
  if (sums) metadata.metrics = CheckpointMetadata::Metrics{100 * sums->top1(), 100 * sums->top5(), sums->loss()};
  return to_json(metadata);
}

void RunCheckpoints::save_last(ShuffleNetV2& network, ShuffleNetV2* averages,
                               const CheckpointMetadata::Training& training, const MetricSums* sums) const {
  CheckpointFile file;
  file.metadata = metadata(/*averaged=*/false, training, sums);
  export_module(backend_, network, file.tensors);
  if (averages) {
    TensorMap averaged;
    export_module(backend_, *averages, averaged);
    for (auto& [name, tensor] : averaged) file.tensors.emplace(kAveragePrefix + name, std::move(tensor));
  }
  write_safetensors(folder_.checkpoint("last"), file);
}

void RunCheckpoints::save_best(ShuffleNetV2& network, bool averaged, const CheckpointMetadata::Training& training,
                               const MetricSums& sums) const {
  CheckpointFile file;
  file.metadata = metadata(averaged, training, &sums);
  export_module(backend_, network, file.tensors);
  write_safetensors(folder_.checkpoint("best"), file);
}

}  // namespace riffle
