// A confusion matrix as a picture: a row for each true class, a column for each predicted one. A cell's strength is its
// share of the row's images; the diagonal is blue, mistakes are orange. Up to 32 classes the counts are written in.
#pragma once

#include "data/image.h"
#include "train/report/class_statistics.h"

namespace riffle {

// With a frame whose ticks carry class indices. More than kMostCells classes share cells: neighbouring classes are added up.
Image confusion_image(const ClassStatistics& statistics);

constexpr int kMostCells = 1000;

}  // namespace riffle
