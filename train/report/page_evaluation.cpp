// The report's sections about an evaluation: classes, confusions, calibration, mistakes.
#include <cmath>
#include <sstream>

#include "core/check.h"
#include "train/checkpoint/file_io.h"
#include "train/report/html.h"
#include "train/report/page.h"
#include "train/text.h"

namespace riffle {
namespace {

using nlohmann::json;

constexpr size_t kMostTableClasses = 40;  // more of them are shown as a picture
constexpr size_t kPairsShown = 30;

// What evaluation.json holds of one class.
struct ClassRow {
  std::string name;
  int64_t images, top1, top5, predicted;
};

class EvaluationPage {
 public:
  EvaluationPage(const std::string& folder, const json& evaluation) : folder_(folder), evaluation_(evaluation) {
    if (evaluation.at("format") != "riffle-evaluation-1") {
      fail(folder, "/evaluation.json has the format ", evaluation.at("format").dump(),
           ", not \"riffle-evaluation-1\"; write it anew with riffle eval --report");
    }
    for (const json& one : evaluation.at("classes")) {
      classes_.push_back(
          {one.at("name"), one.at("images"), one.at("top1_correct"), one.at("top5_correct"), one.at("predicted")});
    }
  }

  std::string html(const std::string& heading) const {
    return "<section class=\"evaluation\"><h2>" + html_escaped(heading) + "</h2>\n" + summary() + confusion() +
           "<div class=\"columns\">\n" + pairs() + reliability() + "</div>\n" + per_class() + mistakes() +
           "</section>\n";
  }

 private:
  std::string name(int64_t index) const { return html_escaped(classes_.at(static_cast<size_t>(index)).name); }

  static std::string share(int64_t part, int64_t whole) {
    if (whole == 0) return "<td class=\"n\" data-v=\"-1\">–</td>";
    const double value = static_cast<double>(part) / static_cast<double>(whole);
    return join("<td class=\"n\" data-v=\"", format_fixed(value, 6), "\">", format_percent(value), "</td>");
  }

  std::string summary() const {
    const json& summary = evaluation_.at("summary");
    const json& calibration = evaluation_.at("calibration");
    const double top1 = summary.at("top1"), top5 = summary.at("top5"), ece = calibration.at("ece");
    const json& nll = calibration.at("nll");
    std::ostringstream out;
    const auto tile = [&out](const std::string& value, const std::string& what) {
      out << "<div class=\"tile\"><b>" << value << "</b><span>" << what << "</span></div>\n";
    };
    out << "<div class=\"tiles\">\n";
    tile(format_percent(top1), "top-1 accuracy (error " + format_percent(1 - top1) + ")");
    tile(format_percent(top5), "top-5 accuracy (error " + format_percent(1 - top5) + ")");
    tile(nll.is_number() ? format_fixed(nll, 4) : "not finite", "negative log-likelihood");
    tile(format_percent(ece), "expected calibration error");
    tile(format_count(summary.at("images")), "images");
    out << "</div>\n<p class=\"source\">" << html_escaped(summary.at("checkpoint")) << " ("
        << html_escaped(summary.at("weights")) << " weights) on " << html_escaped(summary.at("data")) << "</p>\n";
    return out.str();
  }

  std::string confusion() const {
    const std::string explanation =
        "<p>Rows are true classes, columns predicted ones. Colour is the share of the row: blue is right, orange "
        "wrong.";
    if (classes_.size() <= kMostTableClasses) return "<h3>Confusion matrix</h3>\n" + explanation + "</p>\n" + matrix();
    const std::string path = folder_ + "/confusion.png";
    return "<h3>Confusion matrix</h3>\n" + explanation + " Classes are in the order of their indices.</p>\n" +
           "<figure class=\"matrix\"><img src=\"" + image_data_url(file_contents(path), path) +
           "\" alt=\"Confusion matrix\"/></figure>\n";
  }

