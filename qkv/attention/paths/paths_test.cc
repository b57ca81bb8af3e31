// The blocked path against the reference, against finite differences, and against itself under another batch,
// thread count or order of arrival.

#include <limits>

#include "qkv/attention/paths/scratch.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;

AttentionOptions on(AttentionPath path, AttentionOptions options) {
  options.path = path;
  return options;
}

// Equal keys give equal scores, so each query averages the values it can see: small enough to check by hand.
TEST(Attention, AveragesTheVisibleValuesWhereKeysAreEqual) {
  const Segments four({4});
  const Var zero(Tensor::zeros({4, 1}, DType::kF32)), v(Tensor::from({4, 1}, {1, 2, 4, 9}));
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked, AttentionPath::kDecode}) {
    AttentionOptions options{.heads = {.d_k = 1}, .path = path};
    EXPECT_EQ(attention(zero, zero, v, four, four, options).value().values(),
              (std::vector<double>{4, 4, 4, 4}));
    options.rules = {causal()};
    const std::vector<double> out = attention(zero, zero, v, four, four, options).value().values();
    EXPECT_FLOAT_EQ(out[0], 1);
    EXPECT_FLOAT_EQ(out[1], 1.5);
    EXPECT_FLOAT_EQ(out[2], 7 / 3.0);
    EXPECT_FLOAT_EQ(out[3], 4);
  }
}

// softmax(0, log 3) = (1/4, 3/4), for both heads; the second head's values are negated.
TEST(Attention, WeighsValuesBySoftmaxOfScores) {
  const Var q(Tensor::from({1, 2}, {1, 1})), k(Tensor::from({2, 2}, {0, 0, std::log(3.0), std::log(3.0)}));
  const Var v(Tensor::from({2, 2}, {0, 0, 4, -4}));
  const Tensor out =
      attention(q, k, v, Segments({1}), Segments({2}), {.heads = {.n_heads = 2, .d_k = 1}}).value();
  EXPECT_NEAR(out.at({0, 0}), 3, 1e-6);
  EXPECT_NEAR(out.at({0, 1}), -3, 1e-6);
}

struct Variant {
  std::string name;
  AttentionOptions options;
  Shapes shapes;
};

// Every score, self and cross, with and without rules and dropout, grouped heads, d_k != d_v, lengths around
// the tile.
std::vector<Variant> variants(DType parameters) {
  std::vector<Variant> all;
  static std::vector<std::shared_ptr<ParameterSet>> sets;
  for (std::string_view name : score_names())
    for (bool cross : {false, true})
      for (bool drop : {false, true}) {
        Variant x{.name = std::string(name) + (cross ? " cross" : " causal") + (drop ? " dropout" : ""),
                  .options = {},
                  .shapes = {}};
        if (cross) {
          x.shapes.q_lengths = {5, 65, 1, 0, 7, 64};
          x.shapes.kv_lengths = {130, 7, 64, 3, 0, 63};
          x.shapes.heads = {.n_heads = 3, .n_kv_heads = 3, .d_k = 7, .d_v = 5};
        } else {
          x.options.rules = {causal()};
        }
        sets.push_back(std::make_shared<ParameterSet>(3, parameters));
        x.options.heads = x.shapes.heads;
        x.options.score = make_score(name, *sets.back(), "score", x.options.heads);
        if (drop) x.options.dropout = dropout(0.3);
        all.push_back(std::move(x));
      }
  return all;
}

TEST(Blocked, EqualsTheReferenceInFloat64) {
  for (const Variant& x : variants(DType::kF64)) {
    const Inputs in = random_inputs(x.shapes, DType::kF64);
    expect_close(run(in, on(AttentionPath::kBlocked, x.options)),
                 run(in, on(AttentionPath::kReference, x.options)), 1e-12, x.name);
  }
}

TEST(Blocked, EqualsTheReferenceInFloat32OnEveryIsa) {
  for (const Variant& x : variants(DType::kF32)) {
    const Inputs in = random_inputs(x.shapes, DType::kF32);
    const Outcome reference = run(in, on(AttentionPath::kReference, x.options));
    for (const kernels::Table* table : tables()) {
      AttentionOptions options = on(AttentionPath::kBlocked, x.options);
      options.kernels = table;
      expect_close(run(in, options), reference, 1e-4, x.name + " " + std::string(name(table->isa)));
    }
  }
}

