// What holds of the row kernels in every family beyond closeness to float64 (rows_test.cc): stated errors of
// the vector functions, equal bits, which elements dropout keeps, and where NaN and infinity go.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "qkv/kernels/rows.h"
#include "qkv/kernels/rows_test_support.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

template <class T>
class RowProperties : public testing::Test {};
using FastTypes = testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(RowProperties, FastTypes);

// The functions of simd/math.h against double, in units in the last place of the float result. The bounds are
// the ones stated there, plus what the way in adds.
TEST(VectorMath, StaysWithinTheStatedErrors) {
  const auto ulps = [](double got, double truth) {
    const float f = static_cast<float>(std::abs(truth));
    return std::abs(got - truth) / (std::nextafter(f, 1e30f) - f);
  };
  for (Isa isa : fast_families()) {
    const auto& k = table_for(isa).f32.rows;
    const int64_t n = 400000;
    std::vector<float> x(n), y(n);
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(-12 + 24.0 * i / n);
    double worst = 0, most = 0;
    k.activation(n, Activation::kTanh, x.data(), y.data());
    for (int64_t i = 0; i < n; ++i) {
      worst = std::max(worst, ulps(y[i], std::tanh(double{x[i]})));
      most = std::max(most, std::abs(double{y[i]}));
    }
    EXPECT_LE(worst, 5.5) << "tanh";
    EXPECT_EQ(most, 1) << "tanh";
    k.activation(n, Activation::kGelu, x.data(), y.data());
    worst = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double truth = 0.5 * x[i] * std::erfc(-double{x[i]} / std::sqrt(2.0));
      worst = std::max(worst, std::abs(y[i] - truth) / std::max(1.0, std::abs(double{x[i]})));
    }
    EXPECT_LE(worst, 2.5e-7) << "gelu";
    // A softmax row 0, x, x', ...: its elements over its first are e^x, with two roundings more.
    for (int64_t i = 1; i < n; ++i) x[i] = static_cast<float>(-80.0 * i / n);
    x[0] = 0;
    k.softmax(1, n, x.data(), y.data());
    worst = 0;
    for (int64_t i = 1; i < n && y[i] > 1e-30f; ++i)
      worst = std::max(worst, ulps(double{y[i]} / y[0], std::exp(double{x[i]})));
    EXPECT_LE(worst, 1.04 + 2) << "exp";
    // n equal logits have -log softmax = log n.
    std::vector<float> same(5000, 3.5f);
    worst = 0;
    for (int64_t m = 2; m <= 5000; ++m) {
      float nll = 0;
      k.cross_entropy(m, same.data(), m - 1, 0, 1, nullptr, &nll);
      worst = std::max(worst, ulps(nll, std::log(static_cast<double>(m))));
    }
    EXPECT_LE(worst, 1) << "log";
  }
}

TEST(VectorMath, GivesTheSameBitsInEveryFamily) {
  const int64_t n = 100001;
  std::vector<float> x(n), first(n), y(n);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(-120 + 240.0 * i / n);
  for (Activation f : {Activation::kGelu, Activation::kGeluTanh, Activation::kSilu, Activation::kTanh,
                       Activation::kEluPlusOne}) {
    bool have = false;
    for (Isa isa : fast_families()) {
      table_for(isa).f32.rows.activation(n, f, x.data(), y.data());
      if (have) {
        EXPECT_EQ(std::memcmp(y.data(), first.data(), n * sizeof(float)), 0) << name(isa);
      }
      first = y;
      have = true;
    }
  }
}

// The layout's definition in rows.h, once more and from the text.
bool kept(const Dropout& dropout, uint64_t i) {
  const uint64_t g = i / 128, e = i % 128;
  const uint32_t word = random_block(dropout.key, 16 * g + (e % 32) / 2)[e / 32];
  return ((e % 2 == 0 ? word : word >> 16) & 0xffff) >= dropout.threshold;
}

