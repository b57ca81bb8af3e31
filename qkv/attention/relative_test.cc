// Relative keys and values: against what is made the long way, on both paths and every family, with
// gradients.

#include "qkv/attention/relative.h"

#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;

RelativeKeys rows_of(const Tensor& rows, int64_t zero) {
  return {.rows = Var(rows, true), .zero = zero, .queries = {}};
}

TEST(RelativeKeys, AddTheProductWithTheDistancesVector) {
  const HeadSizes one{.n_heads = 1, .d_k = 2};
  const Tensor q = Tensor::from({3, 2}, {1, 2, 3, 4, 5, 6}, DType::kF64),
               k = Tensor::zeros({3, 2}, DType::kF64);
  // Rows of distances -1 and before, 0, 1 and beyond.
  const Tensor rows = Tensor::from({3, 2}, {1, 0, 0, 1, 1, 1}, DType::kF64);
  const double want[3][3] = {{2, 3, 3}, {3, 4, 7}, {5, 5, 6}};
  for (int64_t j = 0; j < 3; ++j) {
    Probe probe;
    (void)attention(Var(q), Var(k), Var(k), Segments({3}), Segments({3}),
                    {.heads = one,
                     .score = dot(),
                     .relative_keys = rows_of(rows, 1),
                     .rules = {mask([j](int64_t, int64_t, int64_t, int64_t key) { return key == j; })},
                     .probe = &probe});
    for (int64_t i = 0; i < 3; ++i)
      EXPECT_EQ(probe.rows[static_cast<size_t>(i)].lse, want[i][j]) << i << " " << j;
  }
}

struct Case {
  std::string name;
  bool shared, own_queries;
  int64_t n_rows, zero;
};
const Case kCases[] = {
    {"shared", true, false, 9, 4}, {"by head", false, false, 301, 150}, {"own queries", false, true, 40, 3}};

struct WithRelative {
  Outcome outcome;
  Tensor d_rows, d_queries;
};
WithRelative run_case(const Case& c, const Inputs& in, AttentionOptions options) {
  const int64_t columns = (c.shared ? 1 : options.heads.n_heads) * options.heads.d_k;
  const Var rows(random_tensor({c.n_rows, columns}, 8, in.q.dtype()), true),
      queries(random_tensor({in.q.size(0), options.heads.n_heads * options.heads.d_k}, 9, in.q.dtype()),
              true);
  options.relative_keys =
      RelativeKeys{.rows = rows, .zero = c.zero, .queries = c.own_queries ? queries : Var()};
  const Outcome outcome = run(in, options);
  return {outcome, rows.grad(), c.own_queries ? queries.grad() : Tensor::zeros({1}, in.q.dtype())};
}

TEST(RelativeKeys, BlockedAgreesWithTheReferenceOnEveryFamily) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 5},
                        .q_lengths = {150, 1, 64, 0, 65},
                        .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    for (const Case& c : kCases) {
      AttentionOptions options{
          .heads = shapes.heads, .rules = {causal(), soft_cap(4)}, .path = AttentionPath::kReference};
      const WithRelative reference = run_case(c, in, options);
      options.path = AttentionPath::kBlocked;
      for (const kernels::Table* table : tables()) {
        options.kernels = table;
        const WithRelative blocked = run_case(c, in, options);
        const double tolerance = dtype == DType::kF64 ? 1e-11 : dtype == DType::kF32 ? 1e-4 : 0.15;
        const std::string what =
            c.name + " " + std::string(name(table->isa)) + " " + std::string(name(dtype));
        expect_close(blocked.outcome, reference.outcome, tolerance, what);
        EXPECT_LE(max_difference(blocked.d_rows, reference.d_rows), 10 * tolerance) << what;
        EXPECT_LE(max_difference(blocked.d_queries, reference.d_queries), tolerance) << what;
      }
    }
  }
}

TEST(RelativeKeys, GradientsMatchFiniteDifferences) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 3, .d_v = 2};
  const Segments self({2, 0, 5});
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked})
    for (const Case& c : kCases) {
      const auto f = [&](const std::vector<Var>& x) {
        return attention(x[0], x[1], x[2], self, self,
                         {.heads = heads,
                          .relative_keys = RelativeKeys{.rows = x[3],
                                                        .zero = std::min<int64_t>(c.zero, 2),
                                                        .queries = c.own_queries ? x[4] : Var()},
                          .path = path});
      };
      std::vector<Tensor> inputs{random_tensor({7, 6}, 1), random_tensor({7, 3}, 2), random_tensor({7, 2}, 3),
                                 random_tensor({5, c.shared ? 3 : 6}, 4)};
      if (c.own_queries) inputs.push_back(random_tensor({7, 6}, 5));
      EXPECT_EQ(gradcheck(f, inputs), "") << c.name;
    }
}

