#include "qkv/attention/rope.h"

#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;

Tensor turned(const RopeOptions& options, int64_t d_k, std::vector<double> x, int64_t position) {
  const int64_t width = static_cast<int64_t>(x.size());
  return Rope(d_k, options)(Var(Tensor::from({1, width}, x, DType::kF64)), Segments({1}, {position}),
                            width / d_k)
      .value();
}

TEST(Rope, TurnsEachPairByItsAngle) {
  const Tensor halves = turned({}, 4, {1, 2, 3, 4}, 5);  // pairs (1, 3) at 1, (2, 4) at 10000^(-1/2)
  EXPECT_NEAR(halves.at({0, 0}), std::cos(5.0) - 3 * std::sin(5.0), 1e-12);
  EXPECT_NEAR(halves.at({0, 2}), std::sin(5.0) + 3 * std::cos(5.0), 1e-12);
  EXPECT_NEAR(halves.at({0, 1}), 2 * std::cos(0.05) - 4 * std::sin(0.05), 1e-12);
  const Tensor interleaved = turned({.interleaved = true}, 4, {1, 3, 2, 4}, 5);
  EXPECT_NEAR(interleaved.at({0, 1}), halves.at({0, 2}), 1e-12);
  EXPECT_NEAR(interleaved.at({0, 2}), halves.at({0, 1}), 1e-12);
  const Tensor part = turned({.rotary_dims = 2}, 4, {1, 2, 3, 4, 5, 6, 7, 8}, 5);
  EXPECT_NEAR(part.at({0, 4}), 5 * std::cos(5.0) - 6 * std::sin(5.0), 1e-12);
  EXPECT_EQ(part.at({0, 2}), 3);
  EXPECT_EQ(part.at({0, 7}), 8);
}

TEST(Rope, DotProductsDependOnTheDistanceAlone) {
  for (bool interleaved : {false, true}) {
    const RopeOptions options{.interleaved = interleaved};
    const std::vector<double> q{0.3, -1, 2, 0.7, 1, 1}, k{1, 0.2, -0.5, 2, 0.1, -1};
    const auto product = [&](int64_t i, int64_t j) {
      const Tensor a = turned(options, 6, q, i), b = turned(options, 6, k, j);
      double sum = 0;
      for (int64_t d = 0; d < 6; ++d) sum += a.at({0, d}) * b.at({0, d});
      return sum;
    };
    EXPECT_NEAR(product(3, 1), product(1002, 1000), 1e-9);
    EXPECT_NEAR(product(1, 30), product(71, 100), 1e-9);
  }
}

TEST(Rope, CountsFromThePast) {
  const Rope rope(8, {});
  const Tensor x = random_tensor({7, 16}, 1);
  const Tensor whole = rope(Var(x), Segments({5, 2}), 2).value();
  const Tensor step = rope(Var(x.rows(3, 5)), Segments({2}, {3}), 2).value();
  EXPECT_EQ(max_difference(step, whole.rows(3, 5)), 0);
  EXPECT_EQ(max_difference(whole.rows(5, 6), x.rows(5, 6)), 0) << "position 0 of the second sequence";
}

TEST(Rope, GradientsMatchFiniteDifferences) {
  for (const RopeOptions& o :
       {RopeOptions{}, RopeOptions{.rotary_dims = 4, .interleaved = true},
        RopeOptions{.scaling = {.kind = RopeScaling::Kind::kYarn, .factor = 4, .original_max_len = 32}}}) {
    const Rope rope(6, o);
    const Segments segments({2, 0, 3}, {4, 0, 0});
    EXPECT_EQ(gradcheck([&](const auto& x) { return rope(x[0], segments, 2); }, {random_tensor({5, 12}, 1)}),
              "");
  }
}

