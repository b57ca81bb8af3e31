#include "qkv/tensor/matmul.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using Values = std::vector<double>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kBF16};

Tensor normal(const Shape& shape, DType dtype, uint64_t seed) {
  RandomStream random({.seed = seed, .stream = 1});
  Values values(static_cast<size_t>(shape.numel()));
  for (double& x : values) x = random.normal();
  return Tensor::from(shape, values, dtype);
}

// Whole numbers of -6 .. 6: products and sums of a few hundred are exact in every type that sums are kept in,
// so results need no tolerance.
Tensor whole(const Shape& shape, DType dtype, uint64_t seed) {
  RandomStream random({.seed = seed, .stream = 2});
  Values values(static_cast<size_t>(shape.numel()));
  for (double& x : values) x = static_cast<double>(random.below(13)) - 6;
  return Tensor::from(shape, values, dtype);
}

// A view with `gap` columns of NaN to its left and right, which nobody may read.
Tensor with_gaps(const Tensor& t, int64_t gap) {
  const Tensor wide = Tensor::full({t.size(0), t.size(1) + 2 * gap}, t.dtype(), std::nan(""));
  const Tensor view = wide.columns(gap, gap + t.size(1));
  view.copy_from(t);
  return view;
}

// The definition: c(i, j) = sum_p a(i, p) b(p, j), and the sum of the terms' sizes, which bounds its error.
struct Product {
  Values sum, size;
};
Product product(const Tensor& a, const Tensor& b) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  const Values x = a.values(), y = b.values();
  Product c{Values(static_cast<size_t>(m * n), 0), Values(static_cast<size_t>(m * n), 0)};
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t p = 0; p < k; ++p) {
        const double term = x[i * k + p] * y[p * n + j];
        c.sum[i * n + j] += term;
        c.size[i * n + j] += std::abs(term);
      }
  return c;
}

// Half the distance from 1 to the next number of the type.
double unit_roundoff(DType dtype) {
  return dtype == DType::kF64   ? std::ldexp(1, -53)
         : dtype == DType::kF32 ? std::ldexp(1, -24)
                                : std::ldexp(1, -8);
}

// A sum of k terms in any order is within k u of the sum of the terms' sizes (Higham, Accuracy and Stability,
// 3.1); then the result is rounded once to its type. The reference's own f64 error counts as well.
void expect_product(const Tensor& got, const Product& expected, int64_t k, const std::string& what) {
  const double u = unit_roundoff(accumulator_dtype(got.dtype())), v = unit_roundoff(got.dtype());
  const Values values = got.values();
  ASSERT_EQ(values.size(), expected.sum.size()) << what;
  for (size_t i = 0; i < values.size(); ++i) {
    const double bound =
        2 * static_cast<double>(k) * u * expected.size[i] + 1.01 * v * std::abs(expected.sum[i]);
    ASSERT_LE(std::abs(values[i] - expected.sum[i]), bound) << what << " element " << i;
  }
}

std::string text(DType dtype, int64_t m, int64_t k, int64_t n) {
  return fmt::format("{} [{}, {}] [{}, {}]", name(dtype), m, k, k, n);
}

TEST(Matmul, ByHand) {
  const Tensor a = Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6}), b = Tensor::from({3, 2}, {1, 0, -1, 2, 0.5, 1});
  const Tensor out = Tensor::empty({2, 2}, DType::kF32);
  matmul(a, pack_matrix(b, DType::kF32), out);
  EXPECT_EQ(out.values(), (Values{0.5, 7, 2, 16}));
}

