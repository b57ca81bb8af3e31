#include "qkv/autograd/ops/split.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

TEST(SplitColumns, GivesTheColumnsInOrderWithoutACopy) {
  const Var x(Tensor::from({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}));
  const std::vector<Var> parts = split_columns(x, {1, 0, 3});
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].value().values(), (std::vector<double>{1, 5}));
  EXPECT_EQ(parts[1].value().shape(), (Shape{2, 0}));
  EXPECT_EQ(parts[2].value().values(), (std::vector<double>{2, 3, 4, 6, 7, 8}));
  EXPECT_TRUE(parts[2].value().shares_memory(x.value()));
}

TEST(SplitColumns, GradientsMatchFiniteDifferences) {
  const auto f = [](const std::vector<Var>& x) {
    const std::vector<Var> p = split_columns(x[0], {2, 2, 1});
    return add(multiply(p[0], p[1]), p[0]);  // the last column is not looked at
  };
  EXPECT_EQ(gradcheck(f, {random_tensor({3, 5}, 1)}), "");
}

// The memory that gradients are gathered in may have held anything.
TEST(SplitColumns, APartThatNobodyLooksAtHasAGradientOfZero) {
  for (int round = 0; round < 2; ++round) {
    { const Tensor used = Tensor::full({64, 96}, DType::kF32, 7); }
    const Var x(Tensor::zeros({64, 96}, DType::kF32), true);
    backward(split_columns(x, {32, 32, 32})[1]);
    EXPECT_EQ(x.grad().columns(0, 32).values(), std::vector<double>(64 * 32, 0));
    EXPECT_EQ(x.grad().columns(32, 64).values(), std::vector<double>(64 * 32, 1));
    EXPECT_EQ(x.grad().columns(64, 96).values(), std::vector<double>(64 * 32, 0));
  }
}

TEST(SplitColumns, APartUsedTwiceGetsBothGradients) {
  const Var x(Tensor::zeros({1, 2}, DType::kF32), true);
  const Var first = split_columns(x, {1, 1})[0];
  backward(add(first, first));
  EXPECT_EQ(x.grad().values(), (std::vector<double>{2, 0}));
}

TEST(SplitColumns, WidthsThatDoNotAddUpAreRefused) {
  EXPECT_ERROR(kShape, "[2, 4] is not 3 columns wide",
               (void)split_columns(Var(Tensor::zeros({2, 4}, DType::kF32)), {1, 2}));
}

}  // namespace
}  // namespace qkv
