#include "qkv/train/ema.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/io/testing.h"

namespace qkv {
namespace {

ParameterPtr weight(double value) {
  return std::make_shared<Parameter>("w", Tensor::full({2, 3}, DType::kF32, value));
}

// By hand: shares 9/11, 9/12, then 1 - 0.25 once that is more.
TEST(WeightEma, ForgetsItsStartFastAndThenKeepsItsDecay) {
  const ParameterPtr w = weight(0);
  WeightEma ema({w}, 0.25);
  const auto average = [&] { return ema.tensors()[0].value.at({1, 2}); };
  w->value().fill(11);
  ema.step(1);
  EXPECT_NEAR(average(), 9, 1e-6);
  w->value().fill(13);
  ema.step(2);
  EXPECT_NEAR(average(), 12, 1e-6);
  w->value().fill(16);
  ema.step(100);
  EXPECT_NEAR(average(), 15, 1e-6);
  ema.put_into_parameters();
  EXPECT_NEAR(w->value().at({0, 0}), 15, 1e-6);
  w->value().fill(1);
  ema.restart();
  EXPECT_EQ(average(), 1);
}

TEST(WeightEma, FollowsItsFormulaInFloat64) {
  const ParameterPtr w = weight(1);
  WeightEma ema({w}, 0.99);
  double expected = 1;
  for (int t = 1; t <= 2000; ++t) {
    const double value = static_cast<float>(1 + std::sin(0.01 * t));
    w->value().fill(value);
    ema.step(t);
    const double d = std::min(0.99, (1.0 + t) / (10.0 + t));
    expected = d * expected + (1 - d) * value;
  }
  // Each step rounds the average once, and what it rounded fades by the decay: 100 roundings at most.
  EXPECT_NEAR(ema.tensors()[0].value.at({0, 0}), expected, 100 * 0x1p-24 * 2);
}

TEST(WeightEma, ADecayOutOfRangeIsRefused) {
  EXPECT_ERROR(kValue, "ema_decay is 1", WeightEma({weight(0)}, 1));
}

}  // namespace
}  // namespace qkv
