// What holds for every combination of score, relative keys, rules, normalizer, dropout, heads, lengths, dtype
// and family: on random problems (random_case.h). A failing one is made smaller and printed; its seed repeats
// it.

#include "qkv/attention/random_case_checks.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;

void expect_holds(const std::function<std::string(const Case&)>& fails, uint64_t first_seed, int cases,
                  const CaseSizes& sizes = {}) {
  for (int i = 0; i < cases; ++i) {
    const Case c = draw_case(first_seed + static_cast<uint64_t>(i), sizes);
    if (fails(c).empty()) continue;
    const auto [small, why] = shrink(c, fails);
    ADD_FAILURE() << why << "\nsmallest case: " << small.str() << "\ndrawn: " << c.str();
    return;
  }
}

// Columns begin .. end - 1 of row r, bit for bit but for the sign of 0.
std::vector<double> row(const Tensor& x, int64_t r, int64_t begin, int64_t end) {
  return x.rows(r, r + 1).columns(begin, end).values();
}
std::string unequal(const std::string& what, const Tensor& a, const Tensor& b, int64_t r, int64_t begin,
                    int64_t end) {
  const std::vector<double> x = row(a, r, begin, end), y = row(b, r, begin, end);
  return x == y ? ""
                : fmt::format("{} changed in row {}, columns {} to {}: {} and {}", what, r, begin, end,
                              fmt::join(x, " "), fmt::join(y, " "));
}

TEST(Any, BlockedPathAgreesWithTheReferenceInResultAndGradients) {
  expect_holds(blocked_differs_from_reference, 1, 120, {.near_tiles = 0.2, .two_tiles = true});
}

// Each sequence again with the others taken away: they keep their places in the batch, which rules know, but
// have no tokens. Dropout's mask counts rows of the batch, so it is left out.
std::string differs_alone(const Case& drawn) {
  Case c = drawn;
  c.drops = false;
  const Drawn d = make(c);
  const Results all = run(d, AttentionPath::kBlocked);
  for (int64_t b = 0; b < d.given.queries.size(); ++b) {
    const Segments &queries = d.given.queries, &keys = d.given.keys;
    const int64_t q0 = queries.begin(b), q1 = q0 + queries.length(b), k0 = keys.begin(b),
                  k1 = k0 + keys.length(b);
    std::vector<int64_t> q(c.lengths.size()), kv(q), past(q);
    q[b] = q1 - q0, kv[b] = k1 - k0, past[b] = queries.past(b);
    Given one = d.given;
    one.queries = Segments(q, past), one.keys = Segments(kv);
    one.q = one.q.rows(q0, q1), one.k = one.k.rows(k0, k1), one.v = one.v.rows(k0, k1);
    one.dout = one.dout.rows(q0, q1), one.relative_queries = one.relative_queries.rows(q0, q1);
    const Results alone = run(d, one, AttentionPath::kBlocked);
    for (const char* name : {"out", "dq", "dk", "dv"}) {
      const bool of_keys = name == std::string("dk") || name == std::string("dv");
      const Tensor part = result(all, name).rows(of_keys ? k0 : q0, of_keys ? k1 : q1);
      if (part.values() != result(alone, name).values())
        return fmt::format("{} of sequence {} differs", name, b);
    }
  }
  return "";
}
TEST(Any, SequenceGetsTheSameBitsAloneAndInABatch) {
  expect_holds(differs_alone, 1000, 80, {.near_tiles = 0.2, .two_tiles = true});
}

std::string differs_on_threads(const Case& c) {
  const Drawn d = make(c);
  set_threads(1);
  const Results one = run(d, AttentionPath::kBlocked);
  for (int n : {2, 3}) {
    set_threads(n);
    const Results more = run(d, AttentionPath::kBlocked);
    for (size_t i = 0; i < one.size(); ++i)
      if (one[i].second.values() != more[i].second.values())
        return set_threads(0), fmt::format("{} differs on {} threads", one[i].first, n);
  }
  set_threads(0);
  return "";
}
TEST(Any, BitsDoNotDependOnTheNumberOfThreads) {
  expect_holds(differs_on_threads, 2000, 25,
               {.often = 40, .width = 16, .near_tiles = 0.6, .two_tiles = true});
}

