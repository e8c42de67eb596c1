// Wall time of the CPU backend's outermost ranges: there, work is done when it is called.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.h"

namespace riffle {

class RangeClock {
 public:
  void start() {
    running_ = true;
    depth_ = 0;
    times_.clear();
  }
  std::vector<RangeTime> stop() {
    running_ = false;
    return std::move(times_);
  }
  void begin(const std::string& name) {
    if (!running_ || depth_++ > 0) return;
    times_.push_back({name, 0});
    begun_ = Clock::now();
  }
  void end() {
    if (!running_ || depth_ == 0 || --depth_ > 0) return;  // depth 0: it began before start()
    times_.back().milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begun_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool running_ = false;
  int depth_ = 0;  // of the ranges that are open
  Clock::time_point begun_;
  std::vector<RangeTime> times_;
};

}  // namespace riffle
