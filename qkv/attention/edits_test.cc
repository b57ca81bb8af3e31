// Edits of scores: by hand, both paths, every family of kernels, gradients.

#include "qkv/attention/edits.h"

#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;

// Edited scores of n queries and keys, all raw scores equal to `score`.
Tensor edited(const EditPtr& edit, int64_t n_heads, int64_t n, double score = 0) {
  const HeadSizes heads{.n_heads = n_heads, .d_k = 1};
  const Var q(Tensor::full({n, n_heads}, DType::kF64, score)), k(Tensor::full({n, n_heads}, DType::kF64, 1));
  std::vector<double> out;
  for (int64_t h = 0; h < n_heads; ++h)
    for (int64_t j = 0; j < n; ++j) {
      // Only key j is visible: the row's lse is its score.
      Probe probe;
      probe.heads = {h};
      (void)attention(
          q, k, k, Segments({n}), Segments({n}),
          {.heads = heads,
           .score = dot(),
           .rules = {edit, mask([j](int64_t, int64_t, int64_t, int64_t key) { return key == j; })},
           .probe = &probe});
      for (const AttentionRow& row : probe.rows) out.push_back(row.lse);
    }
  return Tensor::from({n_heads, n, n}, out, DType::kF64).transpose(1, 2).contiguous();  // [head, query, key]
}

TEST(SoftCap, IsATanhOfTheScore) {
  for (double s : {-1000.0, -30.0, -1.0, 0.0, 2.0, 60.0})
    EXPECT_NEAR(edited(soft_cap(30), 1, 1, s).at({0, 0, 0}), 30 * std::tanh(s / 30), 1e-12);
  EXPECT_THROW((void)soft_cap(0), Error);
}

TEST(Temperature, Divides) {
  EXPECT_NEAR(edited(temperature(4), 1, 1, 6).at({0, 0, 0}), 1.5, 1e-12);
  EXPECT_THROW((void)temperature(-1), Error);
}

TEST(Alibi, HasThePublishedSlopes) {
  const Tensor eight = edited(alibi(8), 8, 3);
  for (int64_t h = 0; h < 8; ++h) {
    EXPECT_NEAR(eight.at({h, 2, 0}), -2 * std::exp2(-static_cast<double>(h + 1)), 1e-12);
    EXPECT_NEAR(eight.at({h, 0, 1}), -std::exp2(-static_cast<double>(h + 1)), 1e-12);
    EXPECT_EQ(eight.at({h, 1, 1}), 0);
  }
  // Twelve heads: those of eight, then every second one of sixteen (the authors' code).
  const Tensor twelve = edited(alibi(12), 12, 2);
  EXPECT_NEAR(twelve.at({7, 1, 0}), -std::exp2(-8.0), 1e-12);
  EXPECT_NEAR(twelve.at({8, 1, 0}), -std::exp2(-0.5), 1e-12);
  EXPECT_NEAR(twelve.at({11, 1, 0}), -std::exp2(-3.5), 1e-12);
  for (const int64_t n : {int64_t{0}, int64_t{65537}, INT64_MAX})
    EXPECT_ERROR(kValue, "needs 1 to 65536", (void)alibi(n));
  ParameterSet set(1, DType::kF64);
  EXPECT_EQ(max_difference(edited(learned_alibi(set, "a", {.n_heads = 12, .d_k = 1}), 12, 2), twelve), 0);
}

// Values of T5's own relative_position_bucket.
TEST(T5Bias, SharesBucketsByLogarithm) {
  const T5Buckets both{};
  const std::vector<std::pair<int64_t, int64_t>> expected = {
      {0, 0},     {-1, 1},     {-7, 7},   {-8, 8},   {-11, 8},  {-12, 9},  {-15, 9},  {-16, 10}, {-22, 10},
      {-23, 11},  {-31, 11},   {-32, 12}, {-45, 12}, {-46, 13}, {-63, 13}, {-64, 14}, {-90, 14}, {-91, 15},
      {-128, 15}, {-5000, 15}, {1, 17},   {7, 23},   {8, 24},   {127, 31}, {5000, 31}};
  for (const auto& [distance, bucket] : expected) EXPECT_EQ(t5_bucket(distance, both), bucket) << distance;
  const T5Buckets back{.bidirectional = false};
  EXPECT_EQ(t5_bucket(5, back), 0);
  EXPECT_EQ(t5_bucket(-15, back), 15);
  EXPECT_EQ(t5_bucket(-16, back), 16);
  EXPECT_EQ(t5_bucket(-128, back), 31);
  ParameterSet set(1);
  EXPECT_THROW((void)t5_bias(set, "a", {.d_k = 1}, {.n_buckets = 2}), Error);
  EXPECT_THROW((void)t5_bias(set, "b", {.d_k = 1}, {.max_distance = 8}), Error);
}

TEST(T5Bias, AddsTheHeadsNumberOfTheBucket) {
  ParameterSet set(1, DType::kF64);
  const HeadSizes heads{.n_heads = 2, .d_k = 1};
  const EditPtr bias = t5_bias(set, "b", heads, {.n_buckets = 8, .max_distance = 20});
  set.find("b.weight")
      ->set_value(
          Tensor::from({2, 8}, {1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30, 40, 50, 60, 70, 80}, DType::kF64));
  const Tensor s = edited(bias, 2, 3);
  EXPECT_EQ(s.at({0, 0, 0}), 1);
  EXPECT_EQ(s.at({0, 1, 0}), 2);
  EXPECT_EQ(s.at({0, 0, 1}), 6);
  EXPECT_EQ(s.at({1, 2, 0}), 30);
  EXPECT_EQ(s.at({1, 0, 2}), 70);
}

