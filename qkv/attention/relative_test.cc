// Relative keys: against scores made the long way, on both paths and every family, with gradients.

#include "qkv/attention/relative.h"

#include "qkv/attention/test_cases.h"

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
}

}  // namespace
}  // namespace qkv
