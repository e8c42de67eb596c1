// Layer times.
#include "train/layer_times.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace riffle {
namespace {

const LayerTime* find(const std::vector<LayerTime>& rows, const std::string& name) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const LayerTime& row) { return row.name == name; });
  return found == rows.end() ? nullptr : &*found;
}

LayerTime& row_of(std::vector<LayerTime>& rows, const std::string& name) {
  if (const LayerTime* row = find(rows, name)) return rows[static_cast<size_t>(row - rows.data())];
  rows.push_back({name, 0, 0});
  return rows.back();
}

// The node itself where it has a row, or else the nearest module around it that has one.
std::string row_name_of(const std::vector<LayerTime>& rows, const std::string& node) {
  for (size_t end = node.size(); end != std::string::npos && end > 0; end = node.rfind('.', end - 1))
    if (find(rows, node.substr(0, end))) return node.substr(0, end);
  return node;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::vector<LayerTime> layer_times(const std::vector<RangeTime>& ranges, int64_t steps) {
  std::vector<LayerTime> rows;
  for (const RangeTime& range : ranges) {
    const double ms = range.milliseconds / static_cast<double>(steps);
    if (ends_with(range.name, kBackwardRange)) {
      const std::string node = range.name.substr(0, range.name.size() - std::strlen(kBackwardRange));
      row_of(rows, row_name_of(rows, node)).backward_ms += ms;
    } else {
      row_of(rows, range.name).forward_ms += ms;
    }
  }
  return rows;
}

std::vector<LayerTime> median_layer_times(const std::vector<std::vector<LayerTime>>& repeats) {
  std::vector<LayerTime> rows;
  for (const auto& repeat : repeats)
    for (const LayerTime& row : repeat) row_of(rows, row.name);
  for (LayerTime& row : rows) {
    std::vector<double> forward, backward;
    for (const auto& repeat : repeats) {
      const LayerTime* time = find(repeat, row.name);
      forward.push_back(time ? time->forward_ms : 0);
      backward.push_back(time ? time->backward_ms : 0);
    }
    row.forward_ms = median(std::move(forward));
    row.backward_ms = median(std::move(backward));
  }
  return rows;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace riffle