TYPED_TEST(RowProperties, DropoutKeepsTheSameElementsAndBitsInEveryFamily) {
  using T = TypeParam;
  // The last place's Philox block number has more than 32 bits.
  for (int64_t first : {int64_t{0}, int64_t{128}, int64_t{128} * 77777, int64_t{128} * ((1 << 28) + 3)})
    for (uint32_t threshold : {0u, 1u, Dropout::threshold_of(0.1), 32768u, 65535u})
      for (int64_t n : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 127, 128, 129, 255, 256, 300, 1025}) {
        const Dropout dropout{.key = {.seed = 0x123456789abcdef0u, .stream = 5, .step = 9},
                              .threshold = threshold};
        const auto x = normals<T>(n, 1), r = normals<T>(n, 2);
        Buffer<T> bx(x), br(r), plain(n), plain_sum(n);
        const auto& ref = table_for(Isa::kRef).of<T>().rows;
        ref.dropout_add(n, first, bx, nullptr, dropout, plain);
        ref.dropout_add(n, first, bx, br, dropout, plain_sum);
        for (int64_t i = 0; i < n; ++i) {
          const double scaled =
              static_cast<double>(T(static_cast<float>(x[i]) * static_cast<float>(dropout.scale())));
          ASSERT_EQ(static_cast<double>(plain.data()[i]), kept(dropout, first + i) ? scaled : 0.0)
              << first + i;
        }
        for (Isa isa : fast_families()) {
          const auto& k = table_for(isa).of<T>().rows;
          Buffer<T> y(n, 3), sum(n, 3);
          k.dropout_add(n, first, bx, nullptr, dropout, y);
          k.dropout_add(n, first, bx, br, dropout, sum);
          ASSERT_EQ(std::memcmp(y.data(), plain.data(), n * sizeof(T)), 0) << n << name(isa);
          ASSERT_EQ(std::memcmp(sum.data(), plain_sum.data(), n * sizeof(T)), 0) << n << name(isa);
          ASSERT_TRUE(y.guards_untouched() && sum.guards_untouched()) << n;
          k.dropout_add(n, first, bx, sum, dropout, sum);  // in place, on the residual and on x
          k.dropout_add(n, first, y, nullptr, dropout, y);
          ASSERT_TRUE(y.guards_untouched() && sum.guards_untouched()) << n;
        }
      }
}

TEST(Dropout, KeepsTheShareAskedForAndTheExpectation) {
  const int64_t n = 1 << 20;
  const std::vector<float> ones(n, 1.0f);
  std::vector<float> y(n);
  for (double p : {0.1, 0.3, 0.5}) {
    const Dropout dropout{.key = {.seed = 3}, .threshold = Dropout::threshold_of(p)};
    table().f32.rows.dropout_add(n, 0, ones.data(), nullptr, dropout, y.data());
    double sum = 0, zeros = 0, both = 0;
    for (int64_t i = 0; i < n; ++i) {
      sum += y[i];
      zeros += y[i] == 0;
      both += i > 0 && y[i] == 0 && y[i - 1] == 0;
    }
    const double sigma = std::sqrt(p * (1 - p) / n);
    EXPECT_NEAR(zeros / n, p, 5 * sigma);
    EXPECT_NEAR(sum / n, 1, 5 * sigma / (1 - p));
    EXPECT_NEAR(both / n, p * p, 5 * std::sqrt(p * p / n));  // neighbours are dropped independently
  }
}

TYPED_TEST(RowProperties, ARowsResultDoesNotDependOnItsNeighbours) {
  using T = TypeParam;
  for (Isa isa : fast_families())
    for (int64_t d : {5, 37, 256}) {
      const auto& k = table_for(isa).of<T>().rows;
      const int64_t rows = 6;
      Buffer<T> x(normals<T>(rows * d, 1)), y(rows * d), alone(rows * d), dx(rows * d), dx_alone(rows * d);
      Buffer<float> g(normals<float>(d, 2)), b(normals<float>(d, 3)), mean(rows), rstd(rows), sink(d),
          sink2(d);
      x.data()[2 * d + d / 2] = T(std::numeric_limits<float>::quiet_NaN());  // row 2 is poisoned
      k.layer_norm(rows, d, x, g, b, 1e-5f, y, mean, rstd);
      k.layer_norm_backward(rows, d, x, x, g, mean, rstd, dx, sink, sink2);
      for (int64_t r = 0; r < rows; ++r) {
        k.layer_norm(1, d, x + r * d, g, b, 1e-5f, alone + r * d, mean + r, rstd + r);
        k.layer_norm_backward(1, d, x + r * d, x + r * d, g, mean + r, rstd + r, dx_alone + r * d, sink,
                              sink2);
      }
      EXPECT_EQ(std::memcmp(y, alone, rows * d * sizeof(T)), 0) << d;
      EXPECT_EQ(std::memcmp(dx, dx_alone, rows * d * sizeof(T)), 0) << d;
      k.softmax(rows, d, x, dx);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < d; ++i) {
          EXPECT_EQ(std::isnan(float(y[r * d + i])), r == 2) << r;
          EXPECT_EQ(std::isnan(float(dx[r * d + i])), r == 2) << r;
        }
    }
}

