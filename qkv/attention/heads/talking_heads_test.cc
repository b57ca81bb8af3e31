// Talking heads against the plain definition, whole matrices in float64.

#include "qkv/attention/heads/talking_heads.h"

#include <functional>
#include <limits>

#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;
using Rounding = std::function<double(double)>;

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Mixed {
  Mixed(const HeadSizes& heads, DType dtype, bool scores = true, bool weights = true)
      : set(1, accumulator_dtype(dtype)), talking(talking_heads(set, "talk", heads)) {
    const Shape shape{heads.n_heads, heads.n_heads};
    talking.scores->set_value(random_tensor(shape, 21, set.dtype(), 0.5));
    talking.weights->set_value(random_tensor(shape, 22, set.dtype(), 0.5));
    if (!scores) talking.scores = nullptr;
    if (!weights) talking.weights = nullptr;
  }
  ParameterSet set;
  TalkingHeads talking;
};

struct Rules {
  std::function<double(int64_t h, int64_t i, int64_t j)> bias = [](int64_t, int64_t, int64_t) { return 0.0; };
  std::function<bool(int64_t h, int64_t i, int64_t j)> sees = [](int64_t, int64_t, int64_t) { return true; };
};

// The paper's equations; `rounded` is what a plain evaluation does to every matrix it makes.
std::vector<double> by_definition(
    const Inputs& in, const HeadSizes& s, const TalkingHeads& talking, const NormalizerPtr& normalizer,
    const Rules& rules, const Rounding& rounded = [](double x) { return x; }) {
  const int64_t n = s.n_heads, d_k = s.d_k, d_v = s.value_width();
  std::vector<double> out(static_cast<size_t>(in.q.size(0) * n * d_v));
  const auto mixing = [&](const ParameterPtr& p, int64_t g, int64_t h) {
    return p ? p->value().at({g, h}) : g == h ? 1.0 : 0.0;
  };
  for (int64_t b = 0; b < in.queries.size(); ++b)
    for (int64_t i = 0; i < in.queries.length(b); ++i) {
      const int64_t row = in.queries.begin(b) + i, kv_len = in.keys.length(b), first = in.keys.begin(b);
      std::vector<std::vector<double>> x(n, std::vector<double>(kv_len)), w(x), u(x);
      for (int64_t h = 0; h < n; ++h)
        for (int64_t j = 0; j < kv_len; ++j) {
          for (int64_t d = 0; d < d_k; ++d)
            x[h][j] += in.q.at({row, h * d_k + d}) * in.k.at({first + j, h / s.group() * d_k + d});
          x[h][j] = rounded(x[h][j] / std::sqrt(static_cast<double>(d_k)));
        }
      for (int64_t h = 0; h < n; ++h) {
        for (int64_t j = 0; j < kv_len; ++j) {
          for (int64_t g = 0; g < n; ++g) w[h][j] += mixing(talking.scores, g, h) * x[g][j];
          w[h][j] = rules.sees(h, i, j) ? rounded(w[h][j] + rules.bias(h, i, j)) : -kInf;
        }
        (void)normalizer->weights(h, kv_len, w[h].data());
        for (double& one : w[h]) one = rounded(one);
      }
      for (int64_t h = 0; h < n; ++h)
        for (int64_t j = 0; j < kv_len; ++j) {
          for (int64_t g = 0; g < n; ++g) u[h][j] += mixing(talking.weights, g, h) * w[g][j];
          for (int64_t d = 0; d < d_v; ++d)
            out[(row * n + h) * d_v + d] += rounded(u[h][j]) * in.v.at({first + j, h / s.group() * d_v + d});
        }
    }
  return out;
}

