// The checkpoints of a run: what is saved where.
//
// `last` holds the network as it is (and, with a moving average, the averages under "ema.*"). `best` holds the weights
// with the highest top-1 so far, averaged or not; its metadata says which.
#pragma once

#include <string>

#include "train/checkpoint/metadata.h"
#include "train/metrics.h"
#include "train/run_folder.h"

namespace riffle {

class RunCheckpoints {
 public:
  // metadata: what is the same in all of them.
  RunCheckpoints(Backend& backend, const RunFolder& folder, CheckpointMetadata metadata)
      : backend_(backend), folder_(folder), metadata_(std::move(metadata)) {}

  // averages: of the network's weights, or null. sums: what was measured of the network, or null before that.
  void save_last(ShuffleNetV2& network, ShuffleNetV2* averages, const CheckpointMetadata::Training& training,
                 const MetricSums* sums) const;
  // averaged: whether the network's weights are moving averages.
  void save_best(ShuffleNetV2& network, bool averaged, const CheckpointMetadata::Training& training,
                 const MetricSums& sums) const;

 private:
  nlohmann::json metadata(bool averaged, const CheckpointMetadata::Training& training, const MetricSums* sums) const;

  Backend& backend_;
  const RunFolder& folder_;
  CheckpointMetadata metadata_;
};

}  // namespace riffle
