// What a person sees of training and evaluation: one live line on a terminal, plain lines in a file or pipe.
#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>

#include "train/evaluator.h"

namespace riffle {

struct TrainProgress {
  int64_t epoch = 0, epochs = 0;        // epoch from 1
  int64_t step = 0, steps = 0;          // finished, in all
  double loss = 0, top1 = 0, top5 = 0;  // of training images since the last log line, as augmented
  double lr = 0;
  double images_per_s = 0, data_wait_fraction = 0;
  double data_queue = 0;  // batches that lay ready when one was asked for, of at most `prefetch`
  int prefetch = 0;       // 0: not shown
  double grad_norm = 0;
  double loss_scale = 1;                                  // 1: not shown
  int64_t process_peak_bytes = 0, device_peak_bytes = 0;  // resident memory; the backend's tensors. 0: not shown
  double eta_s = 0;
};

std::string describe(const TrainProgress& progress);
// "1.2 GiB, tensors 442.0 MiB": of the process, and what the device's tensors take, of it or on a GPU.
std::string describe_memory(const TrainProgress& progress);
// At most `columns` characters: what describe() says if it fits; else the same, shorter; else without what matters least.
std::string describe_within(const TrainProgress& progress, size_t columns);
// "top-1 accuracy 92.13% (error 7.87%)  top-5 ...": accuracy and error are both named, since the field reports either.
std::string describe(const EvalResult& result);

class Progress {
 public:
  enum class Style { kLive, kPlain };

  // terminal: the file descriptor whose width live lines keep to; without one they keep to 80 columns.
  Progress(std::ostream& out, Style style, bool colour, int terminal = -1)
      : out_(out), style_(style), colour_(colour), terminal_(terminal) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  // ends a live line, so that what follows (an error message) starts its own
  // Live on a terminal (TERM=dumb excepted), coloured unless NO_COLOR is set; plain otherwise.
  static Progress for_standard_output();
  static Progress for_standard_error();

  // After every step. `logged`: the metrics are fresh; in plain style only these are printed.
  void step(const TrainProgress& progress, bool logged);
  // After every batch of an evaluation, of `what` ("epoch 3/14  validation"). Shown in live style only.
  void evaluation(const std::string& what, int64_t images, int64_t all_images);
  void line(const std::string& text);       // a permanent line
  void highlight(const std::string& text);  // the same, bold where there is colour

 private:
  bool due();                               // whether it is time to draw the live line again
  void draw_live(const std::string& text);  // cut to the width
  void clear_live();
  size_t live_columns() const;

  std::ostream& out_;
  Style style_;
  bool colour_;
  int terminal_;
  bool live_shown_ = false;
  std::chrono::steady_clock::time_point last_draw_{};
};

}  // namespace riffle
