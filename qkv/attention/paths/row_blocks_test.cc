// Whole rows of scores, 64 queries at a time, against the reference, and against themselves in another batch,
// thread count or order of arrival.

#include <limits>

#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;

struct NamedNormalizers {
  explicit NamedNormalizers(const HeadSizes& heads, DType dtype) : set(1, accumulator_dtype(dtype)) {
    all = {softmax_normalizer(), softmax_with_sink(set, "n", heads), sparsemax(), entmax15(), sigmoid(-1)};
    set.find("n.sink")->set_value(random_tensor({heads.n_heads, 1}, 4, set.dtype()));
  }
  ParameterSet set;
  std::vector<NormalizerPtr> all;
};

Outcome run_on(AttentionPath path, const Inputs& in, AttentionOptions options) {
  options.path = path;
  return run(in, options);
}

// Every score with every normalizer, grouped heads, d_k != d_v, lengths around the tile, masks that leave
// rows without keys.
TEST(RowBlocks, EqualTheReferenceInFloat64) {
  for (std::string_view score : score_names())
    for (bool cross : {false, true}) {
      Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 3, .d_v = 5}};
      shapes.q_lengths =
          cross ? std::vector<int64_t>{5, 65, 1, 0, 7} : std::vector<int64_t>{1, 5, 7, 63, 0, 65};
      if (cross) shapes.kv_lengths = {130, 7, 64, 3, 0};
      const Inputs in = random_inputs(shapes, DType::kF64);
      ParameterSet set(3, DType::kF64);
      NamedNormalizers normalizers(shapes.heads, DType::kF64);
      for (const NormalizerPtr& n : normalizers.all) {
        if (score != "scaled_dot" && n->name() != "sparsemax") continue;
        AttentionOptions options{
            .heads = shapes.heads,
            .score = make_score(score, set, std::string(score) + std::string(n->name()), shapes.heads),
            .normalizer = n,
            .dropout = dropout(cross ? 0.3 : 0)};
        if (cross)
          options.rules = {key_limit({100, 7, 0, 3, 0})};
        else
          options.rules = {soft_cap(3), sliding_window({.back = 40, .ahead = 2})};
        expect_close(run_on(AttentionPath::kRows, in, options),
                     run_on(AttentionPath::kReference, in, options), 1e-12,
                     std::string(score) + " " + std::string(n->name()));
      }
    }
}

TEST(RowBlocks, EqualTheReferenceOnEveryFamily) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Shapes shapes{
        .heads = {.n_heads = 2, .d_k = 8, .d_v = 6}, .q_lengths = {70, 3, 64, 0, 129}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    NamedNormalizers normalizers(shapes.heads, dtype);
    for (const NormalizerPtr& n : normalizers.all) {
      AttentionOptions options{
          .heads = shapes.heads, .rules = {causal()}, .normalizer = n, .dropout = dropout(0.2)};
      const Outcome reference = run_on(AttentionPath::kReference, in, options);
      for (const kernels::Table* table : tables()) {
        options.kernels = table;
        expect_close(run_on(AttentionPath::kRows, in, options), reference, dtype == DType::kF32 ? 1e-4 : 0.15,
                     fmt::format("{} {} {}", n->name(), name(dtype), name(table->isa)));
      }
    }
  }
}

// What the brief of every path is: rows of bf16 weights err at most twice as much as a plain evaluation that
// rounds every matrix it makes.
TEST(RowBlocks, Bf16ErrsAtMostTwiceAsMuchAsAPlainEvaluation) {
  const int64_t n = 150, d = 32;
  const Inputs in = random_inputs({.heads = {.d_k = d}, .q_lengths = {n}, .kv_lengths = {}}, DType::kBF16);
  const auto rounded = [](double x) { return static_cast<double>(static_cast<float>(bfloat16(x))); };
  for (const NormalizerPtr& normalizer : {sparsemax(), entmax15()}) {
    std::vector<double> plain(static_cast<size_t>(n * d)), exact(plain);
    for (bool rounds : {false, true})
      for (int64_t i = 0; i < n; ++i) {
        std::vector<double> s(static_cast<size_t>(n));
        for (int64_t j = 0; j < n; ++j) {
          for (int64_t c = 0; c < d; ++c) s[j] += in.q.at({i, c}) * in.k.at({j, c}) / std::sqrt(double(d));
          if (rounds) s[j] = rounded(s[j]);
        }
        (void)normalizer->weights(0, n, s.data());
        for (int64_t j = 0; j < n; ++j)
          for (int64_t c = 0; c < d; ++c)
            (rounds ? plain : exact)[i * d + c] += (rounds ? rounded(s[j]) : s[j]) * in.v.at({j, c});
      }
    const Tensor want = Tensor::from({n, d}, exact, DType::kF64);
    const double allowed = 2 * max_difference(Tensor::from({n, d}, plain, DType::kBF16), want);
    for (const kernels::Table* table : tables())
      EXPECT_LE(max_difference(attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                                         {.heads = {.d_k = d}, .normalizer = normalizer, .kernels = table})
                                   .value(),
                               want),
                allowed)
          << normalizer->name();
  }
}