// The plain evaluation in bfloat16 that a framework does: every intermediate matrix is rounded. One head,
// scaled dot.
struct PlainBf16 {
  static double rounded(double x) { return static_cast<float>(bfloat16(x)); }
  static Outcome run(const Inputs& in, const Tensor& dout, bool causal) {
    const int64_t n = in.q.size(0), m = in.k.size(0), d_k = in.q.size(1), d_v = in.v.size(1);
    const auto at = [](const Tensor& t, int64_t i, int64_t j) { return t.at({i, j}); };
    const double scale = 1 / std::sqrt(static_cast<double>(d_k));
    std::vector<double> out(n * d_v), dq(n * d_k), dk(m * d_k), dv(m * d_v);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t seen = causal ? i + 1 : m;
      std::vector<double> p(seen), dp(seen);
      double max = -1e30, sum = 0, dot = 0;
      for (int64_t j = 0; j < seen; ++j) {
        for (int64_t d = 0; d < d_k; ++d) p[j] += at(in.q, i, d) * at(in.k, j, d);
        p[j] = rounded(rounded(p[j]) * scale);
        max = std::max(max, p[j]);
      }
      for (double& x : p) sum += x = std::exp(x - max);
      for (double& x : p) x = rounded(x / sum);
      for (int64_t j = 0; j < seen; ++j) {
        for (int64_t d = 0; d < d_v; ++d) {
          out[i * d_v + d] += p[j] * at(in.v, j, d);
          dp[j] += at(dout, i, d) * at(in.v, j, d);
          dv[j * d_v + d] += p[j] * at(dout, i, d);
        }
        dp[j] = rounded(dp[j]);
        dot += p[j] * dp[j];
      }
      for (int64_t j = 0; j < seen; ++j) {
        const double ds = rounded(rounded(p[j] * (dp[j] - dot)) * scale);
        for (int64_t d = 0; d < d_k; ++d) {
          dq[i * d_k + d] += ds * at(in.k, j, d);
          dk[j * d_k + d] += ds * at(in.q, i, d);
        }
      }
    }
    return {Tensor::from({n, d_v}, out, DType::kBF16), Tensor::from({n, d_k}, dq, DType::kBF16),
            Tensor::from({m, d_k}, dk, DType::kBF16), Tensor::from({m, d_v}, dv, DType::kBF16)};
  }
};

TEST(Blocked, Bf16ErrsAtMostTwiceAsMuchAsPlainBf16AndGradientsThreeTimes) {
  for (const kernels::Table* table : tables())
    for (bool is_causal : {false, true})
      for (int64_t length : {17, 64, 150}) {
        const Shapes shapes{
            .heads = {.n_heads = 1, .d_k = 32, .d_v = 24}, .q_lengths = {length}, .kv_lengths = {}};
        const Inputs in = random_inputs(shapes, DType::kBF16);
        const Inputs exact_in{.queries = in.queries,
                              .keys = in.keys,
                              .q = in.q.to(DType::kF64),
                              .k = in.k.to(DType::kF64),
                              .v = in.v.to(DType::kF64)};
        AttentionOptions options{.heads = shapes.heads, .kernels = table};
        if (is_causal) options.rules = {causal()};
        // Both under the same gradient, one that bf16 holds.
        const Tensor dout = random_tensor({length, 24}, 77, DType::kBF16);
        const auto with_gradient = [&](const Inputs& x, const AttentionOptions& o) {
          const Var q(x.q, true), k(x.k, true), v(x.v, true);
          const Var out = attention(q, k, v, x.queries, x.keys, o);
          backward(out, dout.to(out.dtype()));
          return Outcome{out.value(), q.grad(), k.grad(), v.grad()};
        };
        const Outcome exact = with_gradient(exact_in, on(AttentionPath::kReference, options));
        const Outcome plain = PlainBf16::run(in, dout, is_causal), got = with_gradient(in, options);
        const std::string what = fmt::format("{} length {} causal {}", name(table->isa), length, is_causal);
        EXPECT_LE(max_difference(got.out, exact.out), 2 * max_difference(plain.out, exact.out)) << what;
        EXPECT_LE(max_difference(got.dq, exact.dq), 3 * max_difference(plain.dq, exact.dq)) << what;
        EXPECT_LE(max_difference(got.dk, exact.dk), 3 * max_difference(plain.dk, exact.dk)) << what;
        EXPECT_LE(max_difference(got.dv, exact.dv), 3 * max_difference(plain.dv, exact.dv)) << what;
      }
}

