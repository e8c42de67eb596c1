// The formulas of schedule.h.
#include "train/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "train/text.h"

namespace riffle {
namespace {

constexpr double kPi = 3.14159265358979323846;

// The part of (lr - final_lr) that is left at t in [0, 1).
double remaining(const ScheduleSection& section, double t) {
  if (section.kind == "linear") return 1 - t;
  if (section.kind == "polynomial") return std::pow(1 - t, section.power);
  return (1 + std::cos(kPi * t)) / 2;
}

double batch_factor(const Config& config) {
  const ScheduleSection& schedule = config.schedule;
  if (schedule.reference_batch == 0 || schedule.batch_rule == "none") return 1;
  const double ratio = static_cast<double>(config.images_per_step()) / static_cast<double>(schedule.reference_batch);
  return schedule.batch_rule == "sqrt" ? std::sqrt(ratio) : ratio;
}

}  // namespace

LearningRate::LearningRate(const ScheduleSection& section, int64_t total_steps, int64_t steps_per_epoch)
    : section_(section), total_steps_(total_steps), warmup_steps_(section.warmup.steps(steps_per_epoch)) {
  if (total_steps < 1) {
    fail_usage("the run is ", total_steps, " steps long (", steps_per_epoch,
               " steps an epoch); expected a train.duration of at least one step");
  }
  if (warmup_steps_ >= total_steps) {
    fail_usage("schedule.warmup (", section.warmup.text(), ") is ", warmup_steps_, " steps, and the whole run is ",
               total_steps, " (", steps_per_epoch, " steps an epoch); expected a warm-up shorter than the run");
  }
  const std::vector<std::string> kinds{"linear", "cosine", "step", "polynomial", "constant"};
  if (std::find(kinds.begin(), kinds.end(), section.kind) == kinds.end()) {
    fail_usage("schedule.kind is '", section.kind, "'; expected one of linear, cosine, step, polynomial, constant");
  }
  int64_t previous = warmup_steps_;
  for (const Duration& milestone : section.milestones) {
    const int64_t step = milestone.steps(steps_per_epoch);
    if (step <= previous) {
      fail_usage("schedule.milestones: ", milestone.text(), " is step ", step,
                 "; expected milestones after the warm-up ", "in ascending order, this one after step ", previous);
    }
    milestone_steps_.push_back(step);
    previous = step;
  }
}

std::vector<std::string> LearningRate::warnings() const {
  std::vector<std::string> warnings;
  for (size_t i = 0; i < milestone_steps_.size(); ++i) {
    if (milestone_steps_[i] < total_steps_) continue;
    warnings.push_back(join("schedule.milestones: ", section_.milestones[i].text(), " is step ", milestone_steps_[i],
                            ", and the run ends after ", total_steps_, " steps: this milestone is never reached"));
  }
  return warnings;
}

double LearningRate::at(int64_t step) const {
  RIFFLE_CHECK(step >= 0 && step < total_steps_, "step ", step, " of a run of ", total_steps_, " steps");
  const double lr = section_.lr;
  if (step < warmup_steps_) {
    const double part = static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
    return lr * (section_.warmup_factor + (1 - section_.warmup_factor) * part);
  }
  if (section_.kind == "constant") return lr;
  if (section_.kind == "step") {
    const auto passed = std::upper_bound(milestone_steps_.begin(), milestone_steps_.end(), step);
    return lr * std::pow(section_.gamma, static_cast<double>(passed - milestone_steps_.begin()));
  }
  const double t = static_cast<double>(step - warmup_steps_) / static_cast<double>(total_steps_ - warmup_steps_);
  return section_.final_lr + (lr - section_.final_lr) * remaining(section_, t);
}

ScheduleSection scaled_schedule(const Config& config) {
  ScheduleSection scaled = config.schedule;
  scaled.lr *= batch_factor(config);
  scaled.final_lr *= batch_factor(config);
  return scaled;
}

std::string describe_batch_rule(const Config& config) {
  const ScheduleSection& schedule = config.schedule;
  const std::string batch = format_count(config.images_per_step()), lr = format_significant(schedule.lr, 6);
  if (schedule.reference_batch == 0) return join("lr ", lr, " at batch ", batch);
  const std::string reference = format_count(schedule.reference_batch);
  if (config.images_per_step() == schedule.reference_batch)
    return join("lr ", lr, " at batch ", batch, ", the recipe's");
  return join("lr ", lr, " at batch ", reference, " -> ", format_significant(scaled_schedule(config).lr, 6),
              " at batch ", batch,
              schedule.batch_rule == "none" ? " (no rule)" : join(" (", schedule.batch_rule, " rule)"));
}

}  // namespace riffle