TEST(ShawRelativeKeys, TrainTheirTable) {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  ParameterSet set(1, DType::kF64);
  const ShawRelativeKeys shaw(set, "a", heads, 3);
  const Segments self({6, 3});
  const auto f = [&](const std::vector<Var>& x) {
    return attention(x[0], x[1], x[2], self, self,
                     {.heads = heads, .relative_keys = shaw(DType::kF64), .rules = {causal()}});
  };
  EXPECT_EQ(
      gradcheck(f, {random_tensor({9, 8}, 1), random_tensor({9, 8}, 2), random_tensor({9, 8}, 3)}, set.all()),
      "");
}

// Each query sees one key: out is its value and the vector of its distance.
TEST(RelativeValues, AddTheDistancesVectorToTheValue) {
  const HeadSizes one{.n_heads = 1, .d_k = 1, .d_v = 2};
  const Tensor q = Tensor::zeros({3, 1}, DType::kF64),
               v = Tensor::from({3, 2}, {10, 20, 30, 40, 50, 60}, DType::kF64);
  // Rows of distances -1 and before, 0, 1 and beyond.
  const Tensor rows = Tensor::from({3, 2}, {1, 2, 3, 4, 5, 6}, DType::kF64);
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked})
    for (int64_t j = 0; j < 3; ++j) {
      const Tensor out =
          attention(Var(q), Var(q), Var(v), Segments({3}), Segments({3}),
                    {.heads = one,
                     .relative_values = RelativeValues{.rows = Var(rows), .zero = 1},
                     .rules = {mask([j](int64_t, int64_t, int64_t, int64_t key) { return key == j; })},
                     .path = path})
              .value();
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t d = 0; d < 2; ++d)
          EXPECT_EQ(out.at({i, d}), v.at({j, d}) + rows.at({j < i ? 0 : j == i ? 1 : 2, d})) << i << j;
    }
}

// Shaw et al. 2018, eq. 3, from a probe's weights.
TEST(RelativeValues, AreWeighedAsTheirKeysAre) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 4, .d_v = 3};
  ParameterSet set(1, DType::kF64);
  const ShawRelativeKeys keys(set, "a", heads, 3);
  const ShawRelativeValues values(set, "a", heads, 2);
  const int64_t n = 70;
  const Tensor q = random_tensor({n, 8}, 1), k = random_tensor({n, 4}, 2), v = random_tensor({n, 3}, 3);
  Probe probe;
  const Tensor out = attention(Var(q), Var(k), Var(v), Segments({n}), Segments({n}),
                               {.heads = heads,
                                .relative_keys = keys(DType::kF64),
                                .relative_values = values(DType::kF64),
                                .rules = {causal()},
                                .probe = &probe})
                         .value();
  const Tensor table = set.find("a.relative_values")->value();
  for (const AttentionRow& row : probe.rows)
    for (int64_t d = 0; d < 3; ++d) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j)
        sum += row.attn_weights[static_cast<size_t>(j)] *
               (v.at({j, d}) + table.at({std::clamp<int64_t>(j - row.position, -2, 2) + 2, d}));
      EXPECT_NEAR(out.at({row.position, row.head * 3 + d}), sum, 1e-6);
    }
}

struct WithValues {
  Outcome outcome;
  Tensor d_keys, d_values;
};
WithValues run_values(const Case& c, const Inputs& in, AttentionOptions options) {
  const HeadSizes& heads = options.heads;
  const int64_t n = c.shared ? 1 : heads.n_heads;
  const Var keys(random_tensor({c.n_rows, n * heads.d_k}, 8, in.q.dtype()), true),
      values(random_tensor({c.n_rows, n * heads.value_width()}, 9, in.q.dtype()), true);
  options.relative_keys = RelativeKeys{.rows = keys, .zero = c.zero, .queries = {}};
  options.relative_values = RelativeValues{.rows = values, .zero = c.zero};
  const Outcome outcome = run(in, options);
  return {outcome, keys.grad(), values.grad()};
}

