// The report's page: header, results, curves, configuration, environment, pictures.
#include "train/report/page.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "train/checkpoint/file_io.h"
#include "train/report/assets.h"
#include "train/report/charts.h"
#include "train/report/html.h"
#include "train/text.h"
#include "train/version.h"

namespace riffle {
namespace {

constexpr size_t kColors = 6;  // of page.css

std::string swatch(size_t run) {
  return join("<span class=\"swatch r", run % kColors, "\"></span>");
}

std::string percent_cell(double fraction) {
  return "<td class=\"n\">" + (std::isfinite(fraction) ? format_percent(fraction) : "–") + "</td>";
}

struct BestEvaluation {
  double top1 = NAN, top5 = NAN, loss = NAN, epoch = NAN;
  std::string weights = "–";
};

// As the run keeps them: a recalibrated network is the best where it is better than all before it.
BestEvaluation best_evaluation(const RunData& run) {
  BestEvaluation best;
  for (const bool recalibrated : {false, true}) {
    for (const nlohmann::json& line : recalibrated ? run.recalibrated : run.val) {
      for (const std::string prefix : {"", "ema_"}) {
        const double top1 = metric(line, prefix + "top1");
        if (!std::isfinite(top1) || top1 <= best.top1) continue;
        best = {top1, metric(line, prefix + "top5"), metric(line, prefix + "loss"), metric(line, "epoch"),
                (prefix.empty() ? "raw" : "EMA") + std::string(recalibrated ? ", recalibrated" : "")};
      }
    }
  }
  return best;
}

double median_throughput(const RunData& run) {
  std::vector<double> values;
  for (const nlohmann::json& line : run.train) {
    const double value = metric(line, "images_per_s");
    if (std::isfinite(value)) values.push_back(value);
  }
  if (values.empty()) return NAN;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

std::string significant_or_dash(double value, int digits) {
  return std::isfinite(value) ? format_significant(value, digits) : "–";
}

std::string results_table(const std::vector<RunData>& runs) {
  std::ostringstream out;
  out << "<section id=\"results\"><h2>Results</h2><div class=\"scroll\"><table><thead><tr><th>Run</th>"
         "<th class=\"n\">Best top-1 accuracy</th><th class=\"n\">error</th><th class=\"n\">top-5 accuracy</th>"
         "<th class=\"n\">loss</th><th class=\"n\">at epoch</th><th>weights</th><th class=\"n\">last training loss</th>"
         "<th class=\"n\">images/s (median)</th></tr></thead><tbody>\n";
  for (size_t i = 0; i < runs.size(); ++i) {
    const BestEvaluation best = best_evaluation(runs[i]);
    const double last = runs[i].train.empty() ? NAN : metric(runs[i].train.back(), "loss");
    const double throughput = median_throughput(runs[i]);
    out << "<tr><td>" << swatch(i) << html_escaped(runs[i].name) << "</td>" << percent_cell(best.top1)
        << percent_cell(1 - best.top1) << percent_cell(best.top5) << "<td class=\"n\">"
        << significant_or_dash(best.loss, 4) << "</td><td class=\"n\">" << significant_or_dash(best.epoch, 6)
        << "</td><td>" << best.weights << "</td><td class=\"n\">" << significant_or_dash(last, 4)
        << "</td><td class=\"n\">" << (std::isfinite(throughput) ? format_count(std::llround(throughput)) : "–")
        << "</td></tr>\n";
  }
  out << "</tbody></table></div></section>\n";
  return out.str();
}

// The evaluation that a run made at `step`, or an empty object.
const nlohmann::json& evaluation_at(const RunData& run, double step) {
  static const nlohmann::json none = nlohmann::json::object();
  const auto found = std::find_if(run.val.begin(), run.val.end(),
                                  [step](const nlohmann::json& line) { return metric(line, "step") == step; });
  return found == run.val.end() ? none : *found;
}

// "" where no run has estimated batch norm's statistics anew.
std::string recalibration_table(const std::vector<RunData>& runs) {
  std::ostringstream rows;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].recalibrated.empty()) continue;
    const nlohmann::json& line = runs[i].recalibrated.back();
    const nlohmann::json& before = evaluation_at(runs[i], metric(line, "step"));
    for (const std::string prefix : {"", "ema_"}) {
      const double top1 = metric(line, prefix + "top1");
      if (!std::isfinite(top1)) continue;
      rows << "<tr><td>" << swatch(i) << html_escaped(runs[i].name) << "</td><td>" << (prefix.empty() ? "raw" : "EMA")
           << "</td>" << percent_cell(metric(before, prefix + "top1")) << percent_cell(top1) << percent_cell(1 - top1)
           << percent_cell(metric(line, prefix + "top5")) << "<td class=\"n\">"
           << significant_or_dash(metric(line, prefix + "loss"), 4) << "</td></tr>\n";
    }
  }
  if (rows.str().empty()) return "";
  return "<section id=\"recalibration\"><h2>Batch norm’s statistics estimated anew</h2><div class=\"scroll\">"
         "<table><thead><tr><th>Run</th><th>weights</th><th class=\"n\">top-1 accuracy before</th>"
         "<th class=\"n\">after</th><th class=\"n\">error</th><th class=\"n\">top-5 accuracy</th>"
         "<th class=\"n\">loss</th></tr></thead><tbody>\n" +
         rows.str() + "</tbody></table></div></section>\n";
}

