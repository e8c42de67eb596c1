// The progress line.
#include "train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "train/text.h"

namespace riffle {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};

size_t terminal_columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool set_and_not_empty(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

}  // namespace

std::string describe(const TrainProgress& p) {
  std::string text =
      join("epoch ", p.epoch, "/", p.epochs, "  step ", p.step, "/", p.steps, "  ETA ", format_duration(p.eta_s),
           "  loss ", format_fixed(p.loss, 4), "  top-1 ", format_percent(p.top1), "  top-5 ", format_percent(p.top5),
           "  lr ", format_significant(p.lr, 4), "  ", format_fixed(p.images_per_s, 0), " images/s  data wait ",
           format_fixed(100 * p.data_wait_fraction, 0), "%");
  if (p.grad_norm > 0) text += "  grad norm " + format_significant(p.grad_norm, 3);
  return text;
}

std::string describe(const EvalResult& r) {
  const MetricSums& sums = r.sums;
  std::string text = join("top-1 accuracy ", format_percent(sums.top1()), " (error ", format_percent(1 - sums.top1()),
                          ")  top-5 accuracy ", format_percent(sums.top5()), " (error ",
                          format_percent(1 - sums.top5()), ")  loss ", format_fixed(sums.loss(), 4), "  ",
                          format_count(sums.images), " images  ", format_fixed(r.images_per_s(), 0), " images/s");
  if (sums.not_finite > 0) text += join("  WARNING: ", sums.not_finite, " images have a non-finite loss");
  return text;
}

Progress Progress::for_standard_output() {
  const char* terminal = std::getenv("TERM");
  const bool live = isatty(STDOUT_FILENO) == 1 && terminal != nullptr && std::string(terminal) != "dumb";
  return Progress(std::cout, live ? Style::kLive : Style::kPlain, live && !set_and_not_empty("NO_COLOR"));
}

void Progress::step(const TrainProgress& progress, bool logged) {
  if (style_ == Style::kPlain) {
    if (logged) line(describe(progress));
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (live_shown_ && now - last_draw_ < kRedrawInterval) return;
  last_draw_ = now;
  live_shown_ = true;
  // A line as wide as the terminal would wrap, and the carriage return would then not reach its start.
  out_ << '\r' << describe(progress).substr(0, terminal_columns() - 1) << "\x1b[K" << std::flush;
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
