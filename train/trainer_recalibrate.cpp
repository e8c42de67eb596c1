// The last phase of a run that asks for it: batch norm's statistics for the final weights (recalibration.h).
#include <fstream>

#include "train/checkpoint/checkpoint.h"
#include "train/recalibration.h"
#include "train/text.h"
#include "train/trainer.h"

namespace riffle {
namespace {

CheckpointMetadata::Metrics metrics_of(const MetricSums& sums) {
  return {100 * sums.top1(), 100 * sums.top5(), sums.loss()};
}

}  // namespace

int64_t Trainer::recalibration_batches() const {
  return config_.recalibrate.duration.steps(steps_per_epoch_) * config_.optimizer.accumulate;
}

// Its record is written last, so that whatever ends a run before that is followed by all of the phase.
bool Trainer::recalibration_is_due(const std::string& folder) const {
  if (recalibration_batches() == 0) return false;
  std::ifstream metrics(RunFolder::metrics(folder));
  for (std::string line; std::getline(metrics, line);) {
    const nlohmann::json record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (record.is_object() && record.value("type", "") == RunLog::kRecalibrated &&
        record.value("step", int64_t{-1}) == step())
      return false;
  }
  return true;
}

// Of epochs that follow those of training, and so of images in an order of their own.
void Trainer::estimate_statistics(ShuffleNetV2& network) {
  int64_t next_epoch = epochs();
  loader_.start_epoch(next_epoch++);
  follow_image_size();
  recalibrate(backend_, network, recalibration_batches(), [&] {
    if (stop_()) throw Stopped{};
    Batch batch;
    if (!loader_.next(batch)) {
      loader_.start_epoch(next_epoch++);
      follow_image_size();
      const bool delivered = loader_.next(batch);
      RIFFLE_CHECK(delivered, "an epoch of training images has no batch");
    }
    return input_.images(batch.images, batch.count);
  });
}

bool Trainer::recalibrate_network(const RunFolder& folder) {
  if (!recalibration_is_due(folder.path())) return true;
  try {
    recalibrate_and_measure(folder);
    return true;
  } catch (const Stopped&) {
    progress_.line("stopped     before batch norm's statistics were measured; that comes first when the run goes on");
    return false;
  }
}

void Trainer::recalibrate_and_measure(const RunFolder& folder) {
  train_step_.release_graph();
  CheckpointMetadata metadata = metadata_;
  metadata.training = CheckpointMetadata::Training{step() / steps_per_epoch_, step(), 1};
  metadata.recalibrated_images = recalibration_batches() * config_.train.batch;
  const auto save = [&](const std::string& name, ShuffleNetV2& network, bool averaged, const MetricSums& sums,
                        ShuffleNetV2* averages) {
    metadata.averaged = averaged;
    metadata.metrics = metrics_of(sums);
    CheckpointFile file;
    file.metadata = to_json(metadata);
    export_module(backend_, network, file.tensors);
    TensorMap beside;
    if (averages) export_module(backend_, *averages, beside);
    for (auto& [tensor, values] : beside) file.tensors.emplace(kAveragePrefix + tensor, std::move(values));
    write_safetensors(folder.checkpoint(name), file);
  };
  const auto keep_if_best = [&](ShuffleNetV2& network, bool averaged, const MetricSums& sums) {
    if (sums.top1() <= state_.best.top1) return;
    state_.best = {sums.top1(), averaged ? "recalibrated EMA weights" : "recalibrated weights"};
    save("best", network, averaged, sums, nullptr);
  };

  progress_.line(join("recalibrate batch norm's statistics from ", format_count(*metadata.recalibrated_images),
                      " training images"));
  estimate_statistics(network_);
  EvaluationRecord record{step(), epochs_done(), measure(network_, "recalibrated"), {}, 0};
  keep_if_best(network_, /*averaged=*/false, record.raw.sums);
  if (averaged_) {
    train_step_.average()->copy_to(*averaged_);
    averaged_->freeze_parts(backend_, config_.frozen_parts());
    estimate_statistics(*averaged_);
    record.ema = measure(*averaged_, "recalibrated EMA");
    keep_if_best(*averaged_, /*averaged=*/true, record.ema->sums);
  }
  save("recalibrated", network_, /*averaged=*/false, record.raw.sums, averaged_.get());
  record.best_top1 = state_.best.top1;
  log_->recalibrated(record, *metadata.recalibrated_images);
  log_->finish();
}

}  // namespace riffle
