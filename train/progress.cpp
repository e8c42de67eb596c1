// Progress lines.
#include "train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "train/text.h"

namespace riffle {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};

size_t terminal_columns(int terminal) {
  winsize size{};
  return ioctl(terminal, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

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

std::string describe_within(const TrainProgress& p, size_t columns) {
  std::string text = describe(p);
  if (text.size() <= columns) return text;
  text.clear();
  for (const std::string& part :
       {join("ep ", p.epoch, "/", p.epochs), join(p.step, "/", p.steps), join("ETA ", format_duration(p.eta_s)),
        join("loss ", format_fixed(p.loss, 4)),
        join("top-1/5 ", format_fixed(100 * p.top1, 1), "/", format_fixed(100 * p.top5, 1), "%"),
        join("lr ", format_significant(p.lr, 2)), join(format_fixed(p.images_per_s, 0), "/s"),
        join("wait ", format_fixed(100 * p.data_wait_fraction, 0), "%"),
        join("norm ", format_significant(p.grad_norm, 2)), format_bytes(static_cast<double>(p.process_peak_bytes))}) {
    if (text.size() + 1 + part.size() > columns) break;
    text += (text.empty() ? "" : " ") + part;
  }
  return text;
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