// The reference's weights are its result where the value of key j is the j-th unit vector.
std::string probe_is_wrong(const Case& drawn) {
  Case c = drawn;
  c.relative_values = 0;
  Drawn d = make(c);
  Probe probe;
  (void)run(d, AttentionPath::kBlocked, &probe);
  d.options.dropout = {};
  const int64_t n = std::max<int64_t>(1, d.max_kv), kv_heads = c.heads.n_kv_heads;
  d.options.heads.d_v = n;
  Given units = d.given;
  units.v = Tensor::zeros({units.keys.n_tokens(), kv_heads * n}, c.dtype);
  units.dout = Tensor::zeros({units.queries.n_tokens(), c.heads.n_heads * n}, c.dtype);
  for (int64_t b = 0; b < units.keys.size(); ++b)
    for (int64_t j = 0; j < units.keys.length(b); ++j)
      for (int64_t h = 0; h < kv_heads; ++h)
        units.v.rows(units.keys.begin(b) + j, units.keys.begin(b) + j + 1)
            .columns(h * n + j, h * n + j + 1)
            .fill(1);
  const Tensor want = result(run(d, units, AttentionPath::kReference), "out");

  const double tolerance = c.dtype == DType::kBF16 ? 1.0 / 256 : 1e-5;  // of a weight, which bf16 rounds
  if (probe.rows.size() != static_cast<size_t>(want.size(0) * c.heads.n_heads)) return "rows are missing";
  for (const AttentionRow& r : probe.rows) {
    const int64_t at = units.queries.begin(r.sequence) + r.position - units.queries.past(r.sequence);
    const std::vector<double> w = row(want, at, r.head * n, (r.head + 1) * n);
    double sum = 0, of_reference = 0;
    for (size_t j = 0; j < r.attn_weights.size(); ++j) {
      sum += static_cast<double>(r.attn_weights[j]), of_reference += w[j];
      if (!(std::abs(static_cast<double>(r.attn_weights[j]) - w[j]) <= tolerance))
        return fmt::format("weight {} of row {}, head {} is {}, in the reference {}", j, at, r.head,
                           r.attn_weights[j], w[j]);
    }
    // Shares of 1, unless the row sees nothing; a sink has the rest, and a sigmoid's weights do not share.
    const std::string_view name = normalizer_of(d.options).name();
    const bool shares = name != "sigmoid" && name != "softmax_with_sink" && !c.talking;
    if (shares && !(std::abs(sum - 1) <= 1e-5 || (sum == 0 && of_reference == 0)))
      return fmt::format("the weights of row {}, head {} add up to {}", at, r.head, sum);
  }
  return "";
}
TEST(Any, ProbeShowsTheReferencesWeightsAndTheyAddUp) { expect_holds(probe_is_wrong, 3000, 50); }

