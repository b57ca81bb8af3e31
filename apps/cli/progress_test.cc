#include "apps/cli/progress.h"

#include <gtest/gtest.h>

namespace qkv::cli {
namespace {

TEST(Progress, SpeedIsShownWithItsShareOfThePeak) {
  EXPECT_EQ(speed(0.21e12, 0.42e12), "0.21 TFLOP/s (50 % of peak)");
}

TEST(Progress, ADurationUnderAMinuteIsSeconds) {
  EXPECT_EQ(duration(0), "0 s");
  EXPECT_EQ(duration(12.4), "12 s");
  EXPECT_EQ(duration(59.6), "1:00");
  EXPECT_EQ(duration(245), "4:05");
  EXPECT_EQ(duration(3723), "1:02:03");
  EXPECT_EQ(duration(-1), "?");
}

}  // namespace
}  // namespace qkv::cli