// Small sequences and one that crosses a tile: finite differences visit every element.
TEST(Gradients, MatchFiniteDifferencesForEveryScoreOnBothPaths) {
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked, AttentionPath::kDecode})
    for (std::string_view name : score_names())
      for (bool drop : {false, true}) {
        const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 3, .d_v = 2};
        ParameterSet set(11, DType::kF64);
        AttentionOptions options{
            .heads = heads, .score = make_score(name, set, "score", heads), .path = path};
        if (drop) options.dropout = dropout(0.4);
        const Segments queries({3, 0, 2}), keys({4, 2, 1});
        const auto f = [&](const std::vector<Var>& x) {
          return attention(x[0], x[1], x[2], queries, keys, options);
        };
        const auto inputs = [&](int64_t n, int64_t m) {
          return std::vector<Tensor>{random_tensor({n, 6}, 1), random_tensor({m, 3}, 2),
                                     random_tensor({m, 2}, 3)};
        };
        EXPECT_EQ(gradcheck(f, inputs(5, 7), set.all()), "") << name << (drop ? " dropout" : "");
        const Segments self({2, 5});
        options.rules = {causal()};
        const auto g = [&](const std::vector<Var>& x) {
          return attention(x[0], x[1], x[2], self, self, options);
        };
        EXPECT_EQ(gradcheck(g, inputs(7, 7), set.all()), "") << name << " causal" << (drop ? " dropout" : "");
      }
}

TEST(Gradients, MatchFiniteDifferencesAcrossTiles) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 1, .d_v = 1};
  const Segments queries({66}), keys({67});
  for (std::string_view name : {"scaled_dot", "additive"}) {
    ParameterSet set(11, DType::kF64);
    const AttentionOptions options{
        .heads = heads, .score = make_score(name, set, "score", heads), .dropout = dropout(0.2)};
    EXPECT_EQ(gradcheck([&](const auto& x) { return attention(x[0], x[1], x[2], queries, keys, options); },
                        {random_tensor({66, 2}, 1), random_tensor({67, 1}, 2), random_tensor({67, 1}, 3)},
                        set.all()),
              "")
        << name;
  }
}

// The dtypes and families that the following properties are checked for.
template <class F>
void for_all(F&& f) {
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (const kernels::Table* table : tables())
      for (std::string_view score : {"scaled_dot", "additive"}) {
        ParameterSet set(3);
        const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 16, .d_v = 24};
        f(dtype,
          AttentionOptions{.heads = heads, .score = make_score(score, set, "score", heads), .kernels = table},
          fmt::format("{} {} {}", name(dtype), name(table->isa), score));
      }
}

TEST(Blocked, ASequenceGetsTheSameBitsAloneAndInABatch) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    options.rules = {causal()};
    const Shapes shapes{.heads = options.heads, .q_lengths = {3, 100, 65, 8}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    const Outcome batch = run(in, options);
    for (int64_t b = 0; b < in.queries.size(); ++b) {
      const int64_t begin = in.queries.begin(b), end = begin + in.queries.length(b);
      const Segments alone({end - begin});
      const Var q(in.q.rows(begin, end), true), k(in.k.rows(begin, end), true),
          v(in.v.rows(begin, end), true);
      const Var out = attention(q, k, v, alone, alone, options);
      backward(out, random_tensor(batch.out.shape(), 77, dtype).rows(begin, end));
      expect_equal_bits(out.value(), batch.out.rows(begin, end), what);
      expect_equal_bits(q.grad(), batch.dq.rows(begin, end), what + " dq");
      expect_equal_bits(k.grad(), batch.dk.rows(begin, end), what + " dk");
      expect_equal_bits(v.grad(), batch.dv.rows(begin, end), what + " dv");
    }
  });
}

TEST(Blocked, BitsDoNotDependOnTheNumberOfThreads) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    options.rules = {causal()};
    options.dropout = dropout(0.1);
    // One sequence: fewer items than threads, so that work is cut differently; and many.
    for (const std::vector<int64_t>& lengths :
         {std::vector<int64_t>{200}, std::vector<int64_t>{70, 3, 64, 0, 65}}) {
      const Shapes shapes{.heads = options.heads, .q_lengths = lengths, .kv_lengths = {}};
      const Inputs in = random_inputs(shapes, dtype);
      set_threads(1);
      const Outcome one = run(in, options);
      for (int n : {2, 3, 8}) {
        set_threads(n);
        const Outcome more = run(in, options);
        expect_equal_bits(one.out, more.out, what);
        expect_equal_bits(one.dq, more.dq, what + " dq");
        expect_equal_bits(one.dk, more.dk, what + " dk");
        expect_equal_bits(one.dv, more.dv, what + " dv");
      }
      set_threads(0);
    }
  });
}

