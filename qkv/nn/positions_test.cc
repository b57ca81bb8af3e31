#include "qkv/nn/positions.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/base/testing.h"

namespace qkv {
namespace {

// d = 4: frequencies 1 and 10000^(-2/4) = 1/100.
TEST(SinusoidalPositions, ByHand) {
  const Tensor t = sinusoidal_positions(3, 4, DType::kF64);
  EXPECT_EQ(t.rows(0, 1).values(), (std::vector<double>{0, 0, 1, 1}));
  const double expected[] = {std::sin(2.0), std::sin(0.02), std::cos(2.0), std::cos(0.02)};
  for (int64_t j = 0; j < 4; ++j) EXPECT_NEAR(t.at({2, j}), expected[j], 1e-15);
}

// Section 3.5 writes PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) = cos(same): here the evens come
// first, then the odds.
TEST(SinusoidalPositions, AreThePapersWithItsFeaturesSorted) {
  for (int64_t d : {2, 6, 64, 512}) {
    const Tensor t = sinusoidal_positions(513, d, DType::kF64);
    EXPECT_EQ(t.shape(), (Shape{513, d}));
    for (int64_t pos : {0, 1, 17, 512})
      for (int64_t feature = 0; feature < d; ++feature) {
        const int64_t i = feature / 2;
        const double angle = static_cast<double>(pos) /
                             std::pow(10000.0, 2.0 * static_cast<double>(i) / static_cast<double>(d));
        const double expected = feature % 2 == 0 ? std::sin(angle) : std::cos(angle);
        const int64_t here = feature % 2 == 0 ? i : d / 2 + i;
        EXPECT_NEAR(t.at({pos, here}), expected, 1e-12) << d << " " << pos << " " << feature;
      }
  }
}

// "For any fixed offset k, PE(pos + k) can be represented as a linear function of PE(pos)": so the product of
// two positions depends on their distance alone.
TEST(SinusoidalPositions, MeetByDistanceAlone) {
  const int64_t d = 32;
  const Tensor t = sinusoidal_positions(200, d, DType::kF64);
  const auto product = [&](int64_t p, int64_t q) {
    double sum = 0;
    for (int64_t j = 0; j < d; ++j) sum += t.at({p, j}) * t.at({q, j});
    return sum;
  };
  for (int64_t distance : {0, 1, 5, 60})
    for (int64_t p : {0, 3, 77, 139}) EXPECT_NEAR(product(p, p + distance), product(0, distance), 1e-12);
  EXPECT_NEAR(product(9, 9), d / 2, 1e-12);
}

TEST(SinusoidalPositions, RefuseAnOddWidth) {
  EXPECT_ERROR(kValue, "d_model 5 is odd", sinusoidal_positions(3, 5, DType::kF32));
  EXPECT_EQ(sinusoidal_positions(0, 4, DType::kF32).shape(), (Shape{0, 4}));
  EXPECT_EQ(sinusoidal_positions(3, 4, DType::kBF16).dtype(), DType::kBF16);
}

}  // namespace
}  // namespace qkv
