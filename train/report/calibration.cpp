// Calibration.
#include "train/report/calibration.h"

#include <algorithm>
#include <cmath>

namespace riffle {
namespace {

// The bin (low, high] that holds a confidence.
size_t bin_of(double confidence) {
  const auto bin = static_cast<int64_t>(std::ceil(confidence * static_cast<double>(Calibration::kBins))) - 1;
  return static_cast<size_t>(std::clamp<int64_t>(bin, 0, Calibration::kBins - 1));
}

}  // namespace

Calibration calibrate(const std::vector<ImageRecord>& records) {
  Calibration result;
  constexpr auto kBins = static_cast<double>(Calibration::kBins);
  for (int64_t i = 0; i < Calibration::kBins; ++i) {
    CalibrationBin bin;
    bin.low = static_cast<double>(i) / kBins;
    bin.high = static_cast<double>(i + 1) / kBins;
    result.bins.push_back(bin);
  }
  for (const ImageRecord& record : records) {
    result.nll += record.loss;
    if (!record.predicted()) continue;
    const double confidence = record.top.front().probability;
    CalibrationBin& bin = result.bins[bin_of(confidence)];
    ++bin.images;
    bin.correct += record.top1_correct ? 1 : 0;
    bin.confidence_sum += confidence;
    ++result.images;
  }
  if (!records.empty()) result.nll /= static_cast<double>(records.size());
  for (const CalibrationBin& bin : result.bins) {
    if (bin.images == 0) continue;
    const double share = static_cast<double>(bin.images) / static_cast<double>(result.images);
    result.ece += share * std::abs(bin.accuracy() - bin.confidence());
  }
  return result;
}

}  // namespace riffle
