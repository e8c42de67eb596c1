// Evaluation: every image of a data set once, in order, through a network in inference mode.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "data/loader.h"
#include "layers/shufflenet_v2.h"
#include "train/metrics.h"
#include "train/network_input.h"

namespace riffle {

struct EvalResult {
  MetricSums sums;     // the loss is plain cross-entropy, without label smoothing
  double seconds = 0;  // decoding included
  std::vector<Loader::BadImage> bad_images;
  std::vector<int64_t> truncated_images;  // that were accepted: indices of the data set

  double images_per_s() const { return static_cast<double>(sums.images) / seconds; }
};

struct EvaluatorOptions {
  EvalTransform transform;
  Normalisation normalisation;
  int64_t batch = 32;
  int loader_threads = 1;
  int prefetch = 4;
  int64_t max_bad_images = 0;  // unreadable ones, which count as wrong; one more is an error
  // One process of several, each with a part of the images; MetricSums::add() puts their results together.
  RankPart part;
};

// A batch after the forward pass, on the host. The pointers are valid during the call that gets them.
struct EvaluatedBatch {
  const float* logits = nullptr;     // (count, classes)
  const int32_t* labels = nullptr;   // (count), classes of the network
  const int64_t* indices = nullptr;  // (count), of the data set
  int64_t count = 0, classes = 0;
};
using BatchObserver = std::function<void(const EvaluatedBatch& batch)>;

class Evaluator {
 public:
  // labels: data label -> class of the network (LabelMap::to_network). The data set must outlive the evaluator.
  Evaluator(Backend& backend, const Dataset& dataset, std::vector<int32_t> labels, const EvaluatorOptions& options);

  // Throws if the loader delivers any image twice or not at all. `on_batch` hears how many images are done. An
  // `observer` gets every batch's logits, for which the host waits; without one nothing is read but sums. An image that
  // could not be read has NaN logits there.
  EvalResult run(ShuffleNetV2& network, const std::function<void(int64_t images)>& on_batch,
                 const BatchObserver& observer = {});
  int64_t images() const { return loader_->images_per_epoch(); }
  int64_t loader_buffer_bytes() const { return loader_->buffer_bytes(); }

 private:
  void observe_unreadable(const Loader::BadImage& image, int64_t classes, const BatchObserver& observer) const;

  Backend& backend_;
  const Dataset& dataset_;
  std::vector<int32_t> labels_;
  std::unique_ptr<Loader> loader_;
  NetworkInput input_;
};

// A folded copy, for measuring a network that goes on training: what an evaluation of its checkpoint would run.
std::unique_ptr<ShuffleNetV2> folded_copy(Backend& backend, ShuffleNetV2& network);

}  // namespace riffle
