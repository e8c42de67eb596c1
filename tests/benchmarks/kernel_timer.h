// Times operations of a backend and says how many bytes each moves a second, beside a copy of the same device.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/backend.h"

namespace riffle {

struct KernelTimerOptions {
  double seconds_a_repeat = 0.05;
  int repeats = 5;
  std::string only;  // operations whose names begin so
};

struct KernelTiming {
  std::string operation;
  Shape shape;      // of the largest argument
  double bytes;     // compulsory traffic: every argument read or written once
  double seconds;   // of one call: median of the repeats
  double gb_per_s;  // 1e9 bytes
};

class KernelTimer {
 public:
  KernelTimer(Backend& backend, const KernelTimerOptions& options) : backend_(backend), options_(options) {}

  // Calls `work` until the time is up, waits, and adds a row; unless it is an operation that nobody asked for.
  void measure(const std::string& operation, const Shape& shape, double bytes, const std::function<void()>& work);
  const std::vector<KernelTiming>& timings() const { return timings_; }

 private:
  double seconds_of(int64_t calls, const std::function<void()>& work);

  Backend& backend_;
  KernelTimerOptions options_;
  std::vector<KernelTiming> timings_;
};

}  // namespace riffle