// a b, a b^T and a^T b, rows and columns straddling the kernels' tiles, operands that are parts of wider
// ones.
TEST(Matmul, AgreesWithADoubleLoopInEveryOrientation) {
  const int64_t sizes[][3] = {{1, 1, 1},    {1, 64, 33},   {2, 3, 5},      {5, 7, 63},    {17, 65, 15},
                              {64, 64, 64}, {65, 130, 31}, {130, 33, 129}, {200, 257, 97}};
  for (DType dtype : kDTypes)
    for (const auto& [m, k, n] : sizes) {
      const std::string what = text(dtype, m, k, n);
      const DType sums = accumulator_dtype(dtype);
      const Tensor a = with_gaps(normal({m, k}, dtype, 1), 3), b = with_gaps(normal({k, n}, dtype, 2), 5);
      const Product expected = product(a, b);
      const Tensor rounded = Tensor::full({m, n}, dtype, 77), kept = Tensor::full({m, n}, sums, 77);

      matmul(a, pack_matrix(b, dtype), rounded);
      expect_product(rounded, expected, k, "NN " + what);
      matmul(a, pack_matrix(b, dtype), kept);
      expect_product(kept, expected, k, "NN into sums " + what);

      const Tensor bt = with_gaps(b.transpose(0, 1).clone(), 2);  // [n, k], as weights lie
      matmul(a, pack_matrix(bt.transpose(0, 1), dtype), rounded);
      expect_product(rounded, expected, k, "NT " + what);
      matmul(a, pack_matrix(bt.transpose(0, 1).to(sums), dtype), rounded);  // from masters
      expect_product(rounded, expected, k, "NT of masters " + what);

      const Tensor at = with_gaps(a.transpose(0, 1).clone(), 1);  // [k, m]
      const Tensor sum = Tensor::zeros({m, n}, sums);
      add_transposed_product(at, b, sum);
      expect_product(sum, expected, k, "TN " + what);
    }
}

// Sums past the 512 rows of a block, and onto what is there already.
TEST(AddTransposedProduct, AddsOnAndCrossesItsBlocks) {
  for (DType dtype : kDTypes)
    for (int64_t m : {0, 1, 511, 512, 513, 1100}) {
      const Tensor y = with_gaps(whole({m, 37}, dtype, 3), 2), x = with_gaps(whole({m, 21}, dtype, 4), 2);
      const Tensor out = Tensor::full({37, 21}, accumulator_dtype(dtype), 5);
      add_transposed_product(y, x, out);
      Values expected = product(y.transpose(0, 1).clone(), x).sum;
      for (double& e : expected) e += 5;
      EXPECT_EQ(out.values(), expected) << name(dtype) << " " << m;
    }
}

TEST(AddTransposedProduct, AddsUpTheColumnsMeanwhile) {
  for (DType dtype : kDTypes)
    for (int64_t m : {0, 1, 511, 513, 1100}) {
      const Tensor y = with_gaps(whole({m, 300}, dtype, 3), 2), x = with_gaps(whole({m, 21}, dtype, 4), 2);
      const DType sums = accumulator_dtype(dtype);
      const Tensor out = Tensor::zeros({300, 21}, sums), got = Tensor::full({300}, sums, 5),
                   want = Tensor::full({300}, sums, 5);
      add_transposed_product(y, x, out, got);
      add_column_sum(y, want);
      EXPECT_EQ(got.values(), want.values()) << name(dtype) << " " << m;
      EXPECT_EQ(out.values(), product(y.transpose(0, 1).clone(), x).sum) << name(dtype) << " " << m;
    }
}

TEST(TransposedProduct, OverwritesWhatIsThere) {
  for (DType dtype : kDTypes)
    for (int64_t m : {0, 1, 511, 512, 513, 1100}) {
      const Tensor y = with_gaps(whole({m, 37}, dtype, 3), 2), x = with_gaps(whole({m, 21}, dtype, 4), 2);
      const Tensor out = Tensor::full({37, 21}, accumulator_dtype(dtype), kNan);
      transposed_product(y, x, out);
      EXPECT_EQ(out.values(), product(y.transpose(0, 1).clone(), x).sum) << name(dtype) << " " << m;
    }
}

// x packed by several threads in two buffers in turn, y in more strips than one.
TEST(AddTransposedProduct, IsTheSameOnAnyNumberOfThreads) {
  const int before = threads();
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor y = whole({1600, 300}, dtype, 3), x = whole({1600, 100}, dtype, 4);
    const Values expected = product(y.transpose(0, 1).clone(), x).sum;
    for (int count : {1, 2, 3, 8})
      for (int round = 0; round < 10; ++round) {
        set_threads(count);
        const Tensor out = Tensor::zeros({300, 100}, accumulator_dtype(dtype));
        add_transposed_product(y, x, out);
        ASSERT_EQ(out.values(), expected) << name(dtype) << " on " << count << " threads";
      }
  }
  set_threads(before);
}