// Every edit, alone and several together, with masks that hide single places and whole tiles.
struct EditCase {
  std::string name;
  std::vector<RulePtr> rules;
};
std::vector<EditCase> edit_cases(ParameterSet& set, const HeadSizes& heads) {
  const RulePtr t5 = t5_bias(set, "t5", heads, {});
  const RulePtr one_way =
      t5_bias(set, "one_way", heads, {.n_buckets = 6, .max_distance = 9, .bidirectional = false});
  const RulePtr slopes = learned_alibi(set, "slopes", heads);
  for (const char* name : {"t5.weight", "one_way.weight"}) {
    const Shape shape = set.find(name)->value().shape();
    set.find(name)->set_value(random_tensor(shape, 5, set.dtype()));
  }
  const RulePtr far = bias(
      [](int64_t, int64_t h, int64_t i, int64_t j) { return 0.01 * static_cast<double>((h + 1) * (i - j)); });
  return {{"soft cap", {soft_cap(1.5)}},
          {"temperature", {temperature(0.7)}},
          {"alibi", {alibi(heads.n_heads), causal()}},
          {"learned alibi", {slopes, sliding_window(80)}},
          {"t5", {t5}},
          {"t5 one way", {causal(), one_way}},
          {"all",
           {t5, soft_cap(2), slopes, temperature(1.3), far, sliding_window({.back = 50, .ahead = 40}),
            soft_cap(3)}}};
}

TEST(Edits, BlockedAgreesWithTheReferenceInFloat64) {
  const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 5},
                      .q_lengths = {150, 1, 64, 0, 65},
                      .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  ParameterSet set(1, DType::kF64);
  for (const EditCase& x : edit_cases(set, shapes.heads)) {
    AttentionOptions options{.heads = shapes.heads, .rules = x.rules, .path = AttentionPath::kBlocked};
    const auto gradients = [&] {
      std::vector<Tensor> all;
      for (const ParameterPtr& p : set.all()) all.push_back(p->grad().clone()), p->zero_grad();
      return all;
    };
    const Outcome blocked = run(in, options);
    const std::vector<Tensor> from_blocked = gradients();
    options.path = AttentionPath::kReference;
    expect_close(blocked, run(in, options), 1e-11, x.name);
    const std::vector<Tensor> from_reference = gradients();
    for (size_t p = 0; p < from_blocked.size(); ++p)
      EXPECT_LE(max_difference(from_blocked[p], from_reference[p]), 1e-10)
          << x.name << " " << set.all()[p]->name();
  }
}

TEST(Edits, EveryFamilyAgreesWithTheReference) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 8}, .q_lengths = {70, 3, 64}, .kv_lengths = {}};
  ParameterSet set(1);
  const std::vector<EditCase> cases = edit_cases(set, shapes.heads);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Inputs in = random_inputs(shapes, dtype);
    for (const EditCase& x : cases) {
      AttentionOptions options{.heads = shapes.heads, .rules = x.rules, .path = AttentionPath::kReference};
      const Outcome reference = run(in, options);
      options.path = AttentionPath::kBlocked;
      for (const kernels::Table* table : tables()) {
        options.kernels = table;
        expect_close(run(in, options), reference, dtype == DType::kF32 ? 1e-4 : 0.1,
                     x.name + " " + std::string(name(table->isa)));
      }
    }
  }
}

TEST(Edits, GradientsMatchFiniteDifferences) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 3, .d_v = 2};
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked}) {
    ParameterSet set(1, DType::kF64);
    for (const EditCase& x : edit_cases(set, heads)) {
      const Segments self({2, 0, 5});
      const AttentionOptions options{.heads = heads, .rules = x.rules, .path = path};
      EXPECT_EQ(gradcheck([&](const auto& in) { return attention(in[0], in[1], in[2], self, self, options); },
                          {random_tensor({7, 6}, 1), random_tensor({7, 3}, 2), random_tensor({7, 2}, 3)},
                          set.all()),
                "")
          << x.name;
    }
  }
}

TEST(Edits, ParametersOfAnotherShapeOrTypeAreRefused) {
  ParameterSet set(1);
  const Inputs in =
      random_inputs({.heads = {.n_heads = 2, .d_k = 4}, .q_lengths = {3}, .kv_lengths = {}}, DType::kF64);
  const auto call = [&](const EditPtr& edit) {
    (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                    {.heads = {.n_heads = 2, .d_k = 4}, .rules = {edit}});
  };
  EXPECT_THROW(call(learned_alibi(set, "a", {.n_heads = 2, .d_k = 4})), Error);  // f32 numbers, f64 queries
  ParameterSet exact(1, DType::kF64);
  EXPECT_THROW(call(learned_alibi(exact, "a", {.n_heads = 3, .d_k = 4})), Error);
}

}  // namespace
}  // namespace qkv
