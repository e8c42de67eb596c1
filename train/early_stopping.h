// Early stopping: whether a run should end because its evaluations have stopped getting better.
#pragma once

#include "train/config.h"

namespace riffle {

struct EarlyStopping {
  double best_top1 = -1;  // a fraction, of the last evaluation that counted as better; -1: none yet
  int64_t waited = 0;     // evaluations since
};

// To be told of every evaluation, its top-1 as a fraction.
inline void note_evaluation(const EarlyStoppingSection& section, double top1, EarlyStopping& state) {
  if (state.best_top1 < 0 || 100 * (top1 - state.best_top1) > section.min_delta) {
    state = {top1, 0};
  } else {
    ++state.waited;
  }
}

inline bool stops_early(const EarlyStoppingSection& section, const EarlyStopping& state) {
  return section.patience > 0 && state.waited >= section.patience;
}

}  // namespace riffle
