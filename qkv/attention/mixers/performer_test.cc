#include <gtest/gtest.h>

#include <cmath>

#include "qkv/attention/mixers.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using test::Inputs;
using test::max_difference;

double rms_distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.values(), y = b.values();
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

Tensor mixed(const Inputs& in, const HeadSizes& heads, MixerPtr mixer, bool causal) {
  return mix(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
             {.heads = heads, .mixer = std::move(mixer), .causal = causal})
      .value();
}

// Lemma 2: the mean squared error falls as 1 / n_features, so sixteen times the features quarter the error.
TEST(Performer, ApproachesSoftmaxAttentionAsFeaturesGrow) {
  const test::OneThread one;
  const HeadSizes heads{.n_heads = 2, .d_k = 16};
  const Inputs in = test::random_inputs({.heads = heads, .q_lengths = {40, 70}}, DType::kF64, 1, 0.5);
  for (bool is_causal : {false, true}) {
    AttentionOptions softmax{.heads = heads};
    if (is_causal) softmax.rules = {causal()};
    const Tensor exact = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, softmax).value();
    std::vector<double> errors;
    for (int64_t n_features : {16, 256, 4096}) {
      double sum = 0;
      for (uint64_t seed = 0; seed < 2; ++seed)
        sum += rms_distance(mixed(in, heads, performer(heads, n_features, {.seed = seed}), is_causal), exact);
      errors.push_back(sum / 2);
    }
    EXPECT_LT(errors[1], 0.4 * errors[0]);
    EXPECT_LT(errors[2], 0.4 * errors[1]);
    EXPECT_LT(errors[2], 0.005);
  }
}

// Without the shifts all features of the larger keys are 0 in f32: |x'|^2 / 2 is 100 at a scale of 5.
TEST(Performer, NeitherOverflowsNorVanishesForLargeKeys) {
  const test::OneThread one;
  const HeadSizes heads{.n_heads = 1, .d_k = 64};
  for (double scale : {1e-3, 1.0, 5.0, 12.0, 1e4}) {
    const Inputs in = test::random_inputs({.heads = heads, .q_lengths = {100}}, DType::kF32, 3, scale);
    const Inputs exact{in.queries, in.keys, in.q.to(DType::kF64), in.k.to(DType::kF64), in.v.to(DType::kF64)};
    for (bool causal : {false, true}) {
      const Tensor got = mixed(in, heads, performer(heads), causal);
      if (scale <= 5) {
        const Tensor want = mixed(exact, heads, performer(heads), causal);
        EXPECT_LE(max_difference(got, want), 2e-3 * scale) << scale;
      }
      for (double x : got.values()) ASSERT_TRUE(std::isfinite(x)) << scale;
    }
  }
}

TEST(Performer, DrawsTheSameFeaturesFromTheSameSeed) {
  const HeadSizes heads{.n_heads = 1, .d_k = 8};
  const Inputs in = test::random_inputs({.heads = heads, .q_lengths = {20}}, DType::kF32);
  const Tensor one = mixed(in, heads, performer(heads, 0, {.seed = 1}), true);
  test::expect_equal_bits(one, mixed(in, heads, performer(heads, 0, {.seed = 1}), true), "seed 1");
  EXPECT_GT(max_difference(one, mixed(in, heads, performer(heads, 0, {.seed = 2}), true)), 1e-3);
}

TEST(Performer, WidthIsDLogDUnlessAsked) {
  EXPECT_EQ(performer({.d_k = 64})->width({.d_k = 64}), 272);  // 64 ln 64 = 266.2
  EXPECT_EQ(performer({.d_k = 64}, 100)->width({.d_k = 64}), 100);
  EXPECT_ERROR(kValue, "4194304 of that width are possible", (void)performer({.d_k = 64}, int64_t{1} << 40));
  EXPECT_ERROR(kValue, "needs a positive width", (void)performer({.d_k = int64_t{1} << 62}));
}

}  // namespace
}  // namespace qkv
