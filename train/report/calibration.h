// How far predicted probabilities are right: the reliability diagram and the expected calibration error of Guo et al.,
// "On Calibration of Modern Neural Networks" (2017).
#pragma once

#include <cstdint>
#include <vector>

#include "train/report/image_records.h"

namespace riffle {

struct CalibrationBin {
  double low = 0, high = 0;  // confidences in (low, high]
  int64_t images = 0, correct = 0;
  double confidence_sum = 0;

  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(images); }  // if images > 0
  double confidence() const { return confidence_sum / static_cast<double>(images); }              // likewise
};

// An image's confidence is the probability of its predicted class; images without a prediction have none and are left
// out.
struct Calibration {
  static constexpr int64_t kBins = 15;

  std::vector<CalibrationBin> bins;  // kBins of equal width
  int64_t images = 0;
  double ece = 0;  // sum over bins of (images in it / images) |accuracy - confidence|; 0 without any image
  double nll = 0;  // the mean loss of all images; NaN or infinite if any one's is
};
Calibration calibrate(const std::vector<ImageRecord>& records);

}  // namespace riffle
