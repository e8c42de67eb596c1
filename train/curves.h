// The curves of a run as one self-contained SVG file: loss and top-1 accuracy against epochs. Any browser shows it, in
// its light or dark theme.
#pragma once

#include <string>
#include <vector>

namespace riffle {

struct Curve {
  std::string name;       // for the legend
  std::string css_class;  // "train", "val" or "ema": fixes the colour
  struct Point {
    double x = 0, y = 0;
  };
  std::vector<Point> points;  // points that are not finite are left out
};

struct Panel {
  std::string title;  // "loss"
  std::vector<Curve> curves;
};

// Panels side by side, sharing nothing but the x axis label.
std::string curves_svg(const std::string& title, const std::string& x_label, const std::vector<Panel>& panels);

}  // namespace riffle
