#include "qkv/train/schedule.h"

#include <gtest/gtest.h>

#include "qkv/io/testing.h"

namespace qkv {
namespace {

TEST(Schedule, InverseSqrtRisesThenFallsAsItsFormulaSays) {
  const Schedule s{.kind = ScheduleKind::kInverseSqrt, .peak = 1, .warmup_steps = 100};
  EXPECT_DOUBLE_EQ(s.rate(50), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(100), 1);
  EXPECT_DOUBLE_EQ(s.rate(400), 0.5);
}

TEST(Schedule, CosineAndLinearEndAtTheFloor) {
  const Schedule cosine{
      .kind = ScheduleKind::kCosine, .peak = 2, .floor = 1, .warmup_steps = 20, .max_steps = 120};
  EXPECT_DOUBLE_EQ(cosine.rate(10), 1);
  EXPECT_DOUBLE_EQ(cosine.rate(20), 2);
  EXPECT_NEAR(cosine.rate(70), 1.5, 1e-12);
  EXPECT_DOUBLE_EQ(cosine.rate(120), 1);
  EXPECT_DOUBLE_EQ(cosine.rate(500), 1);
  const Schedule linear{
      .kind = ScheduleKind::kLinear, .peak = 1, .floor = 0, .warmup_steps = 0, .max_steps = 100};
  EXPECT_NEAR(linear.rate(25), 0.75, 1e-12);
  EXPECT_DOUBLE_EQ(linear.rate(100), 0);
}

TEST(Schedule, ConstantStaysAtItsPeak) {
  const Schedule s{.kind = ScheduleKind::kConstant, .peak = 0.3, .warmup_steps = 3};
  EXPECT_DOUBLE_EQ(s.rate(1), 0.1);
  EXPECT_DOUBLE_EQ(s.rate(3), 0.3);
  EXPECT_DOUBLE_EQ(s.rate(1'000'000), 0.3);
}

// Up in 100 steps, down in 100, and what is left to the floor.
TEST(Schedule, OneCycleRisesFallsAndDwindles) {
  const Schedule s{
      .kind = ScheduleKind::kOneCycle, .peak = 25, .floor = 0, .warmup_steps = 100, .max_steps = 300};
  EXPECT_DOUBLE_EQ(s.rate(0), 1);
  EXPECT_DOUBLE_EQ(s.rate(50), 13);
  EXPECT_DOUBLE_EQ(s.rate(100), 25);
  EXPECT_DOUBLE_EQ(s.rate(150), 13);
  EXPECT_DOUBLE_EQ(s.rate(200), 1);
  EXPECT_DOUBLE_EQ(s.rate(250), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(300), 0);
  EXPECT_DOUBLE_EQ(s.rate(400), 0);
}

TEST(Schedule, WarmupStableDecayStaysAtItsPeakUntilTheLastShare) {
  Schedule s{.kind = ScheduleKind::kWarmupStableDecay,
             .peak = 2,
             .floor = 1,
             .warmup_steps = 10,
             .max_steps = 1000,
             .decay_share = 0.2};
  EXPECT_DOUBLE_EQ(s.rate(5), 1);
  EXPECT_DOUBLE_EQ(s.rate(10), 2);
  EXPECT_DOUBLE_EQ(s.rate(800), 2);
  EXPECT_DOUBLE_EQ(s.rate(850), 1.75);
  EXPECT_DOUBLE_EQ(s.rate(1000), 1);
  EXPECT_DOUBLE_EQ(s.rate(1001), 1);
  s.decay_shape = DecayShape::kOneMinusSqrt;
  EXPECT_DOUBLE_EQ(s.rate(800), 2);
  EXPECT_DOUBLE_EQ(s.rate(850), 1.5);  // sqrt(1 / 4) of the way
  EXPECT_DOUBLE_EQ(s.rate(1000), 1);
}

TEST(Schedule, NamesGoThereAndBack) {
  for (const char* text :
       {"inverse_sqrt", "cosine", "linear", "constant", "one_cycle", "warmup_stable_decay"})
    EXPECT_EQ(name(schedule_from_name(text)), text);
  EXPECT_ERROR(kValue, "did you mean cosine?", schedule_from_name("cosin"));
  EXPECT_ERROR(kValue, "one_minus_sqrt", decay_shape_from_name("sqrt"));
}

TEST(Schedule, OneThatCannotWorkSaysSo) {
  const auto with = [](ScheduleKind kind, int64_t warmup, int64_t max_steps) {
    return Schedule{.kind = kind, .peak = 1, .warmup_steps = warmup, .max_steps = max_steps};
  };
  EXPECT_ERROR(kValue, "cosine needs to know where it ends", with(ScheduleKind::kCosine, 1, 0).check());
  EXPECT_ERROR(kValue, "one_cycle rises for warmup", with(ScheduleKind::kOneCycle, 60, 100).check());
  EXPECT_NO_THROW(with(ScheduleKind::kOneCycle, 50, 100).check());
  Schedule s = with(ScheduleKind::kWarmupStableDecay, 1, 10);
  s.decay_share = 0;
  EXPECT_ERROR(kValue, "decay_share is 0", s.check());
  s = with(ScheduleKind::kConstant, 1, 0);
  s.peak = 0;
  EXPECT_ERROR(kValue, "learning rate (0)", s.check());
}

}  // namespace
}  // namespace qkv