TEST(Cached, PromptAndTokenByTokenAgreeBitForBit) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    const int64_t n = 140;
    const Shapes shapes{.heads = options.heads, .q_lengths = {n}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    for (const std::vector<RulePtr>& rules :
         {std::vector<RulePtr>{causal()}, std::vector<RulePtr>{sliding_window(70)}}) {
      options.rules = rules;
      const Tensor prompt = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value();
      const auto span = [&](int64_t kv_len) {
        return kernels::visit_dtype(dtype, [&]<class T>(T) {
          return KeyValueSpan{.k = in.k.data<T>(),
                              .v = in.v.data<T>(),
                              .kv_len = kv_len,
                              .k_row_stride = in.k.stride(0),
                              .v_row_stride = in.v.stride(0)};
        });
      };
      for (int64_t i = 0; i < n; ++i) {
        const KeyValueSpan keys[] = {span(i + 1)};
        expect_equal_bits(attention_cached(in.q.rows(i, i + 1), Segments({1}, {i}), keys, dtype, options),
                          prompt.rows(i, i + 1), fmt::format("{} token {}", what, i));
      }
      // In chunks of several tokens, and keys beyond a query's sight present already.
      const KeyValueSpan all[] = {span(n)};
      expect_equal_bits(attention_cached(in.q.rows(50, 90), Segments({40}, {50}), all, dtype, options),
                        prompt.rows(50, 90), what);
    }
  });
}

TEST(Cached, BeamsThatShareASourceGetWhatTheyWouldGetAlone) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    const Shapes shapes{.heads = options.heads, .q_lengths = {1, 1, 1, 2, 1}, .kv_lengths = {70, 9, 0, 0, 0}};
    const Inputs in = random_inputs(shapes, dtype);
    kernels::visit_dtype(dtype, [&]<class T>(T) {
      const auto source = [&](int64_t b) {
        return KeyValueSpan{.k = in.k.data<T>() + in.keys.begin(b) * in.k.stride(0),
                            .v = in.v.data<T>() + in.keys.begin(b) * in.v.stride(0),
                            .kv_len = in.keys.length(b),
                            .k_row_stride = in.k.stride(0),
                            .v_row_stride = in.v.stride(0)};
      };
      const std::vector<KeyValueSpan> keys{source(0), source(0), source(1), source(1), source(0)};
      const Tensor together = attention_cached(in.q, in.queries, keys, dtype, options);
      for (int64_t b = 0; b < 5; ++b) {
        const int64_t begin = in.queries.begin(b), end = begin + in.queries.length(b);
        expect_equal_bits(attention_cached(in.q.rows(begin, end), Segments({end - begin}),
                                           std::span(&keys[b], 1), dtype, options),
                          together.rows(begin, end), what);
      }
    });
  });
}

TEST(Attention, AQueryThatSeesNoKeyYieldsZerosAndHasNoGradient) {
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked, AttentionPath::kDecode}) {
    const HeadSizes heads{.n_heads = 2, .d_k = 4};
    const Shapes shapes{.heads = heads, .q_lengths = {3, 2, 4}, .kv_lengths = {5, 0, 70}};
    const Inputs in = random_inputs(shapes, DType::kF32);
    const Outcome out = run(in, {.heads = heads, .rules = {key_limit({0, 0, 3})}, .path = path});
    EXPECT_EQ(max_difference(out.out.rows(0, 5), Tensor::zeros({5, 8}, DType::kF32)), 0);
    EXPECT_EQ(max_difference(out.dq.rows(0, 5), Tensor::zeros({5, 8}, DType::kF32)), 0);
    EXPECT_EQ(max_difference(out.dk.rows(0, 5), Tensor::zeros({5, 8}, DType::kF32)), 0);
    EXPECT_EQ(max_difference(out.dv.rows(8, 75), Tensor::zeros({67, 8}, DType::kF32)), 0);
    EXPECT_GT(max_difference(out.out.rows(5, 9), Tensor::zeros({4, 8}, DType::kF32)), 0);
  }
}

