// Progress lines.
#include "train/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "train/terminal.h"
#include "train/text.h"

namespace riffle {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};

bool set_and_not_empty(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

Progress for_stream(std::ostream& out, int terminal) {
  const char* kind = std::getenv("TERM");
  const bool live = isatty(terminal) == 1 && kind != nullptr && std::string(kind) != "dumb";
  return Progress(out, live ? Progress::Style::kLive : Progress::Style::kPlain, live && !set_and_not_empty("NO_COLOR"),
                  terminal);
}

}  // namespace

std::string describe(const TrainProgress& p) {
  std::string text =
      join("epoch ", p.epoch, "/", p.epochs, "  step ", p.step, "/", p.steps, "  ETA ", format_duration(p.eta_s),
           "  loss ", format_fixed(p.loss, 4), "  top-1 ", format_percent(p.top1), "  top-5 ", format_percent(p.top5),
           "  lr ", format_significant(p.lr, 4), "  ", format_fixed(p.images_per_s, 0), " images/s  data wait ",
           format_fixed(100 * p.data_wait_fraction, 0), "%");
  if (p.prefetch > 0) text += join("  queue ", format_fixed(p.data_queue, 1), "/", p.prefetch);
  if (p.grad_norm > 0) text += "  grad norm " + format_significant(p.grad_norm, 3);
  if (p.loss_scale != 1) text += "  loss scale " + format_significant(p.loss_scale, 6);
  if (p.process_peak_bytes > 0) text += "  memory " + describe_memory(p);
  return text;
}

std::string describe_memory(const TrainProgress& p) {
  const std::string process = format_bytes(static_cast<double>(p.process_peak_bytes));
  if (p.device_peak_bytes == 0) return process;
  return process + ", tensors " + format_bytes(static_cast<double>(p.device_peak_bytes));
}

namespace {

// The lower its rank, the longer a part stays where there is little room.
struct Part {
  std::string text;
  int rank;
};

std::string joined(const std::vector<Part>& parts) {
  std::string text;
  for (const Part& part : parts) text += (text.empty() ? "" : " ") + part.text;
  return text;
}

// "512M", "1.2G".
std::string short_bytes(int64_t bytes) {
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1000 ? format_fixed(mebibytes, 0) + "M" : format_fixed(mebibytes / 1024, 1) + "G";
}

std::vector<Part> abbreviated(const TrainProgress& p) {
  std::vector<Part> parts{{join("ep ", p.epoch, "/", p.epochs), 0},
                          {join(p.step, "/", p.steps), 1},
                          {join("ETA ", format_duration(p.eta_s)), 2},
                          {join("loss ", format_fixed(p.loss, 4)), 3},
                          {join("top-1/5 ", format_fixed(100 * p.top1, 1), "/", format_fixed(100 * p.top5, 1), "%"), 9},
                          {join("lr ", format_significant(p.lr, 2)), 10},
                          {join(format_fixed(p.images_per_s, 0), "/s"), 4},
                          {join("wait ", format_fixed(100 * p.data_wait_fraction, 0), "%"), 5}};
  if (p.prefetch > 0) parts.push_back({join("queue ", format_fixed(p.data_queue, 1), "/", p.prefetch), 6});
  if (p.grad_norm > 0) parts.push_back({"norm " + format_significant(p.grad_norm, 2), 7});
  if (p.process_peak_bytes > 0) parts.push_back({format_bytes(static_cast<double>(p.process_peak_bytes)), 8});
  return parts;
}

// totals: whether epochs and steps are said with how many there are, or only the part that is done.
std::vector<Part> shortest(const TrainProgress& p, bool totals) {
  const double done = p.steps > 0 ? static_cast<double>(p.step) / static_cast<double>(p.steps) : 0;
  std::vector<Part> parts{{totals ? join("ep ", p.epoch, "/", p.epochs) : join("ep ", p.epoch), 0},
                          {totals ? join(p.step, "/", p.steps) : format_fixed(std::floor(100 * done), 0) + "%", 1},
                          {join("ETA ", format_duration(p.eta_s)), 2},
                          {join("loss ", format_fixed(p.loss, 3)), 3},
                          {join("top-1 ", format_fixed(100 * p.top1, 0), "%"), 9},
                          {join("lr ", format_significant(p.lr, 2)), 10},
                          {join(format_fixed(p.images_per_s, 0), "/s"), 4},
                          {join("wait ", format_fixed(100 * p.data_wait_fraction, 0), "%"), 5}};
  if (p.prefetch > 0) parts.push_back({join("q ", format_fixed(p.data_queue, 1)), 6});
  if (p.grad_norm > 0) parts.push_back({"norm " + format_significant(p.grad_norm, 2), 7});
  if (p.process_peak_bytes > 0) parts.push_back({short_bytes(p.process_peak_bytes), 8});
  return parts;
}

}  // namespace

