// Statistics of classes.
#include "train/report/class_statistics.h"

#include <algorithm>

namespace riffle {

std::optional<double> ClassCounts::ratio(int64_t part, int64_t whole) {
  if (whole == 0) return std::nullopt;
  return static_cast<double>(part) / static_cast<double>(whole);
}

ClassStatistics::ClassStatistics(const std::vector<ImageRecord>& records, int64_t classes)
    : classes_(static_cast<size_t>(classes)) {
  for (const ImageRecord& record : records) {
    ClassCounts& own = classes_.at(static_cast<size_t>(record.label));
    ++own.images;
    own.top1_correct += record.top1_correct ? 1 : 0;
    own.top5_correct += record.top5_correct ? 1 : 0;
    if (!record.predicted()) {
      ++own.not_predicted;
      continue;
    }
    const int64_t predicted = record.top.front().index;
    ++classes_.at(static_cast<size_t>(predicted)).predicted;
    ++cells_[{record.label, predicted}];
  }
}

int64_t ClassStatistics::count(int64_t label, int64_t predicted) const {
  const auto cell = cells_.find({label, predicted});
  return cell == cells_.end() ? 0 : cell->second;
}

std::vector<ConfusedPair> ClassStatistics::confused_pairs() const {
  std::vector<ConfusedPair> pairs;
  for (const auto& [cell, count] : cells_) {
    if (cell.first != cell.second) pairs.push_back({cell.first, cell.second, count});
  }
  // The map's order breaks ties.
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const ConfusedPair& a, const ConfusedPair& b) { return a.count > b.count; });
  return pairs;
}

}  // namespace riffle
