// Counts for each class, and which classes are taken for which: the confusion matrix, stored as its non-zero cells.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "train/report/image_records.h"

namespace riffle {

struct ClassCounts {
  int64_t images = 0;                          // with this label
  int64_t top1_correct = 0, top5_correct = 0;  // of those
  int64_t predicted = 0;                       // images taken for this class, rightly or not
  int64_t not_predicted = 0;                   // of the class's images: those without a prediction

  // Nothing where the denominator is 0: a class without images has no recall, one never predicted no precision.
  std::optional<double> top1() const { return ratio(top1_correct, images); }  // which is the recall
  std::optional<double> top5() const { return ratio(top5_correct, images); }
  std::optional<double> precision() const { return ratio(top1_correct, predicted); }
  std::optional<double> f1() const { return ratio(2 * top1_correct, images + predicted); }

 private:
  static std::optional<double> ratio(int64_t part, int64_t whole);
};

struct ConfusedPair {
  int64_t label = 0, predicted = 0, count = 0;
};

class ClassStatistics {
 public:
  ClassStatistics(const std::vector<ImageRecord>& records, int64_t classes);

  const std::vector<ClassCounts>& classes() const { return classes_; }
  // Images with this label that are taken for class `predicted`.
  int64_t count(int64_t label, int64_t predicted) const;
  // The cells off the diagonal that are not 0: the largest first, of equal ones by label, then by prediction.
  std::vector<ConfusedPair> confused_pairs() const;
  // (label, predicted) -> images, without zeros.
  const std::map<std::pair<int64_t, int64_t>, int64_t>& cells() const { return cells_; }

 private:
  std::vector<ClassCounts> classes_;
  std::map<std::pair<int64_t, int64_t>, int64_t> cells_;
};

}  // namespace riffle
