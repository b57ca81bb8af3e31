#include "qkv/tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "qkv/base/testing.h"

namespace qkv {
namespace {

using Values = std::vector<double>;

// 0, 1, 2, ... in row-major order: a value tells where it lies.
Tensor counted(const Shape& shape, DType dtype = DType::kF32) {
  Values values(static_cast<size_t>(shape.numel()));
  std::iota(values.begin(), values.end(), 0);
  return Tensor::from(shape, values, dtype);
}

constexpr DType kAllDTypes[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kI32};

TEST(Shape, CountsElementsAndPrintsItself) {
  EXPECT_EQ((Shape{2, 3, 4}).numel(), 24);
  EXPECT_EQ((Shape{2, 0, 4}).numel(), 0);
  EXPECT_EQ(Shape{}.numel(), 1);  // a scalar
  EXPECT_EQ((Shape{2, 3}).str(), "[2, 3]");
  EXPECT_EQ(Shape{}.str(), "[]");
  EXPECT_TRUE((Shape{2, 3}) == (Shape{2, 3}));
  EXPECT_FALSE((Shape{2, 3}) == (Shape{2, 3, 1}));
  EXPECT_FALSE((Shape{2, 0}) == (Shape{2}));
}

TEST(Shape, RefusesWhatNoTensorHas) {
  EXPECT_ERROR(kShape, "size -1 is negative", (Shape{2, -1}));
  EXPECT_ERROR(kShape, "rank 9 is over the limit of 8", (Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}));
  const int64_t huge = int64_t{1} << 40;
  EXPECT_ERROR(kFormat, "number of elements", (Shape{huge, huge}).numel());
  EXPECT_ERROR(kFormat, "bytes of a tensor", Tensor::empty({huge, int64_t{1} << 22}, DType::kF64));
}

TEST(Tensor, IsMadeOfValuesInRowMajorOrder) {
  for (DType dtype : kAllDTypes) {
    const Tensor t = Tensor::from({2, 3}, {1, 2, 3, 4, 5, -6}, dtype);
    EXPECT_EQ(t.dtype(), dtype);
    EXPECT_EQ(t.at({0, 2}), 3);
    EXPECT_EQ(t.at({1, 2}), -6);
    EXPECT_EQ(t.values(), (Values{1, 2, 3, 4, 5, -6}));
    EXPECT_EQ(t.n_bytes(), 6 * size_of(dtype));
    EXPECT_EQ(t.size(-1), 3);
    EXPECT_EQ(t.stride(-2), 3);
    EXPECT_TRUE(t.is_contiguous());
    EXPECT_EQ(Tensor::zeros({2, 2}, dtype).values(), Values(4, 0));
    EXPECT_EQ(Tensor::full({3}, dtype, 7).values(), Values(3, 7));
  }
  const int32_t ids[] = {5, 0, 9};
  EXPECT_EQ(Tensor::from_ids(ids).values(), (Values{5, 0, 9}));
  EXPECT_EQ(Tensor::from_ids({}).numel(), 0);
  EXPECT_EQ(Tensor::from({}, {3.5}).at({}), 3.5);
  EXPECT_FALSE(Tensor().defined());
  EXPECT_ERROR(kShape, "shape [2, 2] needs 4 values, got 3", Tensor::from({2, 2}, {1, 2, 3}));
}

TEST(Tensor, ViewsShareTheMemory) {
  const Tensor t = counted({4, 6});
  const Tensor block = t.rows(1, 3).columns(2, 5);
  EXPECT_EQ(block.values(), (Values{8, 9, 10, 14, 15, 16}));
  EXPECT_EQ(block.stride(0), 6);
  EXPECT_FALSE(block.is_contiguous());
  EXPECT_TRUE(t.rows(1, 3).is_contiguous());
  EXPECT_TRUE(t.rows(1, 2).columns(2, 5).is_contiguous()) << "one row has no gap";
  block.fill(-1);
  EXPECT_EQ(t.values(),
            (Values{0, 1, 2, 3, 4, 5, 6, 7, -1, -1, -1, 11, 12, 13, -1, -1, -1, 17, 18, 19, 20, 21, 22, 23}));
  const Tensor copy = t.clone();
  copy.fill(0);
  EXPECT_EQ(t.at({0, 1}), 1) << "a clone has memory of its own";
  EXPECT_EQ(t.rows(2, 2).numel(), 0);
}

TEST(Tensor, TransposedAndReshapedViewsReadTheSameElements) {
  const Tensor t = counted({2, 3, 4}), u = t.transpose(0, 2);
  EXPECT_EQ(u.shape(), (Shape{4, 3, 2}));
  for (int64_t a = 0; a < 2; ++a)
    for (int64_t b = 0; b < 3; ++b)
      for (int64_t c = 0; c < 4; ++c) {
        EXPECT_EQ(u.at({c, b, a}), t.at({a, b, c}));
        EXPECT_EQ(u.contiguous().at({c, b, a}), t.at({a, b, c}));
        EXPECT_EQ(t.reshape({6, 4}).at({3 * a + b, c}), t.at({a, b, c}));
      }
  EXPECT_EQ(counted({2, 3}).transpose(0, 1).values(), (Values{0, 3, 1, 4, 2, 5}));
}

TEST(Tensor, RefusesViewsOutsideItself) {
  const Tensor t = counted({2, 3});
  EXPECT_ERROR(kShape, "[1, 3) of axis 0 does not lie in [2, 3]", t.rows(1, 3));
  EXPECT_ERROR(kShape, "[2, 1) of axis 1", t.columns(2, 1));
  EXPECT_ERROR(kShape, "[-1, 1)", t.columns(-1, 1));
  EXPECT_ERROR(kShape, "axis 2", t.slice(2, 0, 1));
  EXPECT_ERROR(kShape, "[2, 3] cannot be seen as [4]", t.reshape({4}));
  EXPECT_ERROR(kShape, "[3, 2] (strided) cannot be seen as [6]", t.transpose(0, 1).reshape({6}));
  EXPECT_ERROR(kShape, "[2, 3] has no axes 0 and 2", t.transpose(0, 2));
  EXPECT_ERROR(kShape, "1 indices for [2, 3]", t.at({0}));
  EXPECT_ERROR(kValue, "index 3 of axis 1 is outside [2, 3]", t.at({0, 3}));
  EXPECT_ERROR(kDtype, "asked for f64 data, holds f32", t.data<double>());
  EXPECT_ERROR(kDtype, "holds nothing", Tensor().data<float>());
  EXPECT_ERROR(kShape, "source [3, 2] does not fit [2, 3]", t.copy_from(counted({3, 2})));
}

// Every pair of types, from and to strided and contiguous views: four ways through copy_from.
TEST(Tensor, ConvertsBetweenAllTypesWhateverTheStrides) {
  for (DType from : kAllDTypes)
    for (DType to : kAllDTypes) {
      const Tensor source = counted({5, 7}, from);
      EXPECT_EQ(source.to(to).dtype(), to);
      EXPECT_EQ(source.to(to).values(), source.values());
      const Tensor turned = source.transpose(0, 1);
      EXPECT_EQ(turned.to(to).values(), turned.values()) << name(from) << " to " << name(to);
      const Tensor wide = Tensor::full({5, 9}, to, 99);
      wide.columns(1, 8).copy_from(source);
      EXPECT_EQ(wide.columns(1, 8).values(), source.values()) << name(from) << " to " << name(to);
      EXPECT_EQ(wide.at({2, 0}), 99);
      EXPECT_EQ(wide.at({2, 8}), 99);
      const Tensor tall = Tensor::full({7, 9}, to, 99);
      tall.columns(1, 6).copy_from(turned);
      EXPECT_EQ(tall.columns(1, 6).values(), turned.values()) << name(from) << " to " << name(to);
    }
  const Tensor t = counted({3});
  EXPECT_EQ(t.to(DType::kF32).data<float>(), t.data<float>()) << "its own type is itself";
}

// 1 + 2^-8 lies between the bf16 neighbours 1 and 1 + 2^-7, and 1 is even; 1 + 3 * 2^-8 goes up.
TEST(Tensor, RoundsToBfloat16ByTiesToEven) {
  const double step = std::ldexp(1.0, -8);
  const Tensor t = Tensor::from({4}, {1 + step, 1 + 3 * step, 1 + 1.01 * step, -1e-40}).to(DType::kBF16);
  EXPECT_EQ(t.at({0}), 1);
  EXPECT_EQ(t.at({1}), 1 + 4 * step);
  EXPECT_EQ(t.at({2}), 1 + 2 * step);
  EXPECT_LT(t.at({3}), 0) << "a subnormal is kept";
  const Tensor odd = Tensor::from({2}, {std::nan(""), std::numeric_limits<double>::infinity()}, DType::kBF16);
  EXPECT_TRUE(std::isnan(odd.to(DType::kF32).at({0})));
  EXPECT_EQ(odd.to(DType::kF64).at({1}), std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace qkv
