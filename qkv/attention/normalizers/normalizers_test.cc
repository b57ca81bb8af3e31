#include "qkv/attention/normalizers.h"

#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<double> weights(const NormalizerPtr& normalizer, std::vector<double> scores) {
  (void)normalizer->weights(0, static_cast<int64_t>(scores.size()), scores.data());
  return scores;
}
void expect_near(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << i;
}

TEST(Softmax, AddsUpToOne) {
  expect_near(weights(softmax_normalizer(), {0, std::log(3.0), -kInf}), {0.25, 0.75, 0});
  expect_near(weights(softmax_normalizer(), {-kInf, -kInf}), {0, 0});
  expect_near(weights(softmax_normalizer(), {1e4, 1e4}), {0.5, 0.5});
}

TEST(SoftmaxWithSink, GivesTheSinkItsShare) {
  ParameterSet set(1, DType::kF64);
  const NormalizerPtr sink = softmax_with_sink(set, "n", {.n_heads = 2, .d_k = 1});
  expect_near(weights(sink, {0, std::log(2.0)}), {0.25, 0.5});
  set.find("n.sink")->set_value(Tensor::from({2, 1}, {std::log(5.0), 0}, DType::kF64));
  expect_near(weights(sink, {0, std::log(2.0)}), {0.125, 0.25});
  expect_near(weights(sink, {-kInf}), {0});
}

TEST(Sparsemax, IsTheNearestPointOfTheSimplex) {
  expect_near(weights(sparsemax(), {0.3, 0.1, -0.8}), {0.6, 0.4, 0});
  expect_near(weights(sparsemax(), {5, 1, 2}), {1, 0, 0});
  expect_near(weights(sparsemax(), {1, 1, 1, 1}), {0.25, 0.25, 0.25, 0.25});
  expect_near(weights(sparsemax(), {-kInf, 2, -kInf}), {0, 1, 0});
  expect_near(weights(sparsemax(), {-kInf}), {0});
}

// sum max(s / 2 - tau, 0)^2 = 1, which is all that defines it.
TEST(Entmax15, SolvesItsEquation) {
  expect_near(weights(entmax15(), {0, 0}), {0.5, 0.5});
  expect_near(weights(entmax15(), {9, 1}), {1, 0});
  RandomStream random({.seed = 3});
  for (int64_t n : {1, 2, 3, 10, 100})
    for (double scale : {0.1, 1.0, 10.0}) {
      std::vector<double> s(static_cast<size_t>(n));
      for (double& x : s) x = scale * random.normal();
      const std::vector<double> w = weights(entmax15(), s);
      double sum = 0, tau = kInf;
      for (size_t i = 0; i < s.size(); ++i) {
        sum += w[i];
        if (w[i] > 0) tau = s[i] / 2 - std::sqrt(w[i]);
      }
      EXPECT_NEAR(sum, 1, 1e-9);
      for (size_t i = 0; i < s.size(); ++i) EXPECT_NEAR(std::sqrt(w[i]), std::max(s[i] / 2 - tau, 0.0), 1e-7);
    }
}

TEST(Sigmoid, DoesNotCompete) {
  expect_near(weights(sigmoid(), {0, std::log(3.0), -kInf}), {0.5, 0.75, 0});
  expect_near(weights(sigmoid(-std::log(3.0)), {0}), {0.25});
}

TEST(Normalizers, LetNanStayNan) {
  ParameterSet set(1, DType::kF64);
  const NormalizerPtr all[] = {softmax_normalizer(), softmax_with_sink(set, "n", {.n_heads = 1, .d_k = 1}),
                               sparsemax(), entmax15(), sigmoid()};
  for (const NormalizerPtr& n : all) {
    const std::vector<double> w = weights(n, {1, std::nan(""), 0});
    EXPECT_TRUE(std::isnan(w[1])) << n->name();
    if (n->name() != "sigmoid") {  // the share of an infinite score is not a number
      EXPECT_TRUE(std::isnan(weights(n, {1, kInf, 0})[1])) << n->name();
    }
  }
}

std::vector<NormalizerPtr> all_normalizers(ParameterSet& set, const HeadSizes& heads) {
  std::vector<NormalizerPtr> all{
      softmax_normalizer(), softmax_with_sink(set, "n", heads), sparsemax(), entmax15(), sigmoid(),
      sigmoid(-2)};
  set.find("n.sink")->set_value(random_tensor({heads.n_heads, 1}, 4, set.dtype()));
  return all;
}

TEST(Normalizers, GradientsMatchFiniteDifferences) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 3, .d_v = 2};
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kAuto})
    for (bool drop : {false, true}) {
      ParameterSet set(1, DType::kF64);
      for (const NormalizerPtr& n : all_normalizers(set, heads)) {
        const Segments self({2, 0, 5});
        AttentionOptions options{
            .heads = heads, .rules = {causal(), soft_cap(2)}, .normalizer = n, .path = path};
        if (drop) options.dropout = dropout(0.3);
        EXPECT_EQ(
            gradcheck([&](const auto& in) { return attention(in[0], in[1], in[2], self, self, options); },
                      {random_tensor({7, 6}, 1), random_tensor({7, 3}, 2), random_tensor({7, 2}, 3)},
                      set.all()),
            "")
            << n->name();
      }
    }
}