TYPED_TEST(RowProperties, NaNStaysInItsElementOrColumn) {
  using T = TypeParam;
  for (Isa isa : all_families()) {
    const auto& k = table_for(isa).of<T>().rows;
    const int64_t n = 45, at = 21;
    Buffer<T> x(normals<T>(n, 1)), y(n), z(normals<T>(n, 2));
    x.data()[at] = T(std::numeric_limits<float>::quiet_NaN());
    const auto only_there = [&](const Buffer<T>& out) {
      for (int64_t i = 0; i < n; ++i) EXPECT_EQ(std::isnan(out.values()[i]), i == at) << i << name(isa);
    };
    for (Activation f : {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu,
                         Activation::kTanh, Activation::kEluPlusOne}) {
      k.activation(n, f, x, y);
      only_there(y);
    }
    k.add(n, x, z, y);
    only_there(y);
    Buffer<float> sums(9);
    k.column_sum(5, 9, x, 9, sums);
    for (int64_t c = 0; c < 9; ++c) EXPECT_EQ(std::isnan(sums[c]), c == at % 9) << c;
  }
}

TYPED_TEST(RowProperties, SoftmaxOfNothingIsZeroAndOfOneIsOne) {
  using T = TypeParam;
  for (Isa isa : all_families())
    for (int64_t d = 1; d <= 70; ++d) {
      std::vector<double> x(3 * d, -kInf), expected(3 * d, 0.0);
      x[d + d / 2] = 1e4;  // row 1 sees one element
      expected[d + d / 2] = 1;
      x[2 * d] = std::numeric_limits<double>::quiet_NaN();  // NaN among -inf is not nothing
      Buffer<T> bx(x), y(3 * d);
      table_for(isa).of<T>().rows.softmax(3, d, bx, y);
      const auto got = y.values();
      for (int64_t i = 0; i < 2 * d; ++i) ASSERT_EQ(got[i], expected[i]) << d << name(isa);
      for (int64_t i = 2 * d; i < 3 * d; ++i) ASSERT_TRUE(std::isnan(got[i])) << d << name(isa);
    }
}

TYPED_TEST(RowProperties, CrossEntropyIsLogNOfEqualLogitsAndIgnoresMaskedClasses) {
  using T = TypeParam;
  for (Isa isa : all_families()) {
    const auto& k = table_for(isa).of<T>().rows;
    std::vector<float> logits(37, -5000.0f);
    float nll = 0;
    Buffer<T> d(37);
    EXPECT_NEAR(k.cross_entropy(37, logits.data(), 4, 0.2f, 37.0f, d, &nll), std::log(37.0), 1e-6);
    EXPECT_NEAR(nll, std::log(37.0), 1e-6);
    // 37 (1/37 - q): 1 - 37 * 0.8 - 0.2 at the target, 1 - 0.2 elsewhere
    EXPECT_NEAR(d.values()[4], 0.8 - 37 * 0.8, 40 * unit<T>());
    EXPECT_NEAR(d.values()[5], 0.8, 4 * unit<T>());
    logits[7] = -std::numeric_limits<float>::infinity();
    EXPECT_NEAR(k.cross_entropy(37, logits.data(), 4, 0, 1, d, &nll), std::log(36.0), 1e-6);
    EXPECT_EQ(d.values()[7], 0);
    EXPECT_EQ(k.cross_entropy(37, logits.data(), 7, 0, 1, nullptr, &nll), float(kInf));
  }
}

}  // namespace
}  // namespace qkv::kernels
