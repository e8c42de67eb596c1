// Curves of runs.
#include "train/report/charts.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "train/report/html.h"
#include "train/text.h"

namespace riffle {
namespace {

// More points than pixels say nothing more; every so many are left out, never the last.
constexpr size_t kMostPoints = 4000, kMostSvgPoints = 500;
constexpr double kWidth = 560, kHeight = 300, kLeft = 58, kRight = 14, kTop = 12, kBottom = 40;
constexpr int kTicks = 5;

struct ChartSource {
  const char *id, *title, *unit, *key;
  double factor;
  bool evaluated;  // also from evaluations, of raw and averaged weights
};
const ChartSource kSources[] = {{"loss", "Loss", "", "loss", 1, true},
                                {"top1", "Top-1 accuracy", "%", "top1", 100, true},
                                {"top5", "Top-5 accuracy", "%", "top5", 100, true},
                                {"lr", "Learning rate", "", "lr", 1, false},
                                {"images_per_s", "Training throughput", "images/s", "images_per_s", 1, false},
                                {"data_wait_ms", "Wait for data, a step", "ms", "data_wait_ms", 1, false},
                                {"grad_norm", "Gradient norm", "", "grad_norm", 1, false}};

std::vector<ChartSeries::Point> points_of(const std::vector<nlohmann::json>& lines, const std::string& key,
                                          double factor) {
  std::vector<ChartSeries::Point> points;
  const size_t stride = (lines.size() + kMostPoints - 1) / kMostPoints;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i % stride != 0 && i + 1 != lines.size()) continue;
    const double value = factor * metric(lines[i], key);
    if (std::isfinite(value)) points.push_back({metric(lines[i], "epoch"), metric(lines[i], "step"), value});
  }
  return points;
}

// An axis from round number to round number.
struct Axis {
  double low, high, tick;

  Axis(double from, double to) {
    if (to - from < 1e-12 * std::max(1.0, std::abs(to))) {
      const double half = 0.5 * std::max(1e-6, std::abs(to));
      from -= half;
      to += half;
    }
    const double rough = (to - from) / kTicks, power = std::pow(10.0, std::floor(std::log10(rough)));
    const double mantissa = rough / power;
    tick = power * (mantissa <= 1 ? 1 : mantissa <= 2 ? 2 : mantissa <= 5 ? 5 : 10);
    low = std::floor(from / tick) * tick;
    high = std::ceil(to / tick) * tick;
  }
  int ticks() const { return static_cast<int>(std::lround((high - low) / tick)); }
  double value(int index) const { return low + tick * index; }
  double fraction(double value) const { return (value - low) / (high - low); }
};

std::string at(double coordinate) {
  return format_fixed(coordinate, 1);
}

double x_of(const Axis& axis, double epoch) {
  return kLeft + (kWidth - kLeft - kRight) * axis.fraction(epoch);
}
double y_of(const Axis& axis, double value) {
  return kTop + (kHeight - kTop - kBottom) * (1 - axis.fraction(value));
}

void write_axes(std::ostream& out, const Axis& x, const Axis& y) {
  for (int i = 0; i <= y.ticks(); ++i) {
    const std::string height = at(y_of(y, y.value(i)));
    out << "<line class=\"grid\" x1=\"" << at(kLeft) << "\" x2=\"" << at(kWidth - kRight) << "\" y1=\"" << height
        << "\" y2=\"" << height << "\"/><text x=\"" << at(kLeft - 8) << "\" y=\"" << height
        << "\" dy=\"4\" text-anchor=\"end\">" << format_significant(y.value(i), 4) << "</text>\n";
  }
  for (int i = 0; i <= x.ticks(); ++i) {
    out << "<text x=\"" << at(x_of(x, x.value(i))) << "\" y=\"" << at(kHeight - kBottom + 18)
        << "\" text-anchor=\"middle\">" << format_significant(x.value(i), 6) << "</text>\n";
  }
  out << "<text class=\"axis\" x=\"" << at((kLeft + kWidth - kRight) / 2) << "\" y=\"" << at(kHeight - 4)
      << "\" text-anchor=\"middle\">epoch</text>\n";
}

}  // namespace

std::vector<Chart> make_charts(const std::vector<RunData>& runs) {
  std::vector<Chart> charts;
  for (const ChartSource& source : kSources) {
    Chart chart{source.id, source.title, source.unit, {}};
    const auto add = [&](size_t run, const char* kind, std::vector<ChartSeries::Point> points) {
      if (!points.empty()) chart.series.push_back({run, kind, std::move(points)});
    };
    for (size_t run = 0; run < runs.size(); ++run) {
      add(run, "train", points_of(runs[run].train, source.key, source.factor));
      if (!source.evaluated) continue;
      add(run, "val", points_of(runs[run].val, source.key, source.factor));
      add(run, "ema", points_of(runs[run].val, std::string("ema_") + source.key, source.factor));
    }
    if (!chart.series.empty()) charts.push_back(std::move(chart));
  }
  return charts;
}

nlohmann::json to_json(const std::vector<Chart>& charts) {
  nlohmann::json out = nlohmann::json::array();
  for (const Chart& chart : charts) {
    nlohmann::json series = nlohmann::json::array();
    for (const ChartSeries& one : chart.series) {
      nlohmann::json epoch = nlohmann::json::array(), step = epoch, value = epoch;
      for (const ChartSeries::Point& point : one.points) {
        epoch.push_back(point.epoch);
        step.push_back(point.step);
        value.push_back(point.value);
      }
      series.push_back({{"run", one.run}, {"kind", one.kind}, {"epoch", epoch}, {"step", step}, {"value", value}});
    }
    out.push_back({{"id", chart.id}, {"title", chart.title}, {"unit", chart.unit}, {"series", series}});
  }
  return out;
}

std::string chart_svg(const Chart& chart) {
  double x_high = 0, y_low = INFINITY, y_high = -INFINITY;
  for (const ChartSeries& series : chart.series) {
    for (const ChartSeries::Point& point : series.points) {
      x_high = std::max(x_high, point.epoch);
      y_low = std::min(y_low, point.value);
      y_high = std::max(y_high, point.value);
    }
  }
  const Axis x(0, x_high), y(y_low, y_high);
  std::ostringstream out;
  out << "<svg class=\"fixed\" viewBox=\"0 0 " << kWidth << ' ' << kHeight << "\" role=\"img\" aria-label=\""
      << html_escaped(chart.title) << "\">\n";
  write_axes(out, x, y);
  for (const ChartSeries& series : chart.series) {
    out << "<polyline class=\"line r" << series.run % 6 << ' ' << series.kind << "\" points=\"";
    const size_t stride = (series.points.size() + kMostSvgPoints - 1) / kMostSvgPoints;
    for (size_t i = 0; i < series.points.size(); ++i) {
      if (i % stride != 0 && i + 1 != series.points.size()) continue;
      out << at(x_of(x, series.points[i].epoch)) << ',' << at(y_of(y, series.points[i].value)) << ' ';
    }
    out << "\"/>\n";
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace riffle
