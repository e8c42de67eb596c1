// riffle report: the page is well-formed, needs no network, shows what the folders hold and obeys none of it.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>

#include "riffle_process.h"
#include "tiny_data.h"
#include "train/report/charts.h"
#include "train/report/html.h"
#include "train/report/page.h"
#include "train/report/run_data.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

const std::string kHostile = "<b data-hostile=1>&\"x'";  // the name of a class; a folder's name, so without '/'

std::string train_line(int64_t step, double loss) {
  return nlohmann::json{{"type", "train"},     {"step", step},     {"epoch", static_cast<double>(step) / 10},
                        {"loss", loss},        {"top1", 0.5},      {"lr", 0.1},
                        {"images_per_s", 100}, {"data_wait_ms", 1}}
             .dump() +
         "\n";
}

std::string val_line(int64_t step, double top1) {
  return nlohmann::json{{"type", "val"}, {"step", step},     {"epoch", static_cast<double>(step) / 10},
                        {"loss", 0.75},  {"top1", top1},     {"top5", 1},
                        {"ema_loss", 1}, {"ema_top1", 0.25}, {"ema_top5", 1}}
             .dump() +
         "\n";
}

// Writes DIR/metrics.jsonl and, unless it is empty, DIR/config.resolved.yaml.
void write_run(const std::string& folder, const std::string& metrics, const std::string& config) {
  fs::create_directories(folder);
  std::ofstream(folder + "/metrics.jsonl") << metrics;
  if (!config.empty()) std::ofstream(folder + "/config.resolved.yaml") << config;
}

// Checks nesting and quoting: every element is closed in order, attributes are quoted, no stray '<' or '&'. The contents
// of <script> and <style> are text up to their end tags.
class PageChecker {
 public:
  explicit PageChecker(const std::string& page) : page_(page) {}

  // What is wrong first, or "".
  std::string mistake() {
    if (page_.rfind(kDoctype, 0) != 0) return "no doctype";
    at_ = kDoctype.size();
    while (at_ < page_.size()) {
      const std::string found = page_[at_] == '<' ? tag() : text();
      if (!found.empty()) return found;
    }
    return open_.empty() ? "" : "<" + open_.back() + "> is not closed";
  }

 private:
  inline static const std::string kDoctype = "<!DOCTYPE html>\n";

  std::string text() {
    const size_t end = std::min(page_.find('<', at_), page_.size());
    const std::string found = stray(page_.substr(at_, end - at_));
    at_ = end;
    return found;
  }

  static std::string stray(const std::string& text) {
    static const std::regex reference("^&(lt|gt|amp|quot|#39);");
    for (size_t at = text.find('&'); at != std::string::npos; at = text.find('&', at + 1)) {
      if (!std::regex_search(text.substr(at, 8), reference)) return "a stray & in " + text.substr(0, 200);
    }
    return text.find_first_of("\x01\x02\x07\x1b") == std::string::npos ? "" : "a control character";
  }

  std::string tag() {
    static const std::regex pattern("</?([a-zA-Z][a-zA-Z0-9]*)((?:\\s+[a-zA-Z][a-zA-Z0-9-]*=\"[^\"<]*\")*)\\s*(/?)>");
    static const std::regex value("[a-zA-Z][a-zA-Z0-9-]*=\"([^\"]*)\"");
    const size_t end = page_.find('>', at_);
    if (end == std::string::npos) return "a tag without end";
    const std::string source = without_data(page_.substr(at_, end + 1 - at_));
    std::smatch match;
    if (!std::regex_match(source, match, pattern)) return "not a tag: " + source.substr(0, 200);
    const std::string name = match[1], attributes = match[2];
    for (auto one = std::sregex_iterator(attributes.begin(), attributes.end(), value); one != std::sregex_iterator();
         ++one) {
      const std::string found = stray((*one)[1]);
      if (!found.empty()) return found;
    }
    at_ = end + 1;
    if (source[1] == '/') return close(name);
    if (match[3].length() > 0) return "";
    open_.push_back(name);
    if (name != "script" && name != "style") return "";
    at_ = page_.find("</" + name + ">", at_);
    return at_ == std::string::npos ? "<" + name + "> is not closed" : "";
  }

