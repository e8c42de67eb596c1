// What `riffle train --dry-run` says of a run, from a few steps of it.
#pragma once

#include <string>
#include <vector>

#include "train/config.h"
#include "train/schedule.h"
#include "train/trial.h"

namespace riffle {

struct RunLength {
  int64_t steps = 0, steps_per_epoch = 0;
};

// Of the whole run but evaluations: the slower of computing and loading, at the pace of the trial's last step.
double estimated_seconds(const Trial& trial, int64_t steps);

// Speed, duration, effective batch, memory, and the learning rate drawn in at most `columns` columns, as lines for
// people. utf8: whether the terminal shows block characters.
std::vector<std::string> describe_trial(const Trial& trial, const Config& config, const LearningRate& learning_rate,
                                        const RunLength& run, size_t columns, bool utf8);

}  // namespace riffle
