// The decode path has the bits of the blocked one, whatever the rules, and touches no key that it need not.

#include <limits>

#include "qkv/attention/paths/tile.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;

Tensor out_of(const Inputs& in, AttentionOptions options, AttentionPath path) {
  const NoGrad off;
  options.path = path;
  return attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value();
}

struct Case {
  std::string name;
  AttentionOptions options;
};

// Everything that a tile of scores can meet.
std::vector<Case> cases(const HeadSizes& heads, ParameterSet& set) {
  const std::vector<int64_t> limits{1, 3, 60, 64, 100, 1020, 1024, 1100, 0, 1500};
  std::vector<Case> all;
  for (std::string_view score : score_names())
    all.push_back({std::string(score), {.score = make_score(score, set, std::string(score), heads)}});
  all.push_back({"causal", {.rules = {causal()}}});
  all.push_back({"window", {.rules = {sliding_window(1100)}}});
  all.push_back({"alibi, limit", {.rules = {alibi(heads.n_heads), key_limit(limits)}}});
  all.push_back(
      {"cap, one head's own mask", {.rules = {soft_cap(2), mask([](int64_t, int64_t h, int64_t, int64_t j) {
                                                return h != 1 || j % 3 == 0;
                                              })}}});
  all.push_back({"sink", {.normalizer = softmax_with_sink(set, "sink", heads)}});
  all.push_back({"sigmoid", {.rules = {causal()}, .normalizer = sigmoid(-3)}});
  all.push_back({"dropout", {.dropout = dropout(0.3)}});
  for (Case& c : all) c.options.heads = heads;
  return all;
}

TEST(Decode, HasTheBitsOfTheBlockedPath) {
  const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 10},
                      .q_lengths = {1, 1, 2, 5, 1, 3, 66, 0, 1},
                      .kv_lengths = {1, 63, 64, 65, 130, 1023, 1100, 7, 1024}};
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    ParameterSet set(3, accumulator_dtype(dtype));
    const RelativeKeys keys{.rows = Var(random_tensor({9, 6}, 7, dtype)), .zero = 4};
    const RelativeValues values{.rows = Var(random_tensor({9, 10}, 8, dtype)), .zero = 4};
    Inputs in = random_inputs(shapes, dtype);
    in.queries = Segments(shapes.q_lengths, {0, 62, 62, 60, 129, 1020, 1034, 7, 1023});
    std::vector<Case> all = cases(shapes.heads, set);
    all.push_back({"relative", {.heads = shapes.heads, .relative_keys = keys, .relative_values = values}});
    for (Case& c : all)
      for (const kernels::Table* table : tables()) {
        // Where families differ: f64 is ref's, and AMX (here in emulation, and slow) multiplies bf16 alone.
        if (dtype == DType::kF64 && table->isa != Isa::kRef) continue;
        if (dtype == DType::kF32 && table->isa == Isa::kAmx) continue;
        c.options.kernels = table;
        expect_equal_bits(out_of(in, c.options, AttentionPath::kDecode),
                          out_of(in, c.options, AttentionPath::kBlocked),
                          fmt::format("{} {} {}", c.name, name(dtype), name(table->isa)));
      }
  }
}

TEST(Decode, PromptsAndStepsMayComeInOneBatch) {
  const Shapes shapes{
      .heads = {.n_heads = 2, .d_k = 8}, .q_lengths = {1, 90, 2, 70, 1}, .kv_lengths = {1100, 90, 64, 70, 5}};
  const Inputs in = random_inputs(shapes, DType::kF32);
  const AttentionOptions options{.heads = shapes.heads, .rules = {alibi(2)}};
  expect_equal_bits(out_of(in, options, AttentionPath::kAuto), out_of(in, options, AttentionPath::kBlocked),
                    "mixed");
}

// Sums of several splits, against the definition.
TEST(Decode, ManySplitsGiveTheDefinition) {
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 1, .d_k = 6, .d_v = 10};
  const Shapes shapes{
      .heads = heads, .q_lengths = {1, 2}, .kv_lengths = {3 * paths::kSplit + 5, paths::kSplit + 1}};
  ParameterSet set(3, DType::kF64);
  const Inputs in = random_inputs(shapes, DType::kF64);
  for (AttentionOptions options :
       {AttentionOptions{}, AttentionOptions{.rules = {soft_cap(5)}, .normalizer = sigmoid(-5)},
        AttentionOptions{.normalizer = softmax_with_sink(set, "many", heads)}}) {
    options.heads = heads;
    for (AttentionPath path : {AttentionPath::kDecode, AttentionPath::kBlocked})
      EXPECT_LE(max_difference(out_of(in, options, path), out_of(in, options, AttentionPath::kReference)),
                1e-13);
  }
}