  std::string close(const std::string& name) {
    if (open_.empty() || open_.back() != name) {
      return "</" + name + "> closes " + (open_.empty() ? "nothing" : "<" + open_.back() + ">");
    }
    open_.pop_back();
    return "";
  }

  // A data URL would be too long for std::regex, which recurses.
  static std::string without_data(const std::string& source) {
    const size_t data = source.find("base64,");
    const size_t quote = data == std::string::npos ? data : source.find('"', data);
    return quote == std::string::npos ? source : source.substr(0, data) + source.substr(quote);
  }

  const std::string& page_;
  size_t at_ = 0;
  std::vector<std::string> open_;
};

// Well-formed, and nothing that a browser would load from elsewhere.
void expect_sound(const std::string& page) {
  EXPECT_EQ(PageChecker(page).mistake(), "");
  std::string without_namespace = page;
  const std::string svg = "http://www.w3.org/2000/svg";  // a name in the script, which nobody loads
  for (size_t at; (at = without_namespace.find(svg)) != std::string::npos;) without_namespace.erase(at, svg.size());
  for (const char* reference : {"http://", "https://", "src=\"/", "src=\"//", "<link", "@import", "url("}) {
    EXPECT_EQ(without_namespace.find(reference), std::string::npos) << reference;
  }
}

TEST(PageChecker, FindsMistakes) {
  for (const char* wrong : {"<p>a<b>c</p></b>", "<p a=b>x</p>", "<p>a & b</p>", "<p>", "</p>", "<img src=\"a<b\"/>"}) {
    const std::string page = std::string("<!DOCTYPE html>\n") + wrong;
    EXPECT_NE(PageChecker(page).mistake(), "") << wrong;
  }
  const std::string sound = "<!DOCTYPE html>\n<p a=\"b\">x &amp; <img src=\"c\"/></p>";
  EXPECT_EQ(PageChecker(sound).mistake(), "");
}

