// A small SVG writer for line charts.
#include "train/curves.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "train/text.h"

namespace riffle {
namespace {

constexpr double kPanelWidth = 460, kPanelHeight = 320;
constexpr double kLeft = 58, kRight = 16, kTop = 64, kBottom = 48;  // margins of a panel
constexpr double kPlotWidth = kPanelWidth - kLeft - kRight, kPlotHeight = kPanelHeight - kTop - kBottom;
constexpr int kTargetTicks = 5;
constexpr int kCoordinateDecimals = 1;

// Plain colours, not CSS variables, which few programs other than browsers understand.
const char* const kStyle = R"(<style>
  text { fill: #24292f; font: 12px sans-serif; }
  .title { font-size: 14px; font-weight: bold; }
  .paper { fill: #ffffff; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .axis { stroke: #24292f; stroke-width: 1; }
  .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
  .train { stroke: #6e7781; } .val { stroke: #0969da; } .ema { stroke: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    text { fill: #c9d1d9; } .paper { fill: #0d1117; } .grid { stroke: #30363d; } .axis { stroke: #c9d1d9; }
    .train { stroke: #8b949e; } .val { stroke: #58a6ff; } .ema { stroke: #f0883e; }
  }
</style>
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string coordinate(double value) {
  return format_fixed(value, kCoordinateDecimals);
}

// One axis: a range widened to round numbers, with its ticks.
struct Axis {
  double low = 0, high = 1, tick = 0.2;

  static Axis covering(double low, double high) {
    if (high - low < 1e-12) {
      high += 0.5 * std::max(1e-6, std::abs(high));
      low -= 0.5 * std::max(1e-6, std::abs(low));
    }
    const double rough = (high - low) / kTargetTicks;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    const double mantissa = rough / power;
    Axis axis;
    axis.tick = power * (mantissa <= 1 ? 1 : mantissa <= 2 ? 2 : mantissa <= 5 ? 5 : 10);
    axis.low = std::floor(low / axis.tick) * axis.tick;
    axis.high = std::ceil(high / axis.tick) * axis.tick;
    return axis;
  }
  double fraction(double value) const { return (value - low) / (high - low); }
  int ticks() const { return static_cast<int>(std::lround((high - low) / tick)); }
  // Rounded, so that 3 * 0.1 prints as 0.3.
  std::string label(int index) const { return format_significant(low + tick * index, 6); }
};

bool finite(const Curve::Point& point) {
  return std::isfinite(point.x) && std::isfinite(point.y);
}

struct Range {
  double low = INFINITY, high = -INFINITY;
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  Axis axis() const { return low <= high ? Axis::covering(low, high) : Axis{}; }
};

class PanelWriter {
 public:
  PanelWriter(std::ostream& out, double left, const Panel& panel) : out_(out), left_(left), panel_(panel) {
    Range x, y;
    x.include(0);
    for (const Curve& curve : panel.curves) {
      for (const Curve::Point& point : curve.points) {
        if (!finite(point)) continue;
        x.include(point.x);
        y.include(point.y);
      }
    }
    x_ = x.high > 0 ? x.axis() : Axis{};
    y_ = y.axis();
  }

  void write(const std::string& x_label) {
    axes();
    text(left_ + kLeft, kTop - 30, "title", "start", panel_.title);
    text(left_ + kLeft + kPlotWidth / 2, kPanelHeight - 10, "label", "middle", x_label);
    legend();
    for (const Curve& curve : panel_.curves) polyline(curve);
  }

 private:
  double px(double x) const { return left_ + kLeft + kPlotWidth * x_.fraction(x); }
  double py(double y) const { return kTop + kPlotHeight * (1 - y_.fraction(y)); }

  void line(double x1, double y1, double x2, double y2, const std::string& css_class) {
    out_ << "<line class=\"" << css_class << "\" x1=\"" << coordinate(x1) << "\" y1=\"" << coordinate(y1) << "\" x2=\""
         << coordinate(x2) << "\" y2=\"" << coordinate(y2) << "\"/>\n";
  }

  void text(double x, double y, const std::string& css_class, const std::string& anchor, const std::string& content) {
    out_ << "<text class=\"" << css_class << "\" x=\"" << coordinate(x) << "\" y=\"" << coordinate(y)
         << "\" text-anchor=\"" << anchor << "\">" << escaped(content) << "</text>\n";
  }

  void axes() {
    const double right = left_ + kLeft + kPlotWidth, bottom = kTop + kPlotHeight;
    for (int i = 0; i <= y_.ticks(); ++i) {
      const double y = py(y_.low + y_.tick * i);
      line(left_ + kLeft, y, right, y, "grid");
      text(left_ + kLeft - 6, y + 4, "label", "end", y_.label(i));
    }
    for (int i = 0; i <= x_.ticks(); ++i) {
      const double x = px(x_.low + x_.tick * i);
      line(x, bottom, x, bottom + 4, "axis");
      text(x, bottom + 17, "label", "middle", x_.label(i));
    }
    line(left_ + kLeft, bottom, right, bottom, "axis");
    line(left_ + kLeft, kTop, left_ + kLeft, bottom, "axis");
  }

  void legend() {
    double x = left_ + kLeft;
    for (const Curve& curve : panel_.curves) {
      line(x, kTop - 15, x + 18, kTop - 15, "curve " + curve.css_class);
      text(x + 23, kTop - 11, "label", "start", curve.name);
      x += 23 + 7.0 * static_cast<double>(curve.name.size()) + 14;
    }
  }

  void polyline(const Curve& curve) {
    out_ << "<polyline class=\"curve " << curve.css_class << "\" points=\"";
    for (const Curve::Point& point : curve.points) {
      if (finite(point)) out_ << coordinate(px(point.x)) << ',' << coordinate(py(point.y)) << ' ';
    }
    out_ << "\"/>\n";
  }

  std::ostream& out_;
  double left_;
  const Panel& panel_;
  Axis x_, y_;
};

}  // namespace

std::string curves_svg(const std::string& title, const std::string& x_label, const std::vector<Panel>& panels) {
  const double width = kPanelWidth * static_cast<double>(panels.size());
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width << ' ' << kPanelHeight << "\" width=\""
      << width << "\" height=\"" << kPanelHeight << "\">\n<title>" << escaped(title) << "</title>\n"
      << kStyle << "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n"
      << "<text x=\"" << kLeft << "\" y=\"20\">" << escaped(title) << "</text>\n";
  for (size_t i = 0; i < panels.size(); ++i) {
    PanelWriter(out, kPanelWidth * static_cast<double>(i), panels[i]).write(x_label);
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace riffle