TEST(AddColumnSum, AddsOn) {
  for (DType dtype : kDTypes)
    for (int64_t m : {0, 1, 255, 256, 700}) {
      const Tensor x = with_gaps(whole({m, 67}, dtype, 5), 2);
      const Tensor out = Tensor::full({67}, accumulator_dtype(dtype), 2);
      add_column_sum(x, out);
      Values expected(67, 2);
      const Values v = x.values();
      for (size_t i = 0; i < v.size(); ++i) expected[i % 67] += v[i];
      EXPECT_EQ(out.values(), expected) << name(dtype) << " " << m;
    }
}

// Shapes, gaps and values from everywhere; whole numbers, so that not one bit may differ.
RC_GTEST_PROP(Matmul, OfWholeNumbersIsExactForAnyShape, ()) {
  const DType dtype = *rc::gen::elementOf(std::vector<DType>(std::begin(kDTypes), std::end(kDTypes)));
  const auto m = *rc::gen::inRange<int64_t>(0, 100), n = *rc::gen::inRange<int64_t>(0, 150);
  const auto k = *rc::gen::inRange<int64_t>(0, 200), gap = *rc::gen::inRange<int64_t>(0, 9);
  const bool transposed = *rc::gen::arbitrary<bool>(), add_on = *rc::gen::arbitrary<bool>();
  const auto seed = *rc::gen::arbitrary<uint64_t>();
  const Tensor a = with_gaps(whole({m, k}, dtype, seed), gap);
  const Tensor b = transposed ? with_gaps(whole({n, k}, dtype, seed + 1), gap).transpose(0, 1)
                              : with_gaps(whole({k, n}, dtype, seed + 1), gap);
  const Tensor out = with_gaps(whole({m, n}, accumulator_dtype(dtype), seed + 2), gap);
  Values expected = product(a, b).sum;
  if (add_on) {
    const Values before = out.values();
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
  }
  matmul(a, pack_matrix(b, dtype), out, {.accumulate = add_on});
  RC_ASSERT(out.values() == expected);
  const Tensor transposed_sum = Tensor::zeros({k, n}, accumulator_dtype(dtype));
  const Tensor y = whole({m, n}, dtype, seed + 3);
  add_transposed_product(a, y, transposed_sum);
  RC_ASSERT(transposed_sum.values() == product(a.transpose(0, 1).clone(), y).sum);
}

// A small product, one that threads split by rows, and one that they split by columns.
TEST(Matmul, AddsABiasAndKeepsWhatWasThereBeforeTheActivation) {
  const int64_t sizes[][3] = {{9, 20, 35}, {200, 40, 35}, {3, 120, 300}};
  for (DType dtype : kDTypes)
    for (const auto& [m, k, n] : sizes) {
      const Tensor a = whole({m, k}, dtype, 1), b = whole({k, n}, dtype, 2);
      const Tensor bias = whole({n}, accumulator_dtype(dtype), 3);
      const Tensor out = Tensor::empty({m, n}, dtype), before = Tensor::empty({m, n}, dtype);
      matmul(a, pack_matrix(b, dtype), out,
             {.bias = bias, .activation = Activation::kRelu, .pre_activation = before});
      Values expected = product(a, b).sum;
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += bias.at({static_cast<int64_t>(i) % n});
      expected = Tensor::from({m, n}, expected, dtype).values();  // rounded
      EXPECT_EQ(before.values(), expected) << text(dtype, m, k, n);
      for (double& x : expected) x = std::max(x, 0.0);
      EXPECT_EQ(out.values(), expected) << text(dtype, m, k, n);
    }
}

// By rows and by columns over the threads, as above.
TEST(Matmul, AddsAResidualAndGoesBackThroughAnActivation) {
  const int64_t sizes[][3] = {{9, 20, 35}, {200, 40, 35}, {3, 120, 300}};
  for (DType dtype : kDTypes)
    for (const auto& [m, k, n] : sizes) {
      const Tensor a = whole({m, k}, dtype, 1), b = whole({k, n}, dtype, 2), beside = whole({m, n}, dtype, 3);
      const Tensor sum = Tensor::empty({m, n}, dtype), back = Tensor::empty({m, n}, dtype);
      matmul(a, pack_matrix(b, dtype), sum, {.residual = beside});
      matmul(a, pack_matrix(b, dtype), back, {.activation = Activation::kRelu, .derivative_at = beside});
      const Values products = product(a, b).sum, at = beside.values();
      Values sums = products, backs = products;
      for (size_t i = 0; i < products.size(); ++i) sums[i] += at[i], backs[i] *= at[i] > 0 ? 1 : 0;
      EXPECT_EQ(sum.values(), Tensor::from({m, n}, sums, dtype).values()) << text(dtype, m, k, n);
      EXPECT_EQ(back.values(), Tensor::from({m, n}, backs, dtype).values()) << text(dtype, m, k, n);
    }
}