TEST(RowBlocks, GradientsMatchFiniteDifferencesAcrossTiles) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 1, .d_v = 1};
  for (const auto& [n, m] : {std::pair<int64_t, int64_t>{66, 3}, {2, 67}})
    for (const NormalizerPtr& normalizer : {sparsemax(), entmax15()}) {
      const Segments queries({n}), keys({m});
      EXPECT_EQ(gradcheck(
                    [&](const auto& x) {
                      return attention(x[0], x[1], x[2], queries, keys,
                                       {.heads = heads, .normalizer = normalizer, .dropout = dropout(0.2)});
                    },
                    {random_tensor({n, 2}, 1), random_tensor({m, 1}, 2), random_tensor({m, 1}, 3)}),
                "")
          << normalizer->name();
    }
}

TEST(RowBlocks, RelativeKeysAndValuesAndTrainedEditsGetTheReferencesGradients) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 4, .d_v = 3}, .q_lengths = {70, 9}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  ParameterSet set(5, DType::kF64);
  const ShawRelativeKeys shaw(set, "shaw", shapes.heads, 20);
  set.find("shaw.relative_keys")->set_value(random_tensor({41, 4}, 9));
  const ShawRelativeValues values(set, "values", shapes.heads, 20);
  set.find("values.relative_values")->set_value(random_tensor({41, 3}, 7));
  const EditPtr t5 = t5_bias(set, "t5", shapes.heads, {});
  set.find("t5.weight")->set_value(random_tensor({2, 32}, 8));
  for (const NormalizerPtr& n : {sparsemax(), entmax15(), softmax_normalizer()}) {
    const auto gradients = [&](AttentionPath path) {
      Outcome out = run_on(path, in,
                           {.heads = shapes.heads,
                            .relative_keys = shaw(DType::kF64),
                            .relative_values = values(DType::kF64),
                            .rules = {t5, soft_cap(4), causal()},
                            .normalizer = n});
      out.dk = set.find("shaw.relative_keys")->grad().clone();
      out.dq = set.find("values.relative_values")->grad().clone();
      out.dv = set.find("t5.weight")->grad().clone();
      for (const ParameterPtr& p : set.all()) p->zero_grad();
      return out;
    };
    expect_close(gradients(AttentionPath::kRows), gradients(AttentionPath::kReference), 1e-12,
                 std::string(n->name()));
  }
}

template <class F>
void for_all(F&& f) {
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (const kernels::Table* table : tables()) {
      const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 16, .d_v = 24};
      NamedNormalizers normalizers(heads, dtype);
      for (const NormalizerPtr& n : {normalizers.all[1], normalizers.all[3], normalizers.all[4]})
        f(dtype,
          AttentionOptions{.heads = heads,
                           .rules = {causal()},
                           .normalizer = n,
                           .path = AttentionPath::kRows,
                           .kernels = table},
          fmt::format("{} {} {}", name(dtype), name(table->isa), n->name()));
    }
}