const char* describe_kind(const std::string& kind) {
  return kind == "train" ? "training" : kind == "val" ? "validation" : "validation, EMA weights";
}

// The lines of all charts. The script makes the entries switches.
std::string legend(const std::vector<RunData>& runs, const std::vector<Chart>& charts) {
  std::set<std::pair<size_t, std::string>> shown;
  for (const Chart& chart : charts)
    for (const ChartSeries& series : chart.series) shown.insert({series.run, series.kind});
  std::ostringstream out;
  out << "<div class=\"legend\">\n";
  for (size_t run = 0; run < runs.size(); ++run) {
    for (const char* kind : {"train", "val", "ema"}) {
      if (shown.count({run, kind}) == 0) continue;
      out << "<span class=\"key\" data-run=\"" << run << "\" data-kind=\"" << kind
          << "\"><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><line class=\"line r" << run % kColors << ' ' << kind
          << "\" x1=\"1\" x2=\"25\" y1=\"5\" y2=\"5\"/></svg>"
          << (runs.size() > 1 ? html_escaped(runs[run].name) + ", " : "") << describe_kind(kind) << "</span>\n";
    }
  }
  out << "</div>\n";
  return out.str();
}

std::string curves_section(const std::vector<RunData>& runs) {
  const std::vector<Chart> charts = make_charts(runs);
  std::ostringstream out;
  out << "<section id=\"curves\"" << (runs.size() == 1 ? " class=\"solo\"" : "") << "><h2>Curves</h2>\n";
  if (charts.empty()) {
    out << "<p>The run has not logged a step yet.</p></section>\n";
    return out.str();
  }
  out << "<div class=\"controls\" hidden=\"hidden\"></div>\n" << legend(runs, charts) << "<div class=\"charts\">\n";
  for (const Chart& chart : charts) {
    out << "<figure class=\"chart\" data-chart=\"" << chart.id << "\"><figcaption>" << html_escaped(chart.title);
    if (!chart.unit.empty()) out << " <small>" << html_escaped(chart.unit) << "</small>";
    out << "</figcaption>\n<div class=\"plot\">" << chart_svg(chart) << "</div></figure>\n";
  }
  out << "</div>\n<script type=\"application/json\" id=\"chart-data\">" << script_escaped(to_json(charts).dump())
      << "</script></section>\n";
  return out.str();
}