std::string describe_within(const TrainProgress& p, size_t columns) {
  for (const std::string& text : {describe(p), joined(abbreviated(p)), joined(shortest(p, /*totals=*/true))})
    if (text.size() <= columns) return text;
  std::vector<Part> parts = shortest(p, /*totals=*/false);
  const auto by_rank = [](const Part& a, const Part& b) { return a.rank < b.rank; };
  while (!parts.empty() && joined(parts).size() > columns)
    parts.erase(std::max_element(parts.begin(), parts.end(), by_rank));
  return joined(parts);
}

std::string describe(const EvalResult& r) {
  const MetricSums& sums = r.sums;
  std::string text = join("top-1 accuracy ", format_percent(sums.top1()), " (error ", format_percent(1 - sums.top1()),
                          ")  top-5 accuracy ", format_percent(sums.top5()), " (error ",
                          format_percent(1 - sums.top5()), ")  loss ", format_fixed(sums.loss(), 4), "  ",
                          format_count(sums.images), " images  ", format_fixed(r.images_per_s(), 0), " images/s");
  if (sums.unreadable > 0)
    text += join("  WARNING: ", sums.unreadable, sums.unreadable == 1 ? " image" : " images",
                 " could not be read and count as wrong");
  if (sums.not_finite > 0) text += join("  WARNING: ", sums.not_finite, " images have a non-finite loss");
  return text;
}

Progress Progress::for_standard_output() {
  return for_stream(std::cout, STDOUT_FILENO);
}

Progress Progress::for_standard_error() {
  return for_stream(std::cerr, STDERR_FILENO);
}

Progress::~Progress() {
  if (live_shown_) out_ << '\n' << std::flush;
}

void Progress::step(const TrainProgress& progress, bool logged) {
  if (style_ == Style::kPlain) {
    if (logged) line(describe(progress));
    return;
  }
  if (due()) draw_live(describe_within(progress, live_columns()));
}

void Progress::evaluation(const std::string& what, int64_t images, int64_t all_images) {
  if (style_ == Style::kPlain || !due()) return;
  draw_live(join(what, "  ", format_count(images), "/", format_count(all_images), " images"));
}

bool Progress::due() {
  const auto now = std::chrono::steady_clock::now();
  if (live_shown_ && now - last_draw_ < kRedrawInterval) return false;
  last_draw_ = now;
  return true;
}

void Progress::draw_live(const std::string& text) {
  live_shown_ = true;
  out_ << '\r' << text.substr(0, live_columns()) << "\x1b[K" << std::flush;
}

// A line as wide as the terminal would wrap, and the carriage return would then not reach its start.
size_t Progress::live_columns() const {
  return terminal_columns(terminal_) - 1;
}

void Progress::clear_live() {
  if (live_shown_) out_ << "\r\x1b[K";
  live_shown_ = false;
}

void Progress::line(const std::string& text) {
  clear_live();
  out_ << text << '\n' << std::flush;
}

void Progress::highlight(const std::string& text) {
  line(colour_ ? "\x1b[1m" + text + "\x1b[0m" : text);
}

}  // namespace riffle