TEST(RelativeValues, BlockedAgreesWithTheReferenceOnEveryFamily) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 5},
                        .q_lengths = {150, 1, 64, 0, 65},
                        .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    for (const auto& [c, normalizer] : {std::pair{kCases[0], softmax_normalizer()},
                                        {kCases[1], softmax_normalizer()},
                                        {kCases[2], sigmoid(-5)}}) {
      AttentionOptions options{.heads = shapes.heads,
                               .rules = {causal()},
                               .normalizer = normalizer,
                               .dropout = dropout(0.2),
                               .path = AttentionPath::kReference};
      const WithValues reference = run_values(c, in, options);
      options.path = AttentionPath::kBlocked;
      for (const kernels::Table* table : tables()) {
        options.kernels = table;
        const WithValues blocked = run_values(c, in, options);
        const double tolerance = dtype == DType::kF64 ? 1e-11 : dtype == DType::kF32 ? 1e-4 : 0.15;
        const std::string what = c.name + " " + std::string(name(table->isa)) + " " +
                                 std::string(name(dtype)) + " " + std::string(normalizer->name());
        expect_close(blocked.outcome, reference.outcome, tolerance, what);
        EXPECT_LE(max_difference(blocked.d_keys, reference.d_keys), 10 * tolerance) << what;
        EXPECT_LE(max_difference(blocked.d_values, reference.d_values), 10 * tolerance) << what;
      }
    }
  }
}

TEST(RelativeValues, GradientsMatchFiniteDifferences) {
  set_threads(1);
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 3, .d_v = 2};
  const Segments self({2, 0, 5});
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked})
    for (bool shared : {true, false}) {
      const auto f = [&](const std::vector<Var>& x) {
        return attention(x[0], x[1], x[2], self, self,
                         {.heads = heads,
                          .relative_keys = RelativeKeys{.rows = x[3], .zero = 2, .queries = {}},
                          .relative_values = RelativeValues{.rows = x[4], .zero = 1},
                          .dropout = dropout(0.3),
                          .path = path});
      };
      EXPECT_EQ(gradcheck(f, {random_tensor({7, 6}, 1), random_tensor({7, 3}, 2), random_tensor({7, 2}, 3),
                              random_tensor({5, 3}, 4), random_tensor({3, shared ? 2 : 4}, 5)}),
                "");
    }
  // Values of distances alone, where nothing else has a gradient, and under a score without a dot product.
  const Tensor x = random_tensor({7, 6}, 1), v = random_tensor({7, 2}, 2);
  const auto alone = [&](const std::vector<Var>& rows) {
    return attention(Var(x), Var(x.columns(0, 3)), Var(v), self, self,
                     {.heads = heads,
                      .score = uniform(),
                      .relative_values = RelativeValues{.rows = rows[0], .zero = 3},
                      .rules = {causal()}});
  };
  EXPECT_EQ(gradcheck(alone, {random_tensor({5, 2}, 3)}), "");
  set_threads(0);
}

// NaN in a value stays with the queries that see it, and a vector that is NaN with those that see its
// distance.
TEST(RelativeValues, KeepNaNWithTheQueriesThatSeeIt) {
  const HeadSizes heads{.n_heads = 1, .d_k = 2};
  const int64_t n = 80;
  const Tensor q = random_tensor({n, 2}, 1), k = random_tensor({n, 2}, 2), v = random_tensor({n, 2}, 3),
               rows = random_tensor({161, 2}, 4);
  v.rows(70, 71).fill(std::nan(""));
  rows.rows(80 - 75, 80 - 74).fill(std::nan(""));  // distance -75
  const Tensor out = attention(Var(q), Var(k), Var(v), Segments({n}), Segments({n}),
                               {.heads = heads,
                                .relative_values = RelativeValues{.rows = Var(rows), .zero = 80},
                                .rules = {causal()}})
                         .value();
  for (int64_t i = 0; i < n; ++i) EXPECT_EQ(std::isnan(out.at({i, 0})), i >= 70) << i;
  const Tensor clean = random_tensor({n, 2}, 3);
  const Tensor by_distance = attention(Var(q), Var(k), Var(clean), Segments({n}), Segments({n}),
                                       {.heads = heads,
                                        .relative_values = RelativeValues{.rows = Var(rows), .zero = 80},
                                        .rules = {causal()}})
                                 .value();
  for (int64_t i = 0; i < n; ++i) EXPECT_EQ(std::isnan(by_distance.at({i, 0})), i >= 75) << i;
}