TEST(Decode, BitsDoNotDependOnTheNumberOfThreadsNorOnTheBatch) {
  const Shapes shapes{.heads = {.n_heads = 6, .n_kv_heads = 3, .d_k = 16},
                      .q_lengths = {1, 2, 1},
                      .kv_lengths = {2500, 70, 1100}};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Inputs in = random_inputs(shapes, dtype);
    const AttentionOptions options{.heads = shapes.heads, .rules = {alibi(6)}};
    set_threads(1);
    const Tensor one = out_of(in, options, AttentionPath::kDecode);
    for (int n : {2, 3, 8}) {
      set_threads(n);
      expect_equal_bits(out_of(in, options, AttentionPath::kDecode), one, fmt::format("{} threads", n));
    }
    set_threads(0);
    for (int64_t b = 0; b < 3; ++b) {
      const int64_t q0 = in.queries.begin(b), q1 = q0 + in.queries.length(b), k0 = in.keys.begin(b),
                    k1 = k0 + in.keys.length(b);
      const Inputs alone{.queries = Segments({q1 - q0}),
                         .keys = Segments({k1 - k0}),
                         .q = in.q.rows(q0, q1),
                         .k = in.k.rows(k0, k1),
                         .v = in.v.rows(k0, k1)};
      expect_equal_bits(out_of(alone, options, AttentionPath::kDecode), one.rows(q0, q1), "alone");
    }
  }
}

// The products read values as they lie, where 0 * NaN would reach rows that do not see the key.
TEST(Decode, ANanStaysWithTheRowsThatSeeIt) {
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      const Shapes shapes{
          .heads = {.n_heads = 2, .n_kv_heads = 1, .d_k = 16}, .q_lengths = {3}, .kv_lengths = {100}};
      const Inputs in = random_inputs(shapes, dtype);
      AttentionOptions options{
          .heads = shapes.heads,
          .rules = {mask([](int64_t, int64_t, int64_t i, int64_t j) { return j != 99 || i == 2; })}};
      const Tensor clean = out_of(in, options, AttentionPath::kDecode);
      in.k.rows(99, 100).fill(bad);
      in.v.rows(99, 100).fill(bad);
      const Tensor out = out_of(in, options, AttentionPath::kDecode);
      expect_equal_bits(out.rows(0, 2), clean.rows(0, 2), "rows that do not see it");
      for (double x : out.rows(2, 3).values()) EXPECT_TRUE(std::isnan(x));
    }
}

// Pages that no query may see have no memory here.
TEST(Decode, KeysOutOfSightAreNotTouched) {
  const int64_t n = 1500;
  const HeadSizes heads{.n_heads = 2, .d_k = 8};
  const Tensor q = random_tensor({1, 16}, 1, DType::kF32), k = random_tensor({n, 16}, 2, DType::kF32),
               v = random_tensor({n, 16}, 3, DType::kF32);
  std::vector<const void*> k_pages, v_pages;
  for (int64_t j = 0; j < n; j += kPageRows) {
    const bool seen = j + kPageRows > n - 100;
    k_pages.push_back(seen ? k.data<float>() + j * 16 : nullptr);
    v_pages.push_back(seen ? v.data<float>() + j * 16 : nullptr);
  }
  const KeyValueSpan pages[] = {{.kv_len = n,
                                 .k_row_stride = 16,
                                 .v_row_stride = 16,
                                 .k_pages = k_pages.data(),
                                 .v_pages = v_pages.data()}};
  const KeyValueSpan block[] = {
      {.k = k.data<float>(), .v = v.data<float>(), .kv_len = n, .k_row_stride = 16, .v_row_stride = 16}};
  const AttentionOptions options{.heads = heads, .rules = {sliding_window(100)}};
  expect_equal_bits(attention_cached(q, Segments({1}, {n - 1}), pages, DType::kF32, options),
                    attention_cached(q, Segments({1}, {n - 1}), block, DType::kF32, options), "pages");
}

}  // namespace
}  // namespace qkv