// A key and its value become NaN, infinite or another number; or a query and its gradient do. What does not
// see it keeps every bit: of the result and dq, queries that do not see the key; of dk and dv, keys that
// share no query with it, and keys that the query does not see.
std::string spreads(const Case& c, bool query) {
  const Drawn d = make(c);
  CaseRandom r(c.seed, 3);
  const double poison[] = {std::nan(""), std::numeric_limits<double>::infinity(), 3};
  const double value = poison[r.below(3)];
  const Segments &queries = d.given.queries, &keys = d.given.keys;
  const int64_t b = r.below(queries.size()), n = queries.length(b), m = keys.length(b);
  if ((query ? n : m) == 0) return "";
  const int64_t bad = r.below(query ? n : m);

  const Results before = run(d, AttentionPath::kBlocked);
  Given given = d.given;
  const auto spoil = [&](Tensor& x, int64_t token) {
    x = x.clone();
    x.rows(token, token + 1).fill(value);
  };
  if (query)
    spoil(given.q, queries.begin(b) + bad), spoil(given.dout, queries.begin(b) + bad),
        spoil(given.relative_queries, queries.begin(b) + bad);
  else
    spoil(given.k, keys.begin(b) + bad), spoil(given.v, keys.begin(b) + bad);
  const Results after = run(d, given, AttentionPath::kBlocked);

  const int64_t group = c.heads.group(), d_k = c.heads.d_k, d_v = c.heads.d_v;
  const auto touches = [&](int64_t h, int64_t i, int64_t j) {  // whether row i, if it sees key j, may differ
    return sees(d, b, h, i, j) && (query ? i == bad : sees(d, b, h, i, bad));
  };
  std::string bad_one;
  const auto same = [&](const std::string& name, int64_t token, int64_t head, int64_t width) {
    if (bad_one.empty())
      bad_one =
          unequal(name, result(before, name), result(after, name), token, head * width, (head + 1) * width);
  };
  for (int64_t s = 0; s < queries.size(); ++s) {
    for (int64_t i = 0; i < queries.length(s); ++i)
      for (int64_t h = 0; h < c.heads.n_heads; ++h)
        if (s != b || (query ? i != bad : !sees(d, b, h, i, bad))) {
          same("out", queries.begin(s) + i, h, d_v);
          same("dq", queries.begin(s) + i, h, d_k);
        }
    for (int64_t j = 0; j < keys.length(s); ++j)
      for (int64_t g = 0; g < c.heads.n_kv_heads; ++g) {
        bool touched = s == b && !query && j == bad;  // its own
        for (int64_t h = g * group; h < (g + 1) * group && s == b; ++h)
          for (int64_t i = 0; i < n; ++i) touched = touched || touches(h, i, j);
        if (touched) continue;
        same("dk", keys.begin(s) + j, g, d_k);
        same("dv", keys.begin(s) + j, g, d_v);
      }
  }
  return bad_one;
}
TEST(Any, HiddenKeysAndValuesChangeNoBitEvenAsNan) {
  expect_holds([](const Case& c) { return spreads(c, false); }, 4000, 250);
}
TEST(Any, QueryAndItsGradientChangeNoBitOfOthersEvenAsNan) {
  expect_holds([](const Case& c) { return spreads(c, true); }, 5000, 250);
}

TEST(Any, PromptAndTokenByTokenAgree) {
  expect_holds(differs_token_by_token, 6000, 100, {.near_tiles = 0.1, .two_tiles = true});
}

// Gradients of everything, by finite differences in float64: each variant forced into random problems.
std::string gradients_differ(const Case& drawn) {
  Case c = drawn;
  c.dtype = DType::kF64, c.strided = false;  // gradcheck writes into contiguous memory
  const Drawn d = make(c);
  const auto path = c.seed % 3 == 0 ? AttentionPath::kReference : AttentionPath::kBlocked;
  return gradcheck(
      [&](const std::vector<Var>& leaves) {
        const auto [q, options] = on_tape(d, leaves, path);
        return attention(q, leaves[1], leaves[2], d.given.queries, d.given.keys, options);
      },
      leaf_values(d, d.given), d.set->all());
}

class Gradients : public testing::TestWithParam<Variant> {};
TEST_P(Gradients, MatchFiniteDifferences) {
  for (uint64_t i = 0; i < 21; ++i) {
    Case c = draw_case(7000 + i, {.heads = 2, .often = 3, .width = 3, .near_tiles = 0});
    if (i == 20)  // across tiles
      c.heads = {.n_heads = 1, .n_kv_heads = 1, .d_k = 2, .d_v = 1},
      c.lengths = {{.q = 9, .kv = 67, .past = 58}};
    GetParam().set(c);
    const auto [small, why] = shrink(c, gradients_differ);
    ASSERT_EQ(why, "") << small.str() << "\ndrawn: " << c.str();
  }
}
std::vector<Variant> trained_variants() {
  std::vector<Variant> all = variants(kFirstEdit);
  for (int i = 1; i < static_cast<int>(std::size(kTalking)); ++i)
    all.push_back({std::string("talking ") + kTalking[i], [i](Case& c) { c.talking = i; }});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Any, Gradients, testing::ValuesIn(trained_variants()),
                         [](const auto& x) { return x.param.test_name(); });

}  // namespace
}  // namespace qkv