// Two heads, one key each way round: scores (0, log 3) of head 0 go to head 1 alone, whose weights go to
// both.
TEST(TalkingHeads, MixByHand) {
  const HeadSizes heads{.n_heads = 2, .d_k = 1};
  const Var q(Tensor::from({1, 2}, {1, 1})), k(Tensor::from({2, 2}, {0, 0, std::log(3.0), 0}));
  const Var v(Tensor::from({2, 2}, {0, 0, 4, -4}));
  ParameterSet set(1);
  const TalkingHeads talking = talking_heads(set, "t", heads);
  AttentionOptions options{.heads = heads, .talking = talking};
  const auto out = [&] { return attention(q, k, v, Segments({1}), Segments({2}), options).value(); };
  EXPECT_NEAR(out().at({0, 0}), 3, 1e-6) << "fresh heads do not mix";
  EXPECT_NEAR(out().at({0, 1}), -2, 1e-6);
  talking.scores->set_value(Tensor::from({2, 2}, {0, 1, 0, 0}));  // S_0 = 0, S_1 = X_0
  EXPECT_NEAR(out().at({0, 0}), 2, 1e-6);
  EXPECT_NEAR(out().at({0, 1}), -3, 1e-6);
  talking.weights->set_value(Tensor::from({2, 2}, {0, 0, 1, 2}));  // U_0 = W_1, U_1 = 2 W_1
  EXPECT_NEAR(out().at({0, 0}), 3, 1e-6);
  EXPECT_NEAR(out().at({0, 1}), -6, 1e-6);
}

TEST(TalkingHeads, EqualTheirDefinitionOnEveryFamily) {
  const Shapes shapes{.heads = {.n_heads = 6, .n_kv_heads = 3, .d_k = 5, .d_v = 7},
                      .q_lengths = {1, 5, 7, 63, 0, 65, 4},
                      .kv_lengths = {5, 1, 130, 64, 3, 65, 0}};
  const Rules rules{
      .bias = [](int64_t h, int64_t i, int64_t j) { return 0.1 * double(h + 1) * std::sin(double(i - j)); },
      .sees = [](int64_t h, int64_t i, int64_t j) { return i != 4 && (i + j + h) % 5 != 0; }};
  for (DType dtype : {DType::kF64, DType::kF32})
    for (const NormalizerPtr& normalizer : {softmax_normalizer(), sparsemax()})
      for (int which : {1, 2, 3}) {
        const Inputs in = random_inputs(shapes, dtype);
        const Mixed mixed(shapes.heads, dtype, which & 1, which & 2);
        const Tensor want =
            Tensor::from({in.q.size(0), 6 * 7},
                         by_definition(in, shapes.heads, mixed.talking, normalizer, rules), DType::kF64);
        for (const kernels::Table* table : tables()) {
          const Tensor got = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                                       {.heads = shapes.heads,
                                        .rules = {bias([&](int64_t, int64_t h, int64_t i, int64_t j) {
                                                    return rules.bias(h, i, j);
                                                  }),
                                                  mask([&](int64_t, int64_t h, int64_t i, int64_t j) {
                                                    return rules.sees(h, i, j);
                                                  })},
                                        .normalizer = normalizer,
                                        .talking = mixed.talking,
                                        .kernels = table})
                                 .value();
          EXPECT_LE(max_difference(got, want), dtype == DType::kF64 ? 1e-12 : 2e-5)
              << normalizer->name() << " " << name(table->isa) << " " << which;
        }
      }
}

TEST(TalkingHeads, Bf16ErrsAtMostTwiceAsMuchAsAPlainEvaluation) {
  const Shapes shapes{.heads = {.n_heads = 4, .d_k = 32}, .q_lengths = {100}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kBF16);
  const Mixed mixed(shapes.heads, DType::kBF16);
  const auto evaluate = [&](DType dtype, const Rounding& rounded) {
    return Tensor::from(
        {100, 128}, by_definition(in, shapes.heads, mixed.talking, softmax_normalizer(), {}, rounded), dtype);
  };
  const Tensor exact = evaluate(DType::kF64, [](double x) { return x; });
  const Tensor plain =
      evaluate(DType::kBF16, [](double x) { return static_cast<double>(static_cast<float>(bfloat16(x))); });
  for (const kernels::Table* table : tables())
    EXPECT_LE(max_difference(attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                                       {.heads = shapes.heads, .talking = mixed.talking, .kernels = table})
                                 .value(),
                             exact),
              2 * max_difference(plain, exact))
        << name(table->isa);
}