TEST(RelativeValues, GiveASequenceTheSameBitsAloneAndOnAnyNumberOfThreads) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 5},
                        .q_lengths = {70, 1, 130},
                        .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    const AttentionOptions options{.heads = shapes.heads, .rules = {causal()}};
    set_threads(1);
    const WithValues all = run_values(kCases[1], in, options);
    set_threads(3);
    const WithValues threaded = run_values(kCases[1], in, options);
    set_threads(0);
    for (const auto& [a, b] : {std::pair{all.outcome.out, threaded.outcome.out},
                               {all.outcome.dq, threaded.outcome.dq},
                               {all.outcome.dk, threaded.outcome.dk},
                               {all.outcome.dv, threaded.outcome.dv},
                               {all.d_values, threaded.d_values}})
      expect_equal_bits(a, b, std::string(name(dtype)));
    for (int64_t b = 0; b < 3; ++b) {
      const int64_t begin = in.queries.begin(b), end = begin + in.queries.length(b);
      const Segments one({end - begin});
      const Inputs alone{.queries = one,
                         .keys = one,
                         .q = in.q.rows(begin, end),
                         .k = in.k.rows(begin, end),
                         .v = in.v.rows(begin, end)};
      expect_equal_bits(run_values(kCases[1], alone, options).outcome.out, all.outcome.out.rows(begin, end),
                        std::string(name(dtype)));
    }
  }
}

// Decoding: one query after the other against what came before. The band begins elsewhere than in the prompt.
TEST(RelativeValues, GiveADecodeStepTheBitsOfThePrompt) {
  const int64_t n = 150;
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (const kernels::Table* table : tables()) {
      const HeadSizes heads{.n_heads = 2, .d_k = 4, .d_v = 32};
      const Inputs in = random_inputs({.heads = heads, .q_lengths = {n}, .kv_lengths = {}}, dtype);
      const AttentionOptions options{
          .heads = heads,
          .relative_values = RelativeValues{.rows = Var(random_tensor({31, 32}, 4, dtype)), .zero = 15},
          .rules = {causal()},
          .kernels = table};
      const Tensor prompt = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value();
      kernels::visit_dtype(dtype, [&]<class T>(T) {
        for (int64_t i = 0; i < n; ++i) {
          const KeyValueSpan span[] = {{.k = in.k.data<T>(),
                                        .v = in.v.data<T>(),
                                        .kv_len = i + 1,
                                        .k_row_stride = in.k.stride(0),
                                        .v_row_stride = in.v.stride(0)}};
          expect_equal_bits(attention_cached(in.q.rows(i, i + 1), Segments({1}, {i}), span, dtype, options),
                            prompt.rows(i, i + 1),
                            std::to_string(i) + std::string(name(dtype)) + std::string(name(table->isa)));
        }
      });
    }
}

// AMX sums even and odd k apart in steps of 32: 2 of these 153,600 numbers differed where the band began at
// any even place.
TEST(RelativeValues, GiveADecodeStepTheBitsOfThePromptByAmx) {
  const NoGrad off;
  const HeadSizes heads{.n_heads = 4, .d_k = 16, .d_v = 32};
  const int64_t n = 200;
  const Segments all({n});
  const DType dtype = DType::kBF16;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const Tensor q = random_tensor({n, 64}, seed, dtype), k = random_tensor({n, 64}, seed + 50, dtype),
                 v = random_tensor({n, 128}, seed + 90, dtype);
    const AttentionOptions options{
        .heads = heads,
        .relative_values = RelativeValues{.rows = Var(random_tensor({81, 32}, seed + 7, dtype)), .zero = 40},
        .rules = {causal()},
        .kernels = tables().front()};
    const Tensor prompt = attention(Var(q), Var(k), Var(v), all, all, options).value();
    for (int64_t i = 0; i < n; ++i) {
      const KeyValueSpan span[] = {
          {.k = k.bytes(), .v = v.bytes(), .kv_len = i + 1, .k_row_stride = 64, .v_row_stride = 128}};
      expect_equal_bits(attention_cached(q.rows(i, i + 1), Segments({1}, {i}), span, dtype, options),
                        prompt.rows(i, i + 1), std::to_string(seed) + " " + std::to_string(i));
    }
  }
}

