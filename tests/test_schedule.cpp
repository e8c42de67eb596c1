// The learning rate and durations against values worked out by hand.
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/check.h"

namespace riffle {
namespace {

constexpr Duration::Unit kEpochs = Duration::Unit::kEpochs;
constexpr Duration::Unit kSteps = Duration::Unit::kSteps;

ScheduleSection section_of_kind(const char* kind) {
  ScheduleSection section;
  section.kind = kind;
  section.lr = 0.8;
  return section;
}

template <class Action>
std::string usage_error(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "no error";
}

TEST(Duration, StepsRoundToTheNearest) {
  EXPECT_EQ((Duration{240, kEpochs}.steps(1251)), 300240);
  EXPECT_EQ((Duration{300000, kSteps}.steps(1251)), 300000);
  EXPECT_EQ((Duration{0.5, kEpochs}.steps(469)), 235);   // 234.5
  EXPECT_EQ((Duration{0.25, kEpochs}.steps(469)), 117);  // 117.25
  EXPECT_EQ((Duration{0, kEpochs}.steps(469)), 0);
}

TEST(Duration, StepsOutOfRangeAreAnError) {
  EXPECT_EQ(usage_error([] {
              Duration{1e300, kEpochs}.steps(10);
            }),
            "a duration of 1e+300ep with 10 steps an epoch is out of range");
}

TEST(Duration, Text) {
  EXPECT_EQ((Duration{240, kEpochs}.text()), "240ep");
  EXPECT_EQ((Duration{0.5, kEpochs}.text()), "0.5ep");
  EXPECT_EQ((Duration{300000, kSteps}.text()), "300000it");
}

TEST(LearningRate, LinearFallsEvenly) {
  const LearningRate rate(section_of_kind("linear"), 4, 2);
  EXPECT_DOUBLE_EQ(rate.at(0), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(1), 0.6);
  EXPECT_DOUBLE_EQ(rate.at(2), 0.4);
  EXPECT_DOUBLE_EQ(rate.at(3), 0.2);
}

TEST(LearningRate, LinearFallsToTheFinalRate) {
  ScheduleSection section = section_of_kind("linear");
  section.final_lr = 0.4;
  const LearningRate rate(section, 4, 2);
  EXPECT_DOUBLE_EQ(rate.at(0), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(1), 0.7);
  EXPECT_DOUBLE_EQ(rate.at(3), 0.5);
}

TEST(LearningRate, AuthorsImageNetSchedule) {
  ScheduleSection section = section_of_kind("linear");
  section.lr = 0.5;
  const LearningRate rate(section, 300000, 1251);
  EXPECT_DOUBLE_EQ(rate.at(0), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(150000), 0.25);
  EXPECT_NEAR(rate.at(299999), 0.5 / 300000, 1e-16);
}

TEST(LearningRate, Polynomial) {
  ScheduleSection section = section_of_kind("polynomial");
  section.power = 2;
  section.final_lr = 0.1;
  const LearningRate rate(section, 4, 2);
  EXPECT_DOUBLE_EQ(rate.at(0), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(1), 0.1 + 0.7 * 0.5625);
  EXPECT_DOUBLE_EQ(rate.at(2), 0.1 + 0.7 * 0.25);
  EXPECT_DOUBLE_EQ(rate.at(3), 0.1 + 0.7 * 0.0625);
}

TEST(LearningRate, Cosine) {
  ScheduleSection section = section_of_kind("cosine");
  section.final_lr = 0.2;
  const LearningRate rate(section, 6, 3);
  EXPECT_DOUBLE_EQ(rate.at(0), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(2), 0.2 + 0.6 * 0.75);  // cos(60 degrees) = 1/2
  EXPECT_DOUBLE_EQ(rate.at(3), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(4), 0.2 + 0.6 * 0.25);
  EXPECT_DOUBLE_EQ(rate.at(5), 0.2 + 0.6 * (1 - std::sqrt(3.0) / 2) / 2);
}

TEST(LearningRate, Constant) {
  const LearningRate rate(section_of_kind("constant"), 3, 1);
  EXPECT_EQ(rate.at(0), 0.8);
  EXPECT_EQ(rate.at(2), 0.8);
}

TEST(LearningRate, StepFallsAtItsMilestones) {
  ScheduleSection section = section_of_kind("step");
  section.milestones = {{2, kEpochs}, {7, kSteps}};
  section.gamma = 0.5;
  const LearningRate rate(section, 10, 2);
  EXPECT_DOUBLE_EQ(rate.at(3), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(4), 0.4);
  EXPECT_DOUBLE_EQ(rate.at(6), 0.4);
  EXPECT_DOUBLE_EQ(rate.at(7), 0.2);
  EXPECT_DOUBLE_EQ(rate.at(9), 0.2);
}

TEST(LearningRate, MilestonesBeyondTheRunAreNotReached) {
  ScheduleSection section = section_of_kind("step");
  section.milestones = {{100, kEpochs}};
  const LearningRate rate(section, 10, 2);
  EXPECT_DOUBLE_EQ(rate.at(9), 0.8);
  ASSERT_EQ(rate.warnings().size(), 1u);
  EXPECT_EQ(rate.warnings().front(),
            "schedule.milestones: 100ep is step 200, and the run ends after 10 steps: this milestone is never reached");
  section.milestones = {{9, kSteps}, {10, kSteps}};
  EXPECT_EQ(LearningRate(section, 10, 2).warnings().size(), 1u);
  EXPECT_TRUE(LearningRate(section, 11, 2).warnings().empty());
}

TEST(LearningRate, WarmUpRisesFromItsFactorAndMeetsTheSchedule) {
  for (const char* kind : {"linear", "cosine", "polynomial", "constant"}) {
    ScheduleSection section = section_of_kind(kind);
    section.warmup = {2, kEpochs};
    section.warmup_factor = 0.5;
    const LearningRate rate(section, 20, 2);
    EXPECT_DOUBLE_EQ(rate.at(0), 0.8 * 0.625) << kind;  // 0.5 + 0.5 * 1/4
    EXPECT_DOUBLE_EQ(rate.at(1), 0.8 * 0.75) << kind;
    EXPECT_DOUBLE_EQ(rate.at(3), 0.8) << kind;
    EXPECT_DOUBLE_EQ(rate.at(4), 0.8) << kind;  // t = 0
  }
}

TEST(LearningRate, TheScheduleTakesTheStepsAfterTheWarmUp) {
  ScheduleSection section = section_of_kind("linear");
  section.warmup = {4, kSteps};
  const LearningRate rate(section, 8, 2);
  EXPECT_DOUBLE_EQ(rate.at(0), 0.2);
  EXPECT_DOUBLE_EQ(rate.at(2), 0.6);
  EXPECT_DOUBLE_EQ(rate.at(5), 0.6);  // t = 1/4
  EXPECT_DOUBLE_EQ(rate.at(7), 0.2);
}

TEST(LearningRate, MilestonesCountFromTheStartOfTheRun) {
  ScheduleSection section = section_of_kind("step");
  section.warmup = {2, kSteps};
  section.milestones = {{4, kSteps}};
  const LearningRate rate(section, 8, 2);
  EXPECT_DOUBLE_EQ(rate.at(1), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(3), 0.8);
  EXPECT_DOUBLE_EQ(rate.at(4), 0.08);
}

TEST(LearningRate, OneStepRunTakesThePeakRate) {
  for (const char* kind : {"linear", "cosine", "polynomial", "constant"}) {
    EXPECT_DOUBLE_EQ(LearningRate(section_of_kind(kind), 1, 1).at(0), 0.8) << kind;
  }
}

TEST(LearningRate, OneStepAfterTheWarmUpIsEnough) {
  ScheduleSection section = section_of_kind("cosine");
  section.warmup = {3, kSteps};
  EXPECT_DOUBLE_EQ(LearningRate(section, 4, 2).at(3), 0.8);
}

TEST(LearningRate, RejectsRunsThatCannotBe) {
  ScheduleSection section = section_of_kind("cosine");
  EXPECT_EQ(usage_error([&] { LearningRate(section, 0, 7); }),
            "the run is 0 steps long (7 steps an epoch); expected a train.duration of at least one step");
  section.warmup = {5, kEpochs};
  EXPECT_EQ(usage_error([&] { LearningRate(section, 500, 100); }),
            "schedule.warmup (5ep) is 500 steps, and the whole run is 500 (100 steps an epoch); expected a warm-up "
            "shorter than the run");
  EXPECT_EQ(usage_error([] { LearningRate(section_of_kind("exponential"), 10, 1); }),
            "schedule.kind is 'exponential'; expected one of linear, cosine, step, polynomial, constant");
}

TEST(LearningRate, RejectsMilestonesOutOfOrder) {
  ScheduleSection section = section_of_kind("step");
  section.milestones = {{2, kEpochs}, {20, kSteps}};
  EXPECT_EQ(usage_error([&] { LearningRate(section, 100, 10); }),
            "schedule.milestones: 20it is step 20; expected milestones after the warm-up in ascending order, this one "
            "after step 20");
  section.milestones = {{1, kEpochs}};
  section.warmup = {1, kEpochs};
  EXPECT_EQ(usage_error([&] { LearningRate(section, 100, 10); }),
            "schedule.milestones: 1ep is step 10; expected milestones after the warm-up in ascending order, this one "
            "after step 10");
}

TEST(LearningRate, RejectsStepsOutsideTheRun) {
  const LearningRate rate(section_of_kind("constant"), 3, 1);
  EXPECT_THROW(rate.at(-1), Error);
  EXPECT_THROW(rate.at(3), Error);
}

Config config_of_batch(int64_t batch, int accumulate, int64_t reference, const std::string& rule) {
  Config config;
  config.train.batch = batch;
  config.optimizer.accumulate = accumulate;
  config.schedule.lr = 0.5;
  config.schedule.final_lr = 0.01;
  config.schedule.reference_batch = reference;
  config.schedule.batch_rule = rule;
  return config;
}

TEST(BatchRule, RatesFollowTheImagesOfAStep) {
  EXPECT_DOUBLE_EQ(scaled_schedule(config_of_batch(256, 1, 1024, "linear")).lr, 0.125);
  EXPECT_DOUBLE_EQ(scaled_schedule(config_of_batch(256, 1, 1024, "linear")).final_lr, 0.0025);
  EXPECT_DOUBLE_EQ(scaled_schedule(config_of_batch(256, 1, 1024, "sqrt")).lr, 0.25);
  EXPECT_DOUBLE_EQ(scaled_schedule(config_of_batch(256, 4, 1024, "linear")).lr, 0.5);
  EXPECT_DOUBLE_EQ(scaled_schedule(config_of_batch(2048, 2, 1024, "linear")).lr, 2);
  EXPECT_EQ(scaled_schedule(config_of_batch(256, 1, 1024, "none")).lr, 0.5);
  EXPECT_EQ(scaled_schedule(config_of_batch(256, 1, 0, "linear")).lr, 0.5);
}

TEST(BatchRule, SaysWhatBecameOfTheRate) {
  EXPECT_EQ(describe_batch_rule(config_of_batch(256, 1, 1024, "linear")),
            "lr 0.5 at batch 1,024 -> 0.125 at batch 256 (linear rule)");
  EXPECT_EQ(describe_batch_rule(config_of_batch(64, 4, 1024, "sqrt")),
            "lr 0.5 at batch 1,024 -> 0.25 at batch 256 (sqrt rule)");
  EXPECT_EQ(describe_batch_rule(config_of_batch(256, 1, 1024, "none")),
            "lr 0.5 at batch 1,024 -> 0.5 at batch 256 (no rule)");
  EXPECT_EQ(describe_batch_rule(config_of_batch(256, 4, 1024, "linear")), "lr 0.5 at batch 1,024, the recipe's");
  EXPECT_EQ(describe_batch_rule(config_of_batch(256, 1, 0, "linear")), "lr 0.5 at batch 256");
}

}  // namespace
}  // namespace riffle
