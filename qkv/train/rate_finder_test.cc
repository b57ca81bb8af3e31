#include "qkv/train/rate_finder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/io/testing.h"

namespace qkv {
namespace {

// loss = (w - goal)^2 / 2 + 1 by plain gradient descent, the goal 2.5 or 3.5 by turns: falls below a rate of
// 2 and grows above.
class Parabola : public Trainee {
 public:
  const std::vector<ParameterPtr>& parameters() override { return parameters_; }
  int64_t begin_epoch(int64_t) override { return 7; }
  int64_t target_tokens(int64_t) override { return 1; }
  LossSums accumulate_gradients(int64_t batch, Pass&, double scale) override {
    const double d = parameters_[0]->value().at({0}) - (batch % 2 == 0 ? 2.5 : 3.5);
    parameters_[0]->grad().fill(parameters_[0]->grad().at({0}) + scale * d);
    return {.loss = d * d / 2 + 1, .nll = 0, .n = 1};
  }
  Validation validate() override { return {}; }
  void save_model(const std::string&) override { FAIL() << "nothing is written"; }
  std::string fingerprint() override { return ""; }

 private:
  std::vector<ParameterPtr> parameters_ = {
      std::make_shared<Parameter>("w", Tensor::full({1}, DType::kF32, 0))};
};

TrainOptions plain_descent() {
  TrainOptions o;
  o.optimizer = {.name = "sgd", .options = {{"momentum", 0}}};
  return o;
}

TEST(RateFinder, FindsWhereTheLossFallsAndWhereItBreaks) {
  Parabola parabola;
  const RateRange r = find_rate(parabola, plain_descent(), {.lowest = 1e-5, .highest = 100, .steps = 140});
  EXPECT_TRUE(r.broke);
  EXPECT_LT(r.probes.size(), 140u);
  EXPECT_LT(r.probes.back().smoothed, 100);  // not only once it was infinite
  EXPECT_GT(r.least, 0.05);
  EXPECT_LT(r.least, 10);
  EXPECT_DOUBLE_EQ(r.suggested, r.least / 10);
  EXPECT_DOUBLE_EQ(r.probes[0].rate, 1e-5);
  EXPECT_DOUBLE_EQ(r.probes[0].smoothed, r.probes[0].loss);
  EXPECT_NEAR(r.probes[2].rate / r.probes[1].rate, r.probes[1].rate / r.probes[0].rate, 1e-9);
}

TEST(RateFinder, EndsAtTheHighestRateWhereNothingBreaks) {
  Parabola parabola;
  const RateRange r = find_rate(parabola, plain_descent(), {.lowest = 1e-4, .highest = 1e-1, .steps = 50});
  EXPECT_FALSE(r.broke);
  ASSERT_EQ(r.probes.size(), 50u);
  EXPECT_NEAR(r.probes.back().rate, 1e-1, 1e-12);
}

TEST(RateFinder, RangesThatAreNoneAreRefused) {
  Parabola parabola;
  EXPECT_ERROR(kValue, "lowest", find_rate(parabola, {}, {.lowest = 1, .highest = 0.1}));
  EXPECT_ERROR(kValue, "at least 2", find_rate(parabola, {}, {.steps = 1}));
}

}  // namespace
}  // namespace qkv