// Frequencies as the Transformers library (modeling_rope_utils.py) computes them.
TEST(Rope, ScalesFrequenciesAsPublished) {
  using Kind = RopeScaling::Kind;
  const auto frequencies = [](int64_t d, double base, const RopeScaling& s) {
    return Rope(d, {.base = base, .scaling = s}).frequencies();
  };
  const std::vector<double> plain = frequencies(8, 10000, {});
  for (size_t p = 0; p < 4; ++p) {
    EXPECT_NEAR(plain[p], std::pow(10000.0, -static_cast<double>(p) / 4), 1e-12);
    EXPECT_NEAR(frequencies(8, 10000, {.kind = Kind::kLinear, .factor = 4})[p], plain[p] / 4, 1e-12);
  }
  // NTK-aware: the fastest pair stays, the slowest is squeezed by the factor.
  const std::vector<double> ntk = frequencies(8, 10000, {.kind = Kind::kNtk, .factor = 4});
  EXPECT_EQ(ntk[0], 1);
  EXPECT_NEAR(ntk[3], plain[3] / 4, 1e-12);
  // Llama 3.1: d 128, base 500,000, factor 8, 1 and 4, 8,192.
  const RopeScaling llama{.kind = Kind::kLlama3, .factor = 8, .original_max_len = 8192};
  const std::vector<double> l0 = frequencies(128, 500000, {}), l = frequencies(128, 500000, llama);
  EXPECT_EQ(l[0], 1);
  EXPECT_EQ(l[28], l0[28]);
  EXPECT_NEAR(l[63], l0[63] / 8, 1e-18);
  const double turns = 8192 * l0[32] / (2 * std::numbers::pi), keep = (turns - 1) / 3;
  ASSERT_TRUE(keep > 0 && keep < 1);
  EXPECT_NEAR(l[32], (1 - keep) * l0[32] / 8 + keep * l0[32], 1e-15);
  // YaRN: d 128, base 10,000, factor 16, 4,096: pairs below 20 stay, from 46 on they are divided.
  const RopeScaling yarn{.kind = Kind::kYarn, .factor = 16, .original_max_len = 4096};
  const std::vector<double> y0 = frequencies(128, 10000, {}), y = frequencies(128, 10000, yarn);
  EXPECT_EQ(y[20], y0[20]);
  EXPECT_LT(y[21], y0[21]);
  EXPECT_NEAR(y[46], y0[46] / 16, 1e-15);
  EXPECT_GT(y[45], y0[45] / 16);
  EXPECT_NEAR(Rope(128, {.scaling = yarn}).attention_factor(), 0.1 * std::log(16.0) + 1, 1e-12);
}

TEST(Rope, RefusesSizesThatMeanNothing) {
  EXPECT_THROW(Rope(5, {}), Error);
  EXPECT_THROW(Rope(4, {.rotary_dims = 6}), Error);
  EXPECT_THROW(Rope(4, {.base = 1}), Error);
  EXPECT_THROW(Rope(4, {.scaling = {.kind = RopeScaling::Kind::kLinear, .factor = 0}}), Error);
  EXPECT_THROW(Rope(4, {.scaling = {.kind = RopeScaling::Kind::kYarn, .factor = 2}}), Error);
  for (const double turns : {-1.0, 0.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    RopeScaling yarn{.kind = RopeScaling::Kind::kYarn, .factor = 2, .original_max_len = 8};
    yarn.beta_fast = turns;
    EXPECT_ERROR(kValue, "beta_fast", Rope(4, {.scaling = yarn}));
    yarn = {.kind = yarn.kind, .factor = 2, .original_max_len = 8, .beta_slow = turns};
    EXPECT_ERROR(kValue, "beta_slow", Rope(4, {.scaling = yarn}));
    yarn = {.kind = yarn.kind, .factor = 2, .original_max_len = 8, .attention_factor = turns};
    if (turns != 0) {
      EXPECT_ERROR(kValue, "attention_factor", Rope(4, {.scaling = yarn}));
    }
  }
  EXPECT_THROW((void)Rope(4, {})(Var(random_tensor({2, 6}, 1)), Segments({2}), 2), Error);
}

}  // namespace
}  // namespace qkv
