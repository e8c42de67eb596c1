// The curves of one or several runs: as data for the page's script, and as SVG for readers without one.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/report/run_data.h"

namespace riffle {

struct ChartSeries {
  size_t run = 0;
  std::string kind;  // "train", "val" or "ema": the line's style
  struct Point {
    double epoch, step, value;  // finite
  };
  std::vector<Point> points;
};

struct Chart {
  std::string id, title, unit;
  std::vector<ChartSeries> series;  // those with points
};

// Loss, top-1 accuracy, learning rate, throughput, data wait and gradient norm; those that any run has.
std::vector<Chart> make_charts(const std::vector<RunData>& runs);

// [{id, title, unit, series: [{run, kind, epoch: [], step: [], value: []}]}]
nlohmann::json to_json(const std::vector<Chart>& charts);
// Against epochs. Colours are the page's classes: r0, r1, ... of runs, and train, val, ema.
std::string chart_svg(const Chart& chart);

}  // namespace riffle