TEST(TalkingHeads, GradientsMatchFiniteDifferences) {
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 2, .d_v = 3};
  const Segments queries({3, 0, 2}), keys({4, 2, 1}), self({2, 5});
  for (const auto& [which, normalizer] : {std::pair(1, softmax_normalizer()),
                                          {2, softmax_normalizer()},
                                          {3, softmax_normalizer()},
                                          {3, entmax15()}}) {
    const Mixed mixed(heads, DType::kF64, which & 1, which & 2);
    AttentionOptions options{
        .heads = heads, .normalizer = normalizer, .talking = mixed.talking, .dropout = dropout(0.3)};
    EXPECT_EQ(gradcheck([&](const auto& x) { return attention(x[0], x[1], x[2], queries, keys, options); },
                        {random_tensor({5, 8}, 1), random_tensor({7, 4}, 2), random_tensor({7, 6}, 3)},
                        mixed.set.all()),
              "")
        << which << normalizer->name();
    options.rules = {soft_cap(2), causal()};
    EXPECT_EQ(gradcheck([&](const auto& x) { return attention(x[0], x[1], x[2], self, self, options); },
                        {random_tensor({7, 8}, 1), random_tensor({7, 4}, 2), random_tensor({7, 6}, 3)},
                        mixed.set.all()),
              "")
        << which << normalizer->name() << " causal";
  }
}

TEST(TalkingHeads, GradientsMatchFiniteDifferencesAcrossTiles) {
  const HeadSizes heads{.n_heads = 2, .d_k = 1};
  const Mixed mixed(heads, DType::kF64);
  for (const auto& [n, m] : {std::pair<int64_t, int64_t>{66, 3}, {2, 67}}) {
    const Segments queries({n}), keys({m});
    EXPECT_EQ(
        gradcheck(
            [&](const auto& x) {
              return attention(x[0], x[1], x[2], queries, keys, {.heads = heads, .talking = mixed.talking});
            },
            {random_tensor({n, 2}, 1), random_tensor({m, 2}, 2), random_tensor({m, 2}, 3)}, mixed.set.all()),
        "");
  }
}

TEST(TalkingHeads, BitsDependNeitherOnTheBatchNorOnTheThreads) {
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 8, .d_v = 12};
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (const kernels::Table* table : tables()) {
      Mixed mixed(heads, dtype);
      const AttentionOptions options{
          .heads = heads, .rules = {causal()}, .talking = mixed.talking, .kernels = table};
      const Inputs in =
          random_inputs({.heads = heads, .q_lengths = {3, 100, 0, 65}, .kv_lengths = {}}, dtype);
      const auto with_threads = [&](int n) {
        set_threads(n);
        for (const ParameterPtr& p : mixed.set.all()) p->zero_grad();
        std::vector<Tensor> all;
        const Outcome o = run(in, options);
        set_threads(0);
        return std::vector<Tensor>{o.out,
                                   o.dq,
                                   o.dk,
                                   o.dv,
                                   mixed.talking.scores->grad().clone(),
                                   mixed.talking.weights->grad().clone()};
      };
      const std::vector<Tensor> one = with_threads(1);
      for (int n : {2, 7})  // items side by side; heads side by side
        for (size_t i = 0; const Tensor& t : with_threads(n))
          expect_equal_bits(t, one[i++], std::to_string(n));
      const int64_t begin = 3, end = 103;
      const Segments alone({100});
      EXPECT_EQ(attention(Var(in.q.rows(begin, end)), Var(in.k.rows(begin, end)), Var(in.v.rows(begin, end)),
                          alone, alone, options)
                    .value()
                    .values(),
                one[0].rows(begin, end).values());
    }
}

TEST(TalkingHeads, PromptAndTokenByTokenAgreeBitForBit) {
  const HeadSizes heads{.n_heads = 4, .d_k = 8};
  const int64_t n = 140;
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Mixed mixed(heads, dtype);
    const AttentionOptions options{.heads = heads, .rules = {sliding_window(70)}, .talking = mixed.talking};
    const Inputs in = random_inputs({.heads = heads, .q_lengths = {n}, .kv_lengths = {}}, dtype);
    const Tensor prompt = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value();
    for (int64_t i = 0; i < n; i += 9) {
      const KeyValueSpan keys[] = {kernels::visit_dtype(dtype, [&]<class T>(T) {
        return KeyValueSpan{.k = in.k.data<T>(),
                            .v = in.v.data<T>(),
                            .kv_len = i + 1,
                            .k_row_stride = in.k.stride(0),
                            .v_row_stride = in.v.stride(0)};
      })};
      expect_equal_bits(attention_cached(in.q.rows(i, i + 1), Segments({1}, {i}), keys, dtype, options),
                        prompt.rows(i, i + 1), std::to_string(i));
    }
  }
}