// What ruling 5 of the design rests on: a row's bits do not depend on the other rows nor on the threads.
TEST(Matmul, ARowHasTheSameBitsAloneAndOnAnyNumberOfThreads) {
  const int before = threads();
  for (DType dtype : kDTypes) {
    const int64_t m = 150, k = 77, n = 90;
    const Tensor a = normal({m, k}, dtype, 1);
    const PackedMatrix b = pack_matrix(normal({k, n}, dtype, 2), dtype);
    std::vector<Values> results;
    for (int count : {1, 2, 3, 8}) {
      set_threads(count);
      const Tensor out = Tensor::empty({m, n}, accumulator_dtype(dtype));
      matmul(a, b, out);
      const Tensor weight = Tensor::zeros({k, n}, accumulator_dtype(dtype));
      add_transposed_product(a, normal({m, n}, dtype, 3), weight);
      Values both = out.values();
      for (double w : weight.values()) both.push_back(w);
      results.push_back(both);
    }
    for (const Values& r : results) EXPECT_EQ(r, results[0]) << name(dtype);
    for (int64_t i : {int64_t{0}, int64_t{63}, m - 1}) {
      const Tensor row = Tensor::empty({1, n}, accumulator_dtype(dtype));
      matmul(a.rows(i, i + 1), b, row);
      EXPECT_EQ(row.values(), Values(results[0].begin() + i * n, results[0].begin() + (i + 1) * n))
          << name(dtype);
    }
  }
  set_threads(before);
}

TEST(Matmul, OfEightBitWeightsIsWithinHalfAStepOfEachFactor) {
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (int64_t m : {1, 40}) {
      const int64_t k = 70, n = 50;
      const Tensor a = with_gaps(normal({m, k}, dtype, 1), 3), w = normal({n, k}, DType::kF32, 2),
                   bias = normal({n}, DType::kF32, 3);
      const PackedMatrix b = pack_matrix_int8(w.transpose(0, 1), dtype);
      const Tensor out = Tensor::empty({m, n}, DType::kF32), rounded = Tensor::empty({m, n}, dtype);
      matmul(a, b, out, {.bias = bias, .activation = Activation::kRelu});
      matmul(a, b, rounded, {.bias = bias, .activation = Activation::kRelu});
      EXPECT_EQ(rounded.values(), out.to(dtype).values());
      const Values x = a.contiguous().values(), y = w.values(), z = bias.values(), got = out.values();
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double sum = z[j], most_x = 0, most_y = 0, sizes = 0;
          for (int64_t p = 0; p < k; ++p)
            most_x = std::max(most_x, std::abs(x[i * k + p])),
            most_y = std::max(most_y, std::abs(y[j * k + p]));
          for (int64_t p = 0; p < k; ++p) {
            sum += x[i * k + p] * y[j * k + p];
            sizes +=
                std::abs(x[i * k + p]) * most_y + std::abs(y[j * k + p]) * most_x + most_x * most_y / 254;
          }
          ASSERT_NEAR(got[i * n + j], std::max(0.0, sum), 1.01 * sizes / 254);
        }
      // A row has the same bits alone and on any number of threads.
      const int before = threads();
      for (int count : {1, 2, 3}) {
        set_threads(count);
        const Tensor again = Tensor::empty({m, n}, DType::kF32), row = Tensor::empty({1, n}, DType::kF32);
        matmul(a, b, again, {.bias = bias, .activation = Activation::kRelu});
        matmul(a.rows(m - 1, m), b, row, {.bias = bias, .activation = Activation::kRelu});
        EXPECT_EQ(again.values(), got);
        EXPECT_EQ(row.values(), out.rows(m - 1, m).values());
      }
      set_threads(before);
    }
}