// The equation of section 3.3, term by term: q k + q W R + u k + v W R.
TEST(TransformerXlPositions, AreThePapersFourTerms) {
  const HeadSizes heads{.n_heads = 2, .d_k = 3};
  ParameterSet set(4, DType::kF64);
  const TransformerXlPositions positions(set, "a", heads, 8);
  set.find("a.u")->set_value(random_tensor({6}, 5));
  set.find("a.v")->set_value(random_tensor({6}, 6));
  const int64_t n = 5;
  const Tensor q = random_tensor({n, 6}, 1), k = random_tensor({n, 6}, 2), v = random_tensor({n, 6}, 3);
  const Segments self({n});
  Probe probe;
  (void)attention(positions.content_queries(Var(q)), Var(k), Var(v), self, self,
                  {.heads = heads,
                   .score = dot(),
                   .relative_keys = positions(Var(q), n),
                   .rules = {causal()},
                   .probe = &probe});
  const Tensor w = set.find("a.r_proj.weight")->value(), u = set.find("a.u")->value(),
               bias = set.find("a.v")->value();
  for (const AttentionRow& row : probe.rows) {
    std::vector<double> s;
    double total = 0;
    for (int64_t j = 0; j <= row.position; ++j) {
      double sum = 0;
      for (int64_t f = row.head * 3; f < row.head * 3 + 3; ++f) {
        double r = 0;  // W R of distance i - j
        for (int64_t e = 0; e < 8; ++e) {
          const double angle = static_cast<double>(row.position - j) *
                               std::pow(10000.0, -2.0 * static_cast<double>(e % 4) / 8);
          r += w.at({f, e}) * (e < 4 ? std::sin(angle) : std::cos(angle));
        }
        sum += (q.at({row.position, f}) + u.at({f})) * k.at({j, f}) +
               (q.at({row.position, f}) + bias.at({f})) * r;
      }
      s.push_back(sum);
      total += std::exp(sum);
    }
    for (size_t j = 0; j < s.size(); ++j) EXPECT_NEAR(row.attn_weights[j], std::exp(s[j]) / total, 1e-6);
  }
  const auto f = [&](const std::vector<Var>& x) {
    return attention(positions.content_queries(x[0]), x[1], x[2], self, self,
                     {.heads = heads, .relative_keys = positions(x[0], n), .rules = {causal()}});
  };
  EXPECT_EQ(gradcheck(f, {q, k, v}, set.all()), "");
}

// Beams that share their keys stand at positions of their own all the same.
TEST(RelativeKeys, KeepPositionsApartWhereSequencesShareACache) {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  const Inputs in =
      random_inputs({.heads = heads, .q_lengths = {1, 1, 1}, .kv_lengths = {9, 0, 0}}, DType::kF32);
  const AttentionOptions options{.heads = heads,
                                 .relative_keys = rows_of(random_tensor({31, 4}, 4, DType::kF32), 15)};
  const KeyValueSpan span{.k = in.k.data<float>(),
                          .v = in.v.data<float>(),
                          .kv_len = 9,
                          .k_row_stride = in.k.stride(0),
                          .v_row_stride = in.v.stride(0)};
  const std::vector<KeyValueSpan> shared{span, span, span}, alone{span};
  const Tensor together =
      attention_cached(in.q, Segments({1, 1, 1}, {8, 8, 3}), shared, DType::kF32, options);
  const int64_t past[] = {8, 8, 3};
  for (int64_t b = 0; b < 3; ++b)
    expect_equal_bits(
        attention_cached(in.q.rows(b, b + 1), Segments({1}, {past[b]}), alone, DType::kF32, options),
        together.rows(b, b + 1), "sequence " + std::to_string(b));
}

TEST(RelativeKeys, OfSizesThatDoNotFitAreRefused) {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  const Inputs in = random_inputs({.heads = heads, .q_lengths = {3}, .kv_lengths = {}}, DType::kF32);
  const auto call = [&](const RelativeKeys& r, const ScorePtr& score) {
    (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                    {.heads = heads, .score = score, .relative_keys = r});
  };
  EXPECT_NO_THROW(call(rows_of(random_tensor({3, 4}, 1, DType::kF32), 1), nullptr));
  EXPECT_THROW(call(rows_of(random_tensor({3, 5}, 1, DType::kF32), 1), nullptr), Error);
  EXPECT_THROW(call(rows_of(random_tensor({3, 4}, 1, DType::kF32), 3), nullptr), Error);
  EXPECT_THROW(call(rows_of(random_tensor({3, 4}, 1, DType::kF64), 1), nullptr), Error);
  EXPECT_THROW(call(rows_of(random_tensor({3, 4}, 1, DType::kF32), 1), uniform()), Error);
  const auto values = [&](const Tensor& rows, int64_t zero) {
    (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                    {.heads = heads, .relative_values = RelativeValues{.rows = Var(rows), .zero = zero}});
  };
  EXPECT_NO_THROW(values(random_tensor({3, 8}, 1, DType::kF32), 2));
  EXPECT_ERROR(kShape, "attention: relative values need a matrix of rows, `zero` one of them",
               values(random_tensor({3, 4}, 1, DType::kF32), 3));
  EXPECT_ERROR(kShape, "relative values are [3, 5] f32, need 8 columns, or 4 for all heads alike, as f32",
               values(random_tensor({3, 5}, 1, DType::kF32), 1));
  ParameterSet set(1);
  EXPECT_ERROR(kValue, "a.relative_values: max_distance is 0", ShawRelativeValues(set, "a", heads, 0));
}

}  // namespace
}  // namespace qkv
