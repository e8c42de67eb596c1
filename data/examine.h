// Going over a whole data set: what is wrong or odd in it, and its statistics.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace riffle {

struct ExamineOptions {
  int threads = 1;
  std::function<void(int64_t images)> progress;  // after some images, from any thread, one at a time
};

struct Finding {
  int64_t index;
  std::string name, what;
};

struct VerifyReport {
  int64_t images = 0;
  std::vector<Finding> bad;                      // cannot be read or decoded
  std::vector<Finding> truncated;                // can be decoded, as far as the file goes
  std::vector<Finding> odd;                      // decoded, but unlike the rest: CMYK, PNG named .JPEG, 16 bits, ...
  std::vector<std::vector<int64_t>> duplicates;  // groups of images with the same bytes, by index
  int64_t duplicates_across_classes = 0;         // groups whose images have different labels
  int64_t jpeg = 0, png = 0, gray = 0, progressive = 0;
};
// Decodes every image. The report does not depend on the number of threads.
VerifyReport verify(const Dataset& data, const ExamineOptions& options);

struct Range {
  int64_t least = 0, median = 0, greatest = 0;
};
struct StatsReport {
  int64_t images = 0;
  std::vector<int64_t> per_class;
  Range width, height, short_edge;
  int64_t encoded_bytes = 0;  // 0: stored as pixels
  // Of pixels from 0 to 1, where every image weighs the same whatever its size:
  //   mean = average over images of the image's mean; std = sqrt(average of the mean of squares - mean^2)
  std::vector<double> mean, std;
};
// Throws for the first image that cannot be decoded (verify() finds them all).
StatsReport statistics(const Dataset& data, const ExamineOptions& options);

}  // namespace riffle