TEST(Matmul, CountsItsOperations) {
  const int64_t before = flop_count();
  const Tensor a = whole({3, 4}, DType::kF32, 1), b = whole({4, 5}, DType::kF32, 2);
  matmul(a, pack_matrix(b, DType::kF32), Tensor::empty({3, 5}, DType::kF32));
  EXPECT_EQ(flop_count() - before, 2 * 3 * 4 * 5);
  add_transposed_product(a, Tensor::zeros({3, 7}, DType::kF32), Tensor::zeros({4, 7}, DType::kF32));
  EXPECT_EQ(flop_count() - before, 2 * 3 * 4 * 5 + 2 * 3 * 4 * 7);
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  const auto f32 = [](std::initializer_list<int64_t> shape) { return Tensor::zeros(shape, DType::kF32); };
  const PackedMatrix b = pack_matrix(f32({4, 5}), DType::kF32);
  EXPECT_ERROR(kShape, "[3, 3] times [4, 5] does not give [3, 5]", matmul(f32({3, 3}), b, f32({3, 5})));
  EXPECT_ERROR(kShape, "does not give [3, 4]", matmul(f32({3, 4}), b, f32({3, 4})));
  EXPECT_ERROR(kShape, "a is [4], needs to be a matrix", matmul(f32({4}), b, f32({1, 5})));
  EXPECT_ERROR(kShape, "a is undefined", matmul(Tensor(), b, f32({1, 5})));
  EXPECT_ERROR(kShape, "adjacent", matmul(f32({4, 3}).transpose(0, 1), b, f32({3, 5})));
  EXPECT_ERROR(kDtype, "a is f64, b was packed for f32",
               matmul(Tensor::zeros({3, 4}, DType::kF64), b, f32({3, 5})));
  EXPECT_ERROR(kDtype, "asked for f32 data, holds f64",
               matmul(f32({3, 4}), b, Tensor::zeros({3, 5}, DType::kF64)));
  EXPECT_ERROR(kShape, "bias is [4], needs 5 elements",
               matmul(f32({3, 4}), b, f32({3, 5}), {.bias = f32({4})}));
  EXPECT_ERROR(kShape, "pre_activation is [3, 4]",
               matmul(f32({3, 4}), b, f32({3, 5}), {.pre_activation = f32({3, 4})}));
  EXPECT_ERROR(kShape, "residual is [3, 4]", matmul(f32({3, 4}), b, f32({3, 5}), {.residual = f32({3, 4})}));
  EXPECT_ERROR(kUnsupported, "accumulate goes with neither",
               matmul(f32({3, 4}), b, f32({3, 5}), {.residual = f32({3, 5}), .accumulate = true}));
  EXPECT_ERROR(kUnsupported, "derivative_at goes with neither",
               matmul(f32({3, 4}), b, f32({3, 5}), {.bias = f32({5}), .derivative_at = f32({3, 5})}));
  EXPECT_ERROR(kShape, "pack_matrix: needs a matrix", pack_matrix(f32({4}), DType::kF32));
  EXPECT_ERROR(
      kUnsupported, "8-bit weights are for running",
      matmul(f32({3, 4}), pack_matrix_int8(f32({4, 5}), DType::kF32), f32({3, 5}), {.accumulate = true}));
  EXPECT_ERROR(kDtype, "8-bit products take and give f32 or bf16, not f64",
               pack_matrix_int8(Tensor::zeros({4, 5}, DType::kF64), DType::kF64));
  EXPECT_ERROR(kShape, "sums over 65537 may overflow, 65536 may not",
               pack_matrix_int8(f32({65537, 1}), DType::kF32));
  EXPECT_ERROR(kDtype, "cannot pack f64 for f32",
               pack_matrix(Tensor::zeros({2, 2}, DType::kF64), DType::kF32));
  EXPECT_ERROR(kDtype, "i32 is not a type of activations",
               pack_matrix(Tensor::zeros({2, 2}, DType::kI32), DType::kI32));
  EXPECT_ERROR(kShape, "[3, 4]^T [2, 5] does not give [4, 5]",
               add_transposed_product(f32({3, 4}), f32({2, 5}), f32({4, 5})));
  EXPECT_ERROR(kShape, "does not give [5, 4]", add_transposed_product(f32({3, 4}), f32({3, 5}), f32({5, 4})));
  EXPECT_ERROR(kDtype, "holds f32",
               add_transposed_product(Tensor::zeros({3, 4}, DType::kF64), f32({3, 5}), f32({4, 5})));
  EXPECT_ERROR(kShape, "the sum over the rows of [3, 4] does not give [3]",
               add_column_sum(f32({3, 4}), f32({3})));
}

}  // namespace
}  // namespace qkv