TEST(Html, Escapes) {
  EXPECT_EQ(html_escaped("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  EXPECT_EQ(html_escaped("caf\xC3\xA9 \xF0\x9F\x90\xB1"), "caf\xC3\xA9 \xF0\x9F\x90\xB1");
  EXPECT_EQ(html_escaped("\x1b[31m"), "\xEF\xBF\xBD[31m");
  // A lone continuation, an overlong '/', a surrogate, a sequence cut short.
  for (const char* broken : {"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xE2\x82"}) {
    EXPECT_EQ(html_escaped(broken).substr(0, 3), "\xEF\xBF\xBD");
  }
  EXPECT_EQ(script_escaped("\"</script>\""), "\"\\u003c/script>\"");
}

TEST(Html, DataUrls) {
  EXPECT_EQ(image_data_url({0xFF, 0xD8, 0xFF, 0xE0}, "a.jpg"), "data:image/jpeg;base64,/9j/4A==");
  EXPECT_EQ(image_data_url({0xFF, 0xD8, 0xFF, 0xE0, 0}, "a.jpg"), "data:image/jpeg;base64,/9j/4AA=");
  EXPECT_EQ(image_data_url({0xFF, 0xD8, 0xFF, 0xE0, 0, 16}, "a.jpg"), "data:image/jpeg;base64,/9j/4AAQ");
  EXPECT_THROW(image_data_url({'G', 'I', 'F'}, "a.gif"), Error);
}

TEST(RunData, BrokenLinesAreSkippedWithANote) {
  const TemporaryFolder folder;
  write_run(folder.path() + "/run", train_line(1, 2) + "{\"type\":\"tr\n[]\n" + train_line(2, 1) + "{\"type", "");
  const RunData run = read_run(folder.path() + "/run");
  EXPECT_EQ(run.train.size(), 2u);
  ASSERT_EQ(run.notes.size(), 1u);
  expect_contains(run.notes[0], {"metrics.jsonl: 3 lines", "line 2"});
  expect_sound(report_page({run}));
  expect_contains(report_page({run}), {"3 lines are not a whole record"});
}

TEST(RunData, AResumedRunReplacesWhatItRepeats) {
  const TemporaryFolder folder;
  write_run(folder.path() + "/run", train_line(1, 9) + train_line(2, 8) + train_line(3, 7) + train_line(2, 5), "");
  const RunData run = read_run(folder.path() + "/run");
  ASSERT_EQ(run.train.size(), 2u);
  EXPECT_EQ(metric(run.train[1], "loss"), 5);
}

TEST(Charts, NumbersThatAreNotThere) {
  const TemporaryFolder folder;
  write_run(folder.path() + "/run", "{\"type\":\"train\",\"step\":1,\"epoch\":0.1,\"loss\":null}\n" + train_line(2, 1),
            "");
  const std::vector<Chart> charts = make_charts({read_run(folder.path() + "/run")});
  ASSERT_FALSE(charts.empty());
  EXPECT_EQ(charts[0].id, "loss");
  EXPECT_EQ(charts[0].series[0].points.size(), 1u);
  for (const Chart& chart : charts) EXPECT_NE(chart.id, "grad_norm");
}

// A long run is thinned out, but where it is now can be seen.
TEST(Charts, TheLastPointOfALongRunIsThere) {
  const TemporaryFolder folder;
  std::string lines;
  for (int64_t step = 1; step <= 4004; ++step) lines += train_line(step, 1);
  write_run(folder.path() + "/run", lines, "");
  const std::vector<Chart> charts = make_charts({read_run(folder.path() + "/run")});
  ASSERT_FALSE(charts.empty());
  const std::vector<ChartSeries::Point>& points = charts[0].series[0].points;
  EXPECT_LT(points.size(), 2100u);
  EXPECT_EQ(points.front().step, 1);
  EXPECT_EQ(points.back().step, 4004);
}

TEST(ReportPage, SeveralRuns) {
  const TemporaryFolder folder;
  write_run(folder.path() + "/first", train_line(1, 2) + val_line(1, 0.5),
            "model: {width: 0.5x}\nschedule: {lr: 0.1}\n");
  write_run(folder.path() + "/second", train_line(1, 2) + val_line(1, 0.125),
            "model: {width: 0.5x}\nschedule: {lr: 0.2}\n");
  std::ofstream(folder.path() + "/second/environment.json") << R"({"cpu":{"model":"Some <CPU>"},"command":["riffle"]})";
  const std::string page = report_page({read_run(folder.path() + "/first"), read_run(folder.path() + "/second")});
  expect_sound(page);
  expect_contains(page, {"first", "second", "50.00%", "25.00%", "What differs", "<code>schedule.lr</code>",
                         "Some &lt;CPU&gt;", "cpu.model", ">EMA</td>", "<polyline", "first, training"});
  EXPECT_EQ(page.find("<code>model.width</code>"), std::string::npos) << "it does not differ";
}

// Where the last phase of a run gave the best network, it counts as that, and what it changed is shown.
TEST(ReportPage, ARecalibratedRun) {
  const TemporaryFolder folder;
  const std::string recalibrated = nlohmann::json{{"type", "recalibrated"},
                                                  {"step", 2},
                                                  {"epoch", 0.2},
                                                  {"loss", 0.625},
                                                  {"top1", 0.75},
                                                  {"top5", 0.875},
                                                  {"ema_loss", 0.5},
                                                  {"ema_top1", 0.8125},
                                                  {"ema_top5", 1},
                                                  {"best_top1", 0.8},
                                                  {"recalibration_images", 64}}
                                       .dump() +
                                   "\n";
  write_run(folder.path() + "/run", train_line(2, 2) + val_line(1, 0.5) + val_line(2, 0.4375) + recalibrated, "");
  write_run(folder.path() + "/plain", train_line(2, 2) + val_line(2, 0.125), "");
  const RunData run = read_run(folder.path() + "/run"), plain = read_run(folder.path() + "/plain");
  EXPECT_EQ(run.recalibrated.size(), 1u);
  EXPECT_EQ(run.val.size(), 2u);
  const std::string page = report_page({run, plain});
  expect_sound(page);
  const std::string raw_row =
      "<td>raw</td><td class=\"n\">43.75%</td><td class=\"n\">75.00%</td>"
      "<td class=\"n\">25.00%</td><td class=\"n\">87.50%</td><td class=\"n\">0.625</td>";
  expect_contains(page, {">81.25%</td>", ">EMA, recalibrated</td>", "id=\"recalibration\"", raw_row,
                         "<td>EMA</td><td class=\"n\">25.00%</td><td class=\"n\">81.25%</td>"});
  EXPECT_EQ(report_page({plain}).find("id=\"recalibration\""), std::string::npos);
}

TEST(ReportPage, ARunThatHasJustBegun) {
  const TemporaryFolder folder;
  write_run(folder.path() + "/run", "", "");
  const std::string page = report_page({read_run(folder.path() + "/run")});
  expect_sound(page);
  expect_contains(page, {"has not logged a step yet", "no config.resolved.yaml"});
  write_run(folder.path() + "/one", train_line(1, 2), "");
  expect_sound(report_page({read_run(folder.path() + "/one")}));
}

TEST(ReportCommand, Mistakes) {
  const TemporaryFolder folder;
  const std::string out = folder.path() + "/out.html", run = folder.path() + "/run";
  expect_failure(run_riffle({"report", run, "--out", out}), 1, {run, "no such folder"});
  fs::create_directories(run);
  expect_failure(run_riffle({"report", run, "--out", out}), 1, {run, "no metrics.jsonl"});
  EXPECT_FALSE(fs::exists(out));
  write_run(run, train_line(1, 2), "");
  expect_failure(run_riffle({"report", run}), 2, {"--out"});
  expect_failure(run_riffle({"report", "--out", out}), 2, {"RUN_DIR"});
  expect_failure(run_riffle({"report", run, "--out", folder.path() + "/none/out.html"}), 1, {"none"});
  expect_failure(run_riffle({"report", run, "--out", out, "--evaluation", run}), 1, {"evaluation.json"});
  expect_failure(run_riffle({"report", run, run, "--out", out, "--evaluation", run}), 2, {"--evaluation"});
  fs::create_directories(run + "/evaluation");
  for (const char* content : {"{", "{}", "[]", R"({"format":"riffle-evaluation-1"})", R"({"format":"other"})"}) {
    std::ofstream(run + "/evaluation/evaluation.json") << content;
    expect_failure(run_riffle({"report", run, "--out", out}), 1, {"evaluation.json", "riffle eval --report"});
  }
  expect_success(run_riffle({"report", "--help"}));
}

// A real run, with a class that is called like an element, and its evaluation; beside it a run that is no more than a log.
void make_runs(const std::string& folder) {
  write_image_folder(folder + "/data/train", 64, 32, 1);
  write_image_folder(folder + "/data/val", 22, 32, 2);
  for (const char* part : {"/data/train/", "/data/val/"}) {
    fs::rename(join(folder, part, "south-west"), join(folder, part, kHostile));
  }
  std::ofstream(folder + "/tiny.yaml") << tiny_config("folder:" + folder + "/data", 3);
  expect_success(run_riffle({"train", folder + "/tiny.yaml", "-o", folder + "/run-a", "train.log_every_steps=1"}));
  expect_success(
      run_riffle({"eval", folder + "/run-a/checkpoints/last.safetensors", "--report", folder + "/run-a/evaluation"}));
  write_png(folder + "/run-a/samples.png", quadrant_image(0, 64, 3, 1));
  std::string metrics;
  for (int64_t step = 1; step <= 16; ++step) metrics += train_line(step, 2.0 / static_cast<double>(step));
  write_run(folder + "/run-b", metrics + val_line(16, 0.375), "schedule: {lr: 0.4}\n");
}

TEST(ReportCommand, ARealRun) {
  const TemporaryFolder folder;
  make_runs(folder.path());
  const std::string out = folder.path() + "/report.html";
  expect_success(run_riffle({"report", folder.path() + "/run-a", folder.path() + "/run-b", "--out", out}));
  const std::string page = text_of(out);
  expect_sound(page);
  expect_contains(page, {html_escaped(kHostile), "Confusion matrix", "Most confused", "Reliability", "Worst mistakes",
                         "south-east", "data:image/png;base64,", "augmented", "Evaluation of run-a"});
  EXPECT_EQ(page.find(kHostile), std::string::npos);
}

// For check_report_chromium.sh.
TEST(ReportExchange, WritesRuns) {
  const char* folder = std::getenv("RIFFLE_REPORT_EXCHANGE");
  if (folder == nullptr) GTEST_SKIP() << "check_report_chromium.sh runs this";
  make_runs(folder);
}

}  // namespace
}  // namespace riffle