  std::string matrix() const {
    std::vector<int64_t> counts(classes_.size() * classes_.size());
    for (const json& cell : evaluation_.at("cells")) {
      counts.at(cell.at(0).get<size_t>() * classes_.size() + cell.at(1).get<size_t>()) = cell.at(2);
    }
    std::ostringstream out;
    out << "<div class=\"scroll\"><table class=\"confusion\"><thead><tr><th></th>";
    for (const ClassRow& one : classes_) out << "<th><span>" << html_escaped(one.name) << "</span></th>";
    out << "</tr></thead><tbody>\n";
    for (size_t row = 0; row < classes_.size(); ++row) {
      out << "<tr><th scope=\"row\">" << html_escaped(classes_[row].name) << "</th>";
      for (size_t column = 0; column < classes_.size(); ++column) {
        const int64_t count = counts[row * classes_.size() + column];
        if (count == 0) {
          out << "<td></td>";
          continue;
        }
        const double part = static_cast<double>(count) / static_cast<double>(classes_[row].images);
        out << "<td class=\"" << (row == column ? "right" : "wrong") << (part > 0.3 ? " strong" : "")
            << "\" style=\"--a:" << format_fixed(std::sqrt(part), 3) << "\" title=\""
            << html_escaped(classes_[row].name) << " → " << html_escaped(classes_[column].name) << ": " << count << " ("
            << format_percent(part) << ")\">" << count << "</td>";
      }
      out << "</tr>\n";
    }
    out << "</tbody></table></div>\n";
    return out.str();
  }

  std::string pairs() const {
    std::ostringstream out;
    out << "<div><h3>Most confused</h3>\n";
    size_t shown = 0;
    for (const json& pair : evaluation_.at("confused_pairs")) {
      if (shown == kPairsShown) break;
      if (shown++ == 0) {
        out << "<div class=\"scroll tall\"><table class=\"sortable\"><thead><tr><th>True class</th><th>taken for</th>"
               "<th class=\"n\">images</th><th class=\"n\">of the class</th></tr></thead><tbody>\n";
      }
      const int64_t label = pair.at(0), count = pair.at(2);
      out << "<tr><td>" << name(label) << "</td><td>" << name(pair.at(1)) << "</td><td class=\"n\" data-v=\"" << count
          << "\">" << format_count(count) << "</td>" << share(count, classes_.at(static_cast<size_t>(label)).images)
          << "</tr>\n";
    }
    out << (shown > 0 ? "</tbody></table></div>" : "<p>Nothing was confused.</p>") << "</div>\n";
    return out.str();
  }

  // Bars of accuracy against confidence; on the diagonal both agree. The line below shows how many images each bin has.
  std::string reliability() const {
    constexpr double kSide = 300, kLeft = 44, kTop = 8, kCounts = 40, kWidth = kSide + kLeft + 22;
    const json& calibration = evaluation_.at("calibration");
    const double images = calibration.at("images");
    std::ostringstream out;
    out << "<div><h3>Reliability</h3>\n<figure class=\"reliability\"><svg viewBox=\"0 0 " << kWidth << ' '
        << kTop + kSide + kCounts + 44 << "\" role=\"img\" aria-label=\"Accuracy against confidence\">\n";
    for (int i = 0; i <= 4; ++i) {
      const double y = kTop + kSide * (1 - i / 4.0), x = kLeft + kSide * i / 4.0;
      out << "<line class=\"grid\" x1=\"" << kLeft << "\" x2=\"" << kLeft + kSide << "\" y1=\"" << y << "\" y2=\"" << y
          << "\"/><text x=\"" << kLeft - 6 << "\" y=\"" << y << "\" dy=\"4\" text-anchor=\"end\">" << 25 * i
          << "%</text><text x=\"" << x << "\" y=\"" << kTop + kSide + kCounts + 18 << "\" text-anchor=\"middle\">"
          << 25 * i << "%</text>\n";
    }
    for (const json& bin : calibration.at("bins")) {
      const int64_t count = bin.at("images");
      if (count == 0) continue;
      const double low = bin.at("low"), high = bin.at("high"), accuracy = bin.at("accuracy"),
                   confidence = bin.at("confidence");
      const double x = kLeft + kSide * low + 1, width = kSide * (high - low) - 2;
      const double share_height = (kCounts - 8) * std::sqrt(static_cast<double>(count) / images);
      out << "<g><title>" << format_percent(low) << " to " << format_percent(high) << ": " << count
          << " images, accuracy " << format_percent(accuracy) << ", confidence " << format_percent(confidence)
          << "</title><rect class=\"bar\" x=\"" << x << "\" width=\"" << width << "\" y=\""
          << kTop + kSide * (1 - accuracy) << "\" height=\"" << kSide * accuracy
          << "\"/><line class=\"confidence\" x1=\"" << x << "\" x2=\"" << x + width << "\" y1=\""
          << kTop + kSide * (1 - confidence) << "\" y2=\"" << kTop + kSide * (1 - confidence)
          << "\"/><rect class=\"count\" x=\"" << x << "\" width=\"" << width << "\" y=\"" << kTop + kSide + 4
          << "\" height=\"" << share_height << "\"/></g>\n";
    }
    out << "<line class=\"diagonal\" x1=\"" << kLeft << "\" y1=\"" << kTop + kSide << "\" x2=\"" << kLeft + kSide
        << "\" y2=\"" << kTop << "\"/><text class=\"axis\" x=\"" << kLeft + kSide / 2 << "\" y=\""
        << kTop + kSide + kCounts + 38 << "\" text-anchor=\"middle\">confidence</text></svg>\n"
        << "<figcaption>Bars: accuracy of the images whose confidence falls into the bin; marks: their mean "
           "confidence. "
           "On the diagonal both agree. Below: how many images (square root).</figcaption></figure></div>\n";
    return out.str();
  }

