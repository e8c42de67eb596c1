// What an evaluation keeps of every image, computed on the host from its logits: the most probable classes, the loss and
// the label's rank. Memory is a few dozen bytes an image, whatever the number of classes.
#pragma once

#include <cstdint>
#include <vector>

#include "train/evaluator.h"
#include "train/predictor.h"

namespace riffle {

struct ImageRecord {
  static constexpr int64_t kTop = 5;

  int64_t label = -1;
  // The most probable classes, of equal logits the lower index first. Empty where a logit is NaN or the largest one
  // is infinite: then nothing is predicted, and the image is wrong.
  std::vector<Prediction> top;
  double loss = 0;  // cross-entropy; may be NaN or infinite
  bool top1_correct = false, top5_correct = false;

  bool predicted() const { return !top.empty(); }
};

// A record of one row of logits. Correct at k: fewer than k classes score above the label, where of equal scores the
// lower index counts as above, and the loss is finite (MetricSums counts so too).
ImageRecord make_record(const float* logits, int64_t classes, int64_t label);

// An observer for Evaluator::run(), which keeps a record of each image of a data set, by its index.
class ImageRecorder {
 public:
  explicit ImageRecorder(int64_t images) : records_(static_cast<size_t>(images)) {}

  void observe(const EvaluatedBatch& batch);
  const std::vector<ImageRecord>& records() const { return records_; }

 private:
  std::vector<ImageRecord> records_;
};

// Their sums; what MetricSums of the same evaluation counts.
struct RecordCounts {
  int64_t images = 0, top1_correct = 0, top5_correct = 0;
  int64_t not_predicted = 0;  // images without a prediction
};
RecordCounts count_records(const std::vector<ImageRecord>& records);

}  // namespace riffle