// A row for each key, a column for each run; `only_differences` leaves out keys on which all agree.
std::string settings_table(const std::vector<RunData>& runs, Settings RunData::*member, bool only_differences) {
  std::vector<std::string> keys;
  std::vector<std::map<std::string, std::string>> values(runs.size());
  for (size_t run = 0; run < runs.size(); ++run) {
    for (const auto& [key, value] : runs[run].*member) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
      values[run][key] = value;
    }
  }
  std::string rows;
  for (const std::string& key : keys) {
    bool differ = false;
    std::string cells;
    for (const auto& of_run : values) {
      const auto found = of_run.find(key);
      const auto first = values.front().find(key);
      differ = differ || (found == of_run.end()) != (first == values.front().end()) ||
               (found != of_run.end() && found->second != first->second);
      cells += "<td><code>" + (found == of_run.end() ? "–" : html_escaped(found->second)) + "</code></td>";
    }
    if (only_differences && !differ) continue;
    rows += "<tr><th scope=\"row\"><code>" + html_escaped(key) + "</code></th>" + cells + "</tr>\n";
  }
  if (rows.empty()) return "";
  std::string head = "<th></th>";
  for (size_t run = 0; run < runs.size(); ++run) head += "<th>" + swatch(run) + html_escaped(runs[run].name) + "</th>";
  return "<div class=\"scroll\"><table class=\"settings\"><thead><tr>" + head + "</tr></thead><tbody>\n" + rows +
         "</tbody></table></div>\n";
}

std::string configuration_section(const std::vector<RunData>& runs) {
  std::ostringstream out;
  out << "<section id=\"configuration\"><h2>Configuration</h2>\n";
  if (runs.size() > 1) {
    const std::string differences = settings_table(runs, &RunData::settings, /*only_differences=*/true);
    out << "<h3>What differs</h3>\n"
        << (differences.empty() ? "<p>The runs have the same configuration.</p>\n" : differences);
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].config_yaml.empty()) {
      out << "<p>" << html_escaped(runs[i].name) << " has no config.resolved.yaml.</p>\n";
      continue;
    }
    out << "<details><summary>" << swatch(i) << html_escaped(runs[i].name) << ": every key</summary><pre>"
        << html_escaped(runs[i].config_yaml) << "</pre></details>\n";
  }
  const std::string environment = settings_table(runs, &RunData::environment, /*only_differences=*/false);
  if (!environment.empty()) out << "<h3>Environment</h3>\n" << environment;
  out << "</section>\n";
  return out.str();
}

std::string picture(const std::string& path, const std::string& caption, const std::string& css_class) {
  if (path.empty()) return "";
  return "<figure class=\"" + css_class + "\"><figcaption>" + html_escaped(caption) + "</figcaption><img src=\"" +
         image_data_url(file_contents(path), path) + "\" alt=\"" + html_escaped(caption) + "\"/></figure>\n";
}

std::string pictures_section(const std::vector<RunData>& runs) {
  std::string pictures;
  for (const RunData& run : runs) {
    const std::string of_run = runs.size() > 1 ? run.name + ": " : "";
    pictures += picture(run.samples, of_run + "the first training batch, augmented", "sheet");
    pictures += picture(run.filters, of_run + "filters of the first convolution", "sheet");
  }
  return pictures.empty() ? "" : "<section id=\"pictures\"><h2>Pictures</h2>\n" + pictures + "</section>\n";
}

std::string notes(const std::vector<RunData>& runs) {
  std::string items;
  for (const RunData& run : runs)
    for (const std::string& note : run.notes) items += "<li>" + html_escaped(note) + "</li>\n";
  return items.empty() ? "" : "<ul class=\"notes\">\n" + items + "</ul>\n";
}

std::string title_of(const std::vector<RunData>& runs) {
  std::string title;
  for (const RunData& run : runs) title += (title.empty() ? "" : ", ") + run.name;
  return title;
}

}  // namespace

std::string report_page(const std::vector<RunData>& runs) {
  const std::string title = html_escaped(title_of(runs));
  std::ostringstream out;
  out << "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
         "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>"
      << title << " – Riffle</title>\n<style>\n"
      << kPageStyle << "</style>\n</head>\n<body>\n<header><p class=\"kind\">Training report</p><h1>" << title
      << "</h1></header>\n<main>\n"
      << notes(runs) << results_table(runs) << recalibration_table(runs) << curves_section(runs);
  for (const RunData& run : runs) {
    if (run.evaluation.empty()) continue;
    out << evaluation_sections(run.evaluation, runs.size() > 1 ? "Evaluation of " + run.name : "Evaluation");
  }
  out << pictures_section(runs) << configuration_section(runs) << "</main>\n<footer>Made by riffle " << kVersion
      << ".</footer>\n<script>\n"
      << kPageScript << "</script>\n</body>\n</html>\n";
  return out.str();
}

}  // namespace riffle