TEST(Attention, ScoresOfTenThousandGiveFiniteResults) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    options.score = dot();
    const Shapes shapes{.heads = options.heads, .q_lengths = {100}, .kv_lengths = {}};
    const Outcome out = run(random_inputs(shapes, dtype, 1, 50), options);
    for (const Tensor& t : {out.out, out.dq, out.dk, out.dv})
      for (double x : t.values()) ASSERT_TRUE(std::isfinite(x)) << what;
  });
}

// NaN in a key, in a value and in the gradient of a row stay with those who see them; the others keep their
// very bits.
TEST(Attention, NanReachesOnlyTheQueriesThatSeeIt) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    options.rules = {causal()};
    const int64_t n = 100, bad = 70;
    const Shapes shapes{.heads = options.heads, .q_lengths = {n}, .kv_lengths = {}};
    const Inputs clean = random_inputs(shapes, dtype);
    for (bool in_key : {false, true}) {
      const Inputs in{.queries = clean.queries,
                      .keys = clean.keys,
                      .q = clean.q.clone(),
                      .k = clean.k.clone(),
                      .v = clean.v.clone()};
      (in_key ? in.k : in.v).rows(bad, bad + 1).columns(0, 5).fill(std::nan(""));  // of key/value head 0
      const Outcome a = run(clean, options), b = run(in, options);
      expect_equal_bits(a.out.rows(0, bad), b.out.rows(0, bad), what);
      expect_equal_bits(a.dq.rows(0, bad), b.dq.rows(0, bad), what + " dq");
      EXPECT_TRUE(std::isnan(b.out.at({bad, 0}))) << what;
      expect_equal_bits(a.out.columns(2 * 24, 4 * 24), b.out.columns(2 * 24, 4 * 24), what + " other heads");
    }
  });
}

// A query that is NaN has weights of NaN, but only for keys that it sees: the gradients of the others stay.
TEST(Attention, NanInAQueryLeavesTheGradientsOfKeysItDoesNotSee) {
  const HeadSizes heads{.n_heads = 1, .d_k = 8};
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (const kernels::Table* table : tables())
      for (const NormalizerPtr& normalizer : {softmax_normalizer(), sigmoid(), sparsemax(), entmax15()})
        for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kAuto}) {
          const AttentionOptions options{
              .heads = heads, .rules = {causal()}, .normalizer = normalizer, .path = path, .kernels = table};
          Inputs in = random_inputs({.heads = heads, .q_lengths = {80}, .kv_lengths = {}}, dtype);
          const Outcome clean = run(in, options);
          in.q = in.q.clone();
          in.q.rows(70, 71).fill(std::nan(""));
          const Outcome bad = run(in, options);
          const std::string what = fmt::format("{} {} {}", name(dtype), name(table->isa), normalizer->name());
          EXPECT_TRUE(std::isnan(bad.dv.at({70, 0}))) << what;
          expect_equal_bits(bad.dk.rows(71, 80), clean.dk.rows(71, 80), what + " dk");
          expect_equal_bits(bad.dv.rows(71, 80), clean.dv.rows(71, 80), what + " dv");
        }
}

TEST(Attention, DropoutKeepsTheExpectationAndIsDrawnAfreshForEachKey) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 8}, .q_lengths = {90}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF32);
  AttentionOptions options{.heads = shapes.heads};
  const Tensor exact = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value();
  std::vector<double> mean(static_cast<size_t>(exact.numel()));
  constexpr int kDraws = 400;
  for (uint64_t seed = 0; seed < kDraws; ++seed) {
    options.dropout = dropout(0.25, seed);
    const std::vector<double> out =
        attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value().values();
    for (size_t i = 0; i < out.size(); ++i) mean[i] += out[i] / kDraws;
  }
  EXPECT_LE(max_difference(Tensor::from(exact.shape(), mean, DType::kF32), exact), 0.12);
  EXPECT_GT(
      max_difference(attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value(), exact),
      0.12);
}

TEST(Blocked, MemoryIsLinearInLength) {
  const auto peak_above_inputs = [](int64_t n) {
    const Shapes shapes{.heads = {.n_heads = 1, .d_k = 16}, .q_lengths = {n}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, DType::kF32);
    paths::Scratch::release();
    reset_memory_peak();
    const int64_t before = memory_use().in_use;
    (void)run(in, {.heads = shapes.heads, .rules = {causal()}});
    return memory_use().peak - before;
  };
  // 4096 x 4096 scores would be 64 MiB.
  EXPECT_LT(peak_above_inputs(4096), 16 << 20);
}

}  // namespace
}  // namespace qkv
