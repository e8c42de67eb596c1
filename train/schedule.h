// Learning rate as a pure function of the step, so that resuming needs no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/config.h"

namespace riffle {

class LearningRate {
 public:
  LearningRate(const ScheduleSection& section, int64_t total_steps, int64_t steps_per_epoch);

  // step: 0 .. total_steps-1, the step about to be taken. Warm-up: for step < W, the rate rises linearly from
  // lr*warmup_factor, lr * (f + (1-f) * (step+1)/W), and reaches lr on the last of these steps. After it, with
  // t = (step - W) / (T - W) in [0, 1):
  //   linear: final + (lr - final) * (1 - t); polynomial: ... * (1 - t)^power; cosine: ... * (1 + cos(pi t)) / 2;
  //   step: lr * gamma^(milestones passed); constant: lr.
  double at(int64_t step) const;
  // What the run will not see of the schedule, for people: milestones beyond its end.
  std::vector<std::string> warnings() const;

 private:
  ScheduleSection section_;
  int64_t total_steps_, warmup_steps_;
  std::vector<int64_t> milestone_steps_;
};

// The schedule for the batch in use: lr and final_lr times (images a step / reference_batch), its square root or 1, as
// batch_rule says.
ScheduleSection scaled_schedule(const Config& config);
// "lr 0.5 at batch 1,024 -> 0.125 at batch 256 (linear rule)"
std::string describe_batch_rule(const Config& config);

}  // namespace riffle
