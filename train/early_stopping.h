// Early stopping: whether a run should end because its evaluations have stopped getting better.
#pragma once

#include "train/config.h"

namespace riffle {

class EarlyStopping {
 public:
  explicit EarlyStopping(const EarlyStoppingSection& section) : section_(section) {}

  // To be told of every evaluation's best top-1, a fraction. True once `patience` of them in a row were not better than
  // the best before by more than min_delta.
  bool should_stop(double top1) {
    if (section_.patience == 0) return false;
    if (best_ < 0 || 100 * (top1 - best_) > section_.min_delta) {
      best_ = top1;
      waited_ = 0;
    } else {
      ++waited_;
    }
    return waited_ >= section_.patience;
  }

 private:
  EarlyStoppingSection section_;
  double best_ = -1;  // none yet
  int64_t waited_ = 0;
};

}  // namespace riffle
