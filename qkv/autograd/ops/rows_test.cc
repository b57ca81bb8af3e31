#include "qkv/autograd/ops/rows.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

TEST(TakeRows, CountsThroughTheSourcesAndGivesZerosForNoRow) {
  const Tensor a = Tensor::from({2, 2}, {1, 2, 3, 4}), wide = Tensor::from({1, 3}, {9, 5, 6});
  const Var out = take_rows({Var(a), Var(wide.columns(1, 3))}, {2, -1, 0, 2});
  EXPECT_EQ(out.value().values(), (std::vector<double>{5, 6, 0, 0, 1, 2, 5, 6}));
  EXPECT_EQ(take_rows({Var(a)}, {}).value().shape(), (Shape{0, 2}));
}

TEST(TakeRows, GradientsMatchFiniteDifferences) {
  const auto f = [](const std::vector<Var>& x) { return take_rows({x[0], x[1]}, {3, -1, 0, 3, 1, 5}); };
  EXPECT_EQ(gradcheck(f, {random_tensor({4, 3}, 1), random_tensor({2, 3}, 2)}), "");
}

// 256 + 1 is 256 in bf16: sums that were rounded as they go would stay there.
TEST(TakeRows, SumsTheGradientsOfARowTakenOftenInTheAccumulator) {
  const Var x(Tensor::zeros({1, 1}, DType::kBF16), true);
  const Var out = take_rows({x}, std::vector<int64_t>(257, 0));
  const Tensor dy = Tensor::full({257, 1}, DType::kBF16, 1);
  dy.rows(0, 1).fill(256);
  backward(out, dy);
  EXPECT_EQ(x.grad().at({0, 0}), 512);
}

TEST(TakeRows, ThatDoNotExistAreRefused) {
  const Var a(Tensor::zeros({2, 2}, DType::kF32)), b(Tensor::zeros({2, 3}, DType::kF32)),
      c(Tensor::zeros({2, 2}, DType::kF64));
  EXPECT_ERROR(kValue, "row 2 is outside the 2 that there are", (void)take_rows({a}, {0, 2}));
  EXPECT_ERROR(kValue, "row -2 is outside", (void)take_rows({a}, {-2}));
  EXPECT_ERROR(kShape, "not of one width", (void)take_rows({a, b}, {0}));
  EXPECT_ERROR(kDtype, "sources of f32 and of f64", (void)take_rows({a, c}, {0}));
  EXPECT_ERROR(kShape, "needs a source", (void)take_rows({}, {}));
}

}  // namespace
}  // namespace qkv
