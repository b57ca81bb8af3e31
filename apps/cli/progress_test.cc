#include "apps/cli/progress.h"

#include <gtest/gtest.h>

namespace qkv::cli {
namespace {

TEST(Progress, SpeedIsShownWithItsShareOfThePeak) {
  EXPECT_EQ(speed(0.21e12, 0.42e12), "0.21 TFLOP/s (50 % of peak)");
}

}  // namespace
}  // namespace qkv::cli
