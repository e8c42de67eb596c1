// Precise batch norm: the running statistics of a network's batch norms, estimated anew with its weights as they are.
//
// In training they are exponential averages over steps whose weights still moved. Here they become the plain mean, over
// some batches, of the batches' means and unbiased variances: the cumulative average of the last epoch of the network's
// authors (momentum 1/k at batch k, learning rate 0), and what mmpretrain's PreciseBNHook does.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "layers/shufflenet_v2.h"

namespace riffle {

// next_batch: the next images (N,H,W,C), normalised; called `batches` times. Frozen statistics stay as they are; weights
// always do. The network must not be folded.
void recalibrate(Backend& backend, ShuffleNetV2& network, int64_t batches, const std::function<Variable()>& next_batch);

// `count` images of a data set in a random order, for batches that are like it as a whole: listings go class by class.
// The data set must outlive it.
class RandomSubset : public Dataset {
 public:
  RandomSubset(const Dataset& dataset, int64_t count, uint64_t seed);
  int64_t size() const override { return static_cast<int64_t>(order_.size()); }
  int channels() const override { return dataset_.channels(); }
  const std::vector<std::string>& classes() const override { return dataset_.classes(); }
  int label(int64_t index) const override { return dataset_.label(at(index)); }
  Image load(int64_t index) const override { return dataset_.load(at(index)); }
  TruncatedImages truncated_images() const override { return dataset_.truncated_images(); }
  EncodedImage encoded(int64_t index) const override { return dataset_.encoded(at(index)); }
  std::string name(int64_t index) const override { return dataset_.name(at(index)); }
  std::string name_in_errors(int64_t index) const override { return dataset_.name_in_errors(at(index)); }
  uint64_t encoded_size(int64_t index) const override { return dataset_.encoded_size(at(index)); }
  std::string description() const override;

 private:
  int64_t at(int64_t index) const { return order_.at(static_cast<size_t>(index)); }

  const Dataset& dataset_;
  std::vector<int64_t> order_;
};

}  // namespace riffle
