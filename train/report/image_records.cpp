// Records of evaluated images.
#include "train/report/image_records.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace riffle {
namespace {

// -log softmax(logits)[label], in double and relative to the largest logit, so that no term cancels another.
double cross_entropy(const float* logits, int64_t classes, int64_t label, double largest) {
  double sum = 0;
  for (int64_t k = 0; k < classes; ++k) sum += std::exp(static_cast<double>(logits[k]) - largest);
  return std::log(sum) + (largest - static_cast<double>(logits[label]));
}

int64_t rank_of(const float* logits, int64_t classes, int64_t label) {
  int64_t rank = 0;
  for (int64_t k = 0; k < classes; ++k) {
    if (logits[k] > logits[label] || (logits[k] == logits[label] && k < label)) ++rank;
  }
  return rank;
}

}  // namespace

ImageRecord make_record(const float* logits, int64_t classes, int64_t label) {
  RIFFLE_CHECK(label >= 0 && label < classes, "label ", label, " of ", classes, " classes");
  ImageRecord record;
  record.label = label;
  const bool any_nan = std::any_of(logits, logits + classes, [](float logit) { return std::isnan(logit); });
  const double largest = *std::max_element(logits, logits + classes);
  if (any_nan || !std::isfinite(largest)) {
    record.loss = std::numeric_limits<double>::quiet_NaN();
    return record;
  }
  record.top = most_probable(logits, classes, ImageRecord::kTop);
  record.loss = cross_entropy(logits, classes, label, largest);
  if (!std::isfinite(static_cast<float>(record.loss))) return record;
  const int64_t rank = rank_of(logits, classes, label);
  record.top1_correct = rank < 1;
  record.top5_correct = rank < std::min(ImageRecord::kTop, classes);
  return record;
}

void ImageRecorder::observe(const EvaluatedBatch& batch) {
  for (int64_t i = 0; i < batch.count; ++i) {
    records_.at(static_cast<size_t>(batch.indices[i])) =
        make_record(batch.logits + i * batch.classes, batch.classes, batch.labels[i]);
  }
}

RecordCounts count_records(const std::vector<ImageRecord>& records) {
  RecordCounts counts;
  for (const ImageRecord& record : records) {
    ++counts.images;
    counts.top1_correct += record.top1_correct ? 1 : 0;
    counts.top5_correct += record.top5_correct ? 1 : 0;
    counts.not_predicted += record.predicted() ? 0 : 1;
  }
  return counts;
}

}  // namespace riffle
