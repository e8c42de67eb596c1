// Histograms in TensorBoard's buckets: their limits grow by a factor of 1.1 from 1e-12 on, to either side of zero, so
// that small and large values show alike.
#pragma once

#include <cstdint>
#include <vector>

namespace riffle {

struct Histogram {
  double min = 0, max = 0, count = 0, sum = 0, sum_squares = 0;
  // Counts of values below limits[i] and not below limits[i-1]. Empty buckets that follow one another are one.
  std::vector<double> limits, counts;
  int64_t not_finite = 0;  // values left out
};

// `scale` multiplies the values first.
Histogram histogram_of(const std::vector<float>& values, double scale = 1);

}  // namespace riffle
