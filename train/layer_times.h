// The times of a step's ranges by layer: a row of a table for each, forward and backward.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/backend.h"

namespace riffle {

// What the range of a node's backward pass is called: the node, and this.
inline constexpr const char* kBackwardRange = " backward";

// Of one step, or the mean of several.
struct LayerTime {
  std::string name;
  double forward_ms = 0, backward_ms = 0;
};

// Of the ranges of `steps` steps, in the order in which names first appear. A backward pass belongs to the range of the
// forward pass that its node lies in: "stage2.0.branch1.0 backward" to "stage2.0.branch1".
std::vector<LayerTime> layer_times(const std::vector<RangeTime>& ranges, int64_t steps);

// Medians over repeats, row by row; a layer that a repeat did not run took no time in it. At least one repeat.
std::vector<LayerTime> median_layer_times(const std::vector<std::vector<LayerTime>>& repeats);

double median(std::vector<double> values);  // the larger of the two in the middle; of at least one

}  // namespace riffle
