// Histograms in TensorBoard's buckets.
#include "train/tensorboard/histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace riffle {
namespace {

constexpr double kSmallestLimit = 1e-12, kGrowth = 1.1, kLargestLimit = 1e20;

std::vector<double> make_limits() {
  std::vector<double> positive;
  double limit = kSmallestLimit;
  while (limit < kLargestLimit) {
    positive.push_back(limit);
    limit *= kGrowth;
  }
  positive.push_back(std::numeric_limits<double>::max());
  std::vector<double> limits;
  for (auto each = positive.rbegin(); each != positive.rend(); ++each) limits.push_back(-*each);
  limits.push_back(0);
  limits.insert(limits.end(), positive.begin(), positive.end());
  return limits;
}

const std::vector<double>& bucket_limits() {
  static const std::vector<double> limits = make_limits();
  return limits;
}

// Runs of empty buckets become one each.
void keep_buckets(const std::vector<int64_t>& counts, Histogram& histogram) {
  const std::vector<double>& limits = bucket_limits();
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0 && !histogram.counts.empty() && histogram.counts.back() == 0) {
      histogram.limits.back() = limits[i];
      continue;
    }
    histogram.limits.push_back(limits[i]);
    histogram.counts.push_back(static_cast<double>(counts[i]));
  }
}

}  // namespace

Histogram histogram_of(const std::vector<float>& values, double scale) {
  const std::vector<double>& limits = bucket_limits();
  std::vector<int64_t> counts(limits.size());
  Histogram histogram;
  histogram.min = std::numeric_limits<double>::max();
  histogram.max = std::numeric_limits<double>::lowest();
  for (const float unscaled : values) {
    const double value = scale * static_cast<double>(unscaled);
    if (!std::isfinite(value)) {
      ++histogram.not_finite;
      continue;
    }
    histogram.min = std::min(histogram.min, value);
    histogram.max = std::max(histogram.max, value);
    histogram.count += 1;
    histogram.sum += value;
    histogram.sum_squares += value * value;
    const auto above = std::upper_bound(limits.begin(), limits.end(), value);  // not the end: float << double's maximum
    ++counts[static_cast<size_t>(above - limits.begin())];
  }
  if (histogram.count == 0) histogram.min = histogram.max = 0;
  keep_buckets(counts, histogram);
  return histogram;
}

}  // namespace riffle
