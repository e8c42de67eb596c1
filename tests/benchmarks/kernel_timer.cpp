// KernelTimer.
#include "tests/benchmarks/kernel_timer.h"

#include <algorithm>
#include <cmath>

#include "train/stopwatch.h"

namespace riffle {

double KernelTimer::seconds_of(int64_t calls, const std::function<void()>& work) {
  const Stopwatch clock;
  for (int64_t i = 0; i < calls; ++i) work();
  backend_.synchronize();
  return clock.seconds();
}

void KernelTimer::measure(const std::string& operation, const Shape& shape, double bytes,
                          const std::function<void()>& work) {
  if (operation.rfind(options_.only, 0) != 0) return;
  seconds_of(2, work);  // plans and memory
  const double estimate = seconds_of(1, work);
  // Work is queued behind the program's back: with many calls a wait, the queue hides what a launch costs the CPU.
  const auto calls = static_cast<int64_t>(std::clamp(std::ceil(options_.seconds_a_repeat / estimate), 1.0, 1e5));
  std::vector<double> seconds(static_cast<size_t>(options_.repeats));
  for (double& each : seconds) each = seconds_of(calls, work) / static_cast<double>(calls);
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  timings_.push_back({operation, shape, bytes, median, bytes / median * 1e-9});
}

}  // namespace riffle
