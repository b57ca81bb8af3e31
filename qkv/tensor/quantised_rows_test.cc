#include "qkv/tensor/quantised_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace qkv {
namespace {

TEST(QuantisedRows, AreTheNearestMultiplesOfAStepForEachRow) {
  const Tensor w =
      Tensor::from({3, 4}, {1, -0.5, 0.004, 127, 0, 0, 0, 0, 2.54, -2.54, 1.27, 0.0101}, DType::kF32);
  const QuantisedRows rows = quantise_rows(w);
  EXPECT_EQ(std::vector<int>(rows.row(0), rows.row(0) + 4),
            (std::vector<int>{1, 0, 0, 127}));  // -0.5: to even
  EXPECT_EQ(std::vector<int>(rows.row(1), rows.row(1) + 4), (std::vector<int>{0, 0, 0, 0}));
  EXPECT_EQ(std::vector<int>(rows.row(2), rows.row(2) + 4), (std::vector<int>{127, -127, 64, 1}));
  const Tensor back = dequantised(rows);
  for (int64_t j = 0; j < 3; ++j)
    for (int64_t c = 0; c < 4; ++c)
      EXPECT_LE(std::abs(back.at({j, c}) - w.at({j, c})), 0.501 * rows.scales.at({j})) << j << " " << c;
}

TEST(QuantisedRows, QuantisedAgainKeepTheirIntegers) {
  std::vector<double> x;
  for (int i = 0; i < 64 * 100; ++i) x.push_back(std::sin(0.7 * i) * std::exp(std::cos(0.013 * i)));
  const QuantisedRows once = quantise_rows(Tensor::from({64, 100}, x, DType::kF32)),
                      twice = quantise_rows(dequantised(once));
  EXPECT_TRUE(std::equal(once.row(0), once.row(64), twice.row(0)));
  for (int64_t j = 0; j < 64; ++j)
    EXPECT_FLOAT_EQ(once.scales.data<float>()[j], twice.scales.data<float>()[j]);
}

TEST(QuantisedRows, ARowThatIsNotFiniteStaysSo) {
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor back = dequantised(quantise_rows(Tensor::from({2, 2}, {1, inf, 1, 2}, DType::kF32)));
  EXPECT_TRUE(std::isnan(back.at({0, 0})));
  EXPECT_NEAR(back.at({1, 1}), 2, 1e-6);
}

}  // namespace
}  // namespace qkv