  std::string per_class() const {
    std::ostringstream out;
    out << "<h3>Classes</h3>\n<div class=\"scroll tall\"><table class=\"sortable\"><thead><tr><th class=\"n\">#</th>"
           "<th>Class</th><th class=\"n\">images</th><th class=\"n\">accuracy (recall)</th><th class=\"n\">top-5</th>"
           "<th class=\"n\">precision</th><th class=\"n\">F1</th></tr></thead><tbody>\n";
    for (size_t k = 0; k < classes_.size(); ++k) {
      const ClassRow& one = classes_[k];
      out << "<tr><td class=\"n\" data-v=\"" << k << "\">" << k << "</td><td>" << html_escaped(one.name)
          << "</td><td class=\"n\" data-v=\"" << one.images << "\">" << format_count(one.images) << "</td>"
          << share(one.top1, one.images) << share(one.top5, one.images) << share(one.top1, one.predicted)
          << share(2 * one.top1, one.images + one.predicted) << "</tr>\n";
    }
    out << "</tbody></table></div>\n";
    return out.str();
  }

  std::string mistakes() const {
    std::ostringstream out;
    out << "<h3>Worst mistakes</h3>\n";
    if (evaluation_.at("mistakes").empty()) return out.str() + "<p>There are none.</p>\n";
    out << "<p>Wrong images with the largest loss, as the network saw them.</p>\n<div class=\"mistakes\">\n";
    for (const json& mistake : evaluation_.at("mistakes")) {
      const std::string file = mistake.at("file");
      if (file.rfind("mistakes/", 0) != 0 || file.find("..") != std::string::npos) {
        fail(folder_, "/evaluation.json names ", file,
             ", which is not in mistakes/; write it anew with riffle eval --report");
      }
      const std::string path = folder_ + "/" + file;
      const json& loss = mistake.at("loss");
      out << "<figure title=\"" << html_escaped(mistake.at("image")) << "\"><img src=\""
          << image_data_url(file_contents(path), path) << "\" alt=\"\"/><figcaption><b>" << name(mistake.at("class"))
          << "</b>";
      if (mistake.at("top").empty()) {
        out << "<span>nothing predicted: not finite</span>";
      } else {
        const json& first = mistake.at("top").at(0);
        out << "<span>taken for " << name(first.at(0)) << ", " << format_fixed(100 * first.at(1).get<double>(), 1)
            << "%</span>";
      }
      out << "<small>loss " << (loss.is_number() ? format_fixed(loss, 2) : "not finite")
          << "</small></figcaption></figure>\n";
    }
    out << "</div>\n";
    return out.str();
  }

  const std::string& folder_;
  const json& evaluation_;
  std::vector<ClassRow> classes_;
};

}  // namespace

std::string evaluation_sections(const std::string& folder, const std::string& heading) {
  const std::string path = folder + "/evaluation.json";
  const std::vector<uint8_t> bytes = file_contents(path);
  const json evaluation = json::parse(bytes.begin(), bytes.end(), nullptr, /*allow_exceptions=*/false);
  const char* const remedy = "; write it anew with riffle eval --report";
  if (evaluation.is_discarded()) fail(path, " is not JSON", remedy);
  try {
    return EvaluationPage(folder, evaluation).html(heading);
  } catch (const json::exception& error) {
    fail(path, " is not what riffle eval --report writes (", error.what(), ")", remedy);
  } catch (const std::out_of_range& error) {
    fail(path, " names a class that it does not have", remedy);
  }
}

}  // namespace riffle