TEST(RowBlocks, BitsDependNeitherOnTheBatchNorOnTheThreads) {
  for_all([](DType dtype, const AttentionOptions& options, const std::string& what) {
    const Shapes shapes{.heads = options.heads, .q_lengths = {3, 100, 0, 65}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    set_threads(1);
    const Outcome batch = run(in, options);
    set_threads(5);
    const Outcome threaded = run(in, options);
    set_threads(0);
    expect_equal_bits(threaded.out, batch.out, what);
    expect_equal_bits(threaded.dq, batch.dq, what + " dq");
    expect_equal_bits(threaded.dk, batch.dk, what + " dk");
    expect_equal_bits(threaded.dv, batch.dv, what + " dv");
    const int64_t begin = in.queries.begin(1), end = begin + 100;
    const Segments alone({100});
    const Var q(in.q.rows(begin, end), true), k(in.k.rows(begin, end), true), v(in.v.rows(begin, end), true);
    const Var out = attention(q, k, v, alone, alone, options);
    backward(out, random_tensor(batch.out.shape(), 77, dtype).rows(begin, end));
    expect_equal_bits(out.value(), batch.out.rows(begin, end), what);
    expect_equal_bits(q.grad(), batch.dq.rows(begin, end), what + " dq");
    expect_equal_bits(k.grad(), batch.dk.rows(begin, end), what + " dk");
    expect_equal_bits(v.grad(), batch.dv.rows(begin, end), what + " dv");
  });
}

TEST(RowBlocks, PromptAndTokenByTokenAgreeBitForBit) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    const int64_t n = 140;
    const Inputs in = random_inputs({.heads = options.heads, .q_lengths = {n}, .kv_lengths = {}}, dtype);
    options.rules = {sliding_window(70)};
    const Tensor prompt = attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value();
    for (int64_t i : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{64}, int64_t{100}, n - 1}) {
      const KeyValueSpan keys[] = {kernels::visit_dtype(dtype, [&]<class T>(T) {
        return KeyValueSpan{.k = in.k.data<T>(),
                            .v = in.v.data<T>(),
                            .kv_len = i + 1,
                            .k_row_stride = in.k.stride(0),
                            .v_row_stride = in.v.stride(0)};
      })};
      expect_equal_bits(attention_cached(in.q.rows(i, i + 1), Segments({1}, {i}), keys, dtype, options),
                        prompt.rows(i, i + 1), fmt::format("{} token {}", what, i));
    }
  });
}

// NaN in a key or value, and in the gradient of a row, stays with those who see it; a hidden key has gradient
// 0 even if the row that does not see it is NaN.
TEST(RowBlocks, NanReachesOnlyTheQueriesThatSeeIt) {
  for_all([](DType dtype, AttentionOptions options, const std::string& what) {
    options.rules = {soft_cap(5), causal()};
    const int64_t n = 100, bad = 70;
    const Inputs clean = random_inputs({.heads = options.heads, .q_lengths = {n}, .kv_lengths = {}}, dtype);
    const Outcome a = run(clean, options);
    for (int which : {0, 1, 2}) {
      const Inputs in{.queries = clean.queries,
                      .keys = clean.keys,
                      .q = clean.q.clone(),
                      .k = clean.k.clone(),
                      .v = clean.v.clone()};
      (which == 0 ? in.q : which == 1 ? in.k : in.v).rows(bad, bad + 1).columns(0, 5).fill(std::nan(""));
      const Outcome b = run(in, options);
      expect_equal_bits(a.out.rows(0, bad), b.out.rows(0, bad), what);
      expect_equal_bits(a.dq.rows(0, bad), b.dq.rows(0, bad), what + " dq");
      // A value may meet a weight of 0.
      const bool sparse = options.normalizer->blockwise() == Normalizer::Blockwise::kNone;
      EXPECT_TRUE(std::isnan(b.out.at({bad, 0})) || (which == 2 && sparse)) << what;
      expect_equal_bits(a.out.columns(2 * 24, 4 * 24), b.out.columns(2 * 24, 4 * 24), what + " other heads");
      if (which == 0) {
        expect_equal_bits(a.out.rows(bad + 1, n), b.out.rows(bad + 1, n), what + " later rows");
        expect_equal_bits(a.dk.rows(bad + 1, n), b.dk.rows(bad + 1, n), what + " keys it does not see");
        expect_equal_bits(a.dv.rows(bad + 1, n), b.dv.rows(bad + 1, n), what + " values it does not see");
      }
    }
  });
}

TEST(RowBlocks, MemoryIsLinearInLength) {
  const auto peak_above_inputs = [](int64_t n) {
    const Shapes shapes{.heads = {.n_heads = 1, .d_k = 16}, .q_lengths = {n}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, DType::kF32);
    release_memory();
    const int64_t before = memory_use().in_use;
    (void)run(in, {.heads = shapes.heads, .rules = {causal()}, .normalizer = sparsemax()});
    return memory_use().peak - before;
  };
  (void)peak_above_inputs(4096);
  EXPECT_LT(peak_above_inputs(4096), 24 << 20);  // 4096 x 4096 scores would be 64 MiB
}

}  // namespace
}  // namespace qkv