// Heads share what they see, so one head's NaN is every head's: but only of the queries that see it.
TEST(TalkingHeads, NanStaysWithTheQueriesThatSeeIt) {
  const HeadSizes heads{.n_heads = 3, .d_k = 4};
  Mixed mixed(heads, DType::kF32);
  const AttentionOptions options{
      .heads = heads, .rules = {soft_cap(5), key_limit({70})}, .talking = mixed.talking};
  const Inputs clean = random_inputs({.heads = heads, .q_lengths = {90}, .kv_lengths = {}}, DType::kF32);
  const auto gradients = [&](const Inputs& in) {
    for (const ParameterPtr& p : mixed.set.all()) p->zero_grad();
    const Outcome o = run(in, options);
    return std::vector<Tensor>{o.out,
                               o.dq,
                               o.dk.rows(0, 70),
                               o.dv.rows(0, 70),
                               mixed.talking.scores->grad().clone(),
                               mixed.talking.weights->grad().clone()};
  };
  const std::vector<Tensor> want = gradients(clean);
  for (bool in_key : {false, true}) {  // of a key that nobody sees
    const Inputs in{.queries = clean.queries,
                    .keys = clean.keys,
                    .q = clean.q,
                    .k = clean.k.clone(),
                    .v = clean.v.clone()};
    (in_key ? in.k : in.v).rows(75, 76).fill(std::nan(""));
    for (size_t i = 0; const Tensor& t : gradients(in)) expect_equal_bits(t, want[i], std::to_string(i)), ++i;
  }
}

TEST(TalkingHeads, TheProbeShowsWhatMultipliesTheValues) {
  const Shapes shapes{.heads = {.n_heads = 3, .d_k = 4}, .q_lengths = {70, 5}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  const Mixed mixed(shapes.heads, DType::kF64);
  Probe probe;
  const Tensor out =
      attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                {.heads = shapes.heads, .rules = {causal()}, .talking = mixed.talking, .probe = &probe})
          .value();
  ASSERT_EQ(probe.rows.size(), 225u);
  for (const AttentionRow& row : probe.rows) {
    double sum = 0;
    for (size_t j = 0; j < row.attn_weights.size(); ++j)
      sum += row.attn_weights[j] *
             in.v.at({in.keys.begin(row.sequence) + static_cast<int64_t>(j), row.head * 4});
    EXPECT_NEAR(out.at({in.queries.begin(row.sequence) + row.position, row.head * 4}), sum, 1e-5);
  }
}

TEST(TalkingHeads, MemoryIsLinearInLength) {
  const HeadSizes heads{.n_heads = 2, .d_k = 8};
  const Mixed mixed(heads, DType::kF32);
  set_threads(1);  // each has scratch of its own
  const auto peak_above_inputs = [&](int64_t n) {
    const Inputs in = random_inputs({.heads = heads, .q_lengths = {n}, .kv_lengths = {}}, DType::kF32);
    release_memory();
    const int64_t before = memory_use().in_use;
    (void)run(in, {.heads = heads, .rules = {causal()}, .talking = mixed.talking});
    return memory_use().peak - before;
  };
  (void)peak_above_inputs(2048);
  EXPECT_LT(peak_above_inputs(2048), 16 << 20);  // two matrices of 2048 x 2048 scores would be 32 MiB
  set_threads(0);
}

TEST(TalkingHeads, SayWhatDoesNotFit) {
  const HeadSizes heads{.n_heads = 2, .d_k = 4};
  const Mixed mixed(heads, DType::kF32), three({.n_heads = 3, .d_k = 4}, DType::kF32);
  const Inputs in = random_inputs({.heads = heads, .q_lengths = {3}, .kv_lengths = {}}, DType::kF32);
  const auto error = [&](const AttentionOptions& options) {
    try {
      (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options);
      return std::pair(ErrorCode::kInternal, std::string("no error"));
    } catch (const Error& e) {
      return std::pair(e.code(), std::string(e.what()));
    }
  };
  for (AttentionPath path : {AttentionPath::kBlocked, AttentionPath::kDecode}) {
    const auto [code, text] = error({.heads = heads, .talking = mixed.talking, .path = path});
    EXPECT_EQ(code, ErrorCode::kUnsupported);
    EXPECT_NE(text.find("take kAuto, kRows or kReference"), std::string::npos) << text;
  }
  const auto [code, text] = error({.heads = heads, .talking = three.talking});
  EXPECT_EQ(code, ErrorCode::kShape);
  EXPECT_NE(text.find("talk.pre_softmax_weight is [3, 3], needs to be [2, 2]"), std::string::npos) << text;
}

}  // namespace
}  // namespace qkv