TEST(Normalizers, BlockedAgreesWithTheReferenceOnEveryFamily) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Shapes shapes{
        .heads = {.n_heads = 2, .d_k = 8, .d_v = 6}, .q_lengths = {70, 3, 64, 0, 129}, .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, dtype);
    ParameterSet set(1, accumulator_dtype(dtype));
    for (const NormalizerPtr& n : all_normalizers(set, shapes.heads)) {
      if (n->blockwise() == Normalizer::Blockwise::kNone) continue;
      AttentionOptions options{.heads = shapes.heads,
                               .rules = {sliding_window({.back = 30, .ahead = 20})},
                               .normalizer = n,
                               .dropout = dropout(0.2),
                               .path = AttentionPath::kReference};
      const auto sinks = [&] {
        const Tensor g = set.find("n.sink")->grad().clone();
        set.find("n.sink")->zero_grad();
        return g;
      };
      const Outcome reference = run(in, options);
      const Tensor sink = sinks();
      options.path = AttentionPath::kBlocked;
      for (const kernels::Table* table : tables()) {
        options.kernels = table;
        const double tolerance = dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 1e-4 : 0.15;
        const std::string what = std::string(n->name()) + " " + std::string(name(table->isa));
        expect_close(run(in, options), reference, tolerance, what);
        EXPECT_LE(max_difference(sinks(), sink), 10 * tolerance) << what;
      }
    }
  }
}

TEST(Normalizers, TheProbeShowsTheirWeights) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 4}, .q_lengths = {70, 5}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  ParameterSet set(1, DType::kF64);
  for (const NormalizerPtr& n : all_normalizers(set, shapes.heads)) {
    Probe probe;
    const Tensor out =
        attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                  {.heads = shapes.heads, .rules = {causal()}, .normalizer = n, .probe = &probe})
            .value();
    ASSERT_EQ(probe.rows.size(), 150u);
    for (const AttentionRow& row : probe.rows)  // out is the weights' sum of values
      for (int64_t d = 0; d < 4; ++d) {
        double sum = 0;
        for (size_t j = 0; j < row.attn_weights.size(); ++j)
          sum += row.attn_weights[j] *
                 in.v.at({in.keys.begin(row.sequence) + static_cast<int64_t>(j), row.head * 4 + d});
        EXPECT_NEAR(out.at({in.queries.begin(row.sequence) + row.position, row.head * 4 + d}), sum, 1e-5)
            << n->name();
      }
  }
}

// A softmax as one would write it: no thought of hidden keys.
class WholeRowSoftmax final : public Normalizer {
 public:
  std::string_view name() const override { return "whole_row_softmax"; }
  double weights(int64_t h, int64_t n, double* s) const override {
    return softmax_normalizer()->weights(h, n, s);
  }
  float weights(int64_t h, int64_t n, float* s) const override {
    return softmax_normalizer()->weights(h, n, s);
  }
  void backward(int64_t, int64_t n, const double* w, double* g, double*) const override { run(n, w, g); }
  void backward(int64_t, int64_t n, const float* w, float* g, float*) const override { run(n, w, g); }

 private:
  template <class A>
  static void run(int64_t n, const A* w, A* g) {
    A mean = 0;
    for (int64_t j = 0; j < n; ++j) mean += w[j] * g[j];
    for (int64_t j = 0; j < n; ++j) g[j] = w[j] * (g[j] - mean);
  }
};

TEST(Normalizers, OfOnesOwnHearNothingOfHiddenKeysWhateverTheirValues) {
  const HeadSizes heads{.n_heads = 1, .d_k = 4};
  Inputs in = random_inputs({.heads = heads, .q_lengths = {200}, .kv_lengths = {}}, DType::kF64);
  // Keys 0 to 63, a tile that nobody sees, and 70, one among others.
  const MaskPtr hides = mask([](auto, auto, auto, auto j) { return j > 63 && j != 70; });
  for (int64_t j : {3, 70})
    for (int64_t c = 0; c < 4; ++c)
      in.v.rows(j, j + 1).columns(c, c + 1).copy_from(Tensor::from({1, 1}, {std::nan("")}, DType::kF64));
  AttentionOptions options{.heads = heads, .rules = {hides}};
  const Outcome want = run(in, options);
  options.normalizer = std::make_shared<WholeRowSoftmax>();
  for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kRows}) {
    options.path = path;
    expect_close(run(in, options), want, 1e-12, path == AttentionPath::kRows ? "rows" : "reference");
  }
}

TEST(Normalizers, ThatNeedWholeRowsSayWhatWouldWork) {
  const Inputs in =
      random_inputs({.heads = {.n_heads = 1, .d_k = 4}, .q_lengths = {3}, .kv_lengths = {}}, DType::kF32);
  try {
    (void)attention(
        Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
        {.heads = {.n_heads = 1, .d_k = 4}, .normalizer = sparsemax(), .path = AttentionPath::kBlocked});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(e.what()).find("sparsemax needs whole rows"), std::string::npos) << e.what();
  }
  EXPECT_THROW((void)sigmoid(kInf), Error);
}

}  // namespace
}  // namespace qkv
