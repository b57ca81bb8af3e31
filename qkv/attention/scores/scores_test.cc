#include "qkv/attention/scores.h"

#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

// A score's value for one query and key, read off the log-sum-exp of a row that sees one key.
double score_of_pair(const ScorePtr& score, const HeadSizes& heads, std::vector<double> q,
                     std::vector<double> k) {
  Probe probe;
  const Tensor v = Tensor::zeros({1, heads.kv_heads() * heads.value_width()}, DType::kF64);
  (void)attention(Var(Tensor::from({1, heads.d_k}, q, DType::kF64)),
                  Var(Tensor::from({1, heads.d_k}, k, DType::kF64)), Var(v), Segments({1}), Segments({1}),
                  {.heads = heads, .score = score, .probe = &probe});
  return probe.rows.at(0).lse;
}

TEST(Scores, AreWhatTheirPapersSay) {
  const HeadSizes one{.n_heads = 1, .d_k = 2};
  const std::vector<double> q{1, 2}, k{3, -1};
  EXPECT_NEAR(score_of_pair(dot(), one, q, k), 1, 1e-12);
  EXPECT_NEAR(score_of_pair(scaled_dot(), one, q, k), 1 / std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(score_of_pair(scaled_dot(0.25), one, q, k), 0.25, 1e-12);
  EXPECT_NEAR(score_of_pair(uniform(), one, q, k), 0, 1e-12);

  EXPECT_NEAR(score_of_pair(cosine(one, DType::kF64, 3), one, q, k), 3 / std::sqrt(50.0), 1e-9);
  EXPECT_NEAR(score_of_pair(cosine(one, DType::kF64), one, {0, 0}, k), 0, 1e-9);

  ParameterSet set(1, DType::kF64);
  const ScorePtr n = qk_norm(set, "n", one, nullptr, 1e-12);
  set.find("n.q_norm.weight")
      ->set_value(Tensor::from({2}, {2, 3}, DType::kF64));  // q / rms = (1, 2) / sqrt(2.5)
  EXPECT_NEAR(score_of_pair(n, one, q, k), (2 * 3 - 6 * 1) / std::sqrt(2.5 * 5) / std::sqrt(2.0), 1e-9);
  const ScorePtr g = general(set, "g", one), a = additive(set, "a", one), m = mlp(set, "m", one, 1);
  set.find("g.weight")->set_value(Tensor::from({1, 2, 2}, {1, 2, 3, 4}, DType::kF64));  // q^T W = (7, 10)
  EXPECT_NEAR(score_of_pair(g, one, q, k), 7 * 3 - 10, 1e-12);
  set.find("a.v")->set_value(Tensor::from({1, 2}, {2, 5}, DType::kF64));
  EXPECT_NEAR(score_of_pair(a, one, q, k), 2 * std::tanh(4.0) + 5 * std::tanh(1.0), 1e-12);
  set.find("m.query_weight")->set_value(Tensor::from({1, 2, 1}, {0.1, 0.2}, DType::kF64));
  set.find("m.key_weight")->set_value(Tensor::from({1, 2, 1}, {0.3, 0.4}, DType::kF64));
  set.find("m.bias")->set_value(Tensor::from({1, 1}, {-0.5}, DType::kF64));
  set.find("m.v")->set_value(Tensor::from({1, 1}, {3}, DType::kF64));
  EXPECT_NEAR(score_of_pair(m, one, q, k), 3 * std::tanh(0.5 + 0.5 - 0.5), 1e-12);
}

// The same numbers in the framework's terms: a mapped query against the keys, through the dot product.
TEST(Scores, GeneralUsesEachHeadsOwnMatrix) {
  const HeadSizes heads{.n_heads = 2, .d_k = 1};
  ParameterSet set(1, DType::kF64);
  const ScorePtr g = general(set, "g", heads);
  set.find("g.weight")->set_value(Tensor::from({2, 1, 1}, {2, -3}, DType::kF64));
  Probe probe;
  const Var ones(Tensor::full({1, 2}, DType::kF64, 1));
  (void)attention(ones, ones, ones, Segments({1}), Segments({1}),
                  {.heads = heads, .score = g, .probe = &probe});
  EXPECT_NEAR(probe.rows[0].lse, 2, 1e-12);
  EXPECT_NEAR(probe.rows[1].lse, -3, 1e-12);
}

TEST(Scores, StartWithAVarianceNearOne) {
  const HeadSizes heads{.n_heads = 4, .d_k = 64};
  for (std::string_view name : {"scaled_dot", "cosine", "qk_norm", "general", "additive", "mlp"}) {
    ParameterSet set(1);
    Probe probe;
    const Shapes shapes{.heads = heads, .q_lengths = std::vector<int64_t>(100, 1), .kv_lengths = {}};
    const Inputs in = random_inputs(shapes, DType::kF32);
    (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                    {.heads = heads, .score = make_score(name, set, "s", heads), .probe = &probe});
    double squares = 0;
    for (const AttentionRow& row : probe.rows) squares += row.lse * row.lse;
    const double variance = squares / static_cast<double>(probe.rows.size());
    EXPECT_GT(variance, 0.3) << name;
    EXPECT_LT(variance, 1.7) << name;
  }
}

TEST(Scores, UniformGivesEveryQueryTheMeanOfTheValuesAndNoGradientToQAndK) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 3}, .q_lengths = {4}, .kv_lengths = {70}};
  const Inputs in = random_inputs(shapes, DType::kF32);
  const Outcome out = run(in, {.heads = shapes.heads, .score = uniform()});
  for (int64_t c = 0; c < 6; ++c) {
    double mean = 0;
    for (int64_t j = 0; j < 70; ++j) mean += in.v.at({j, c}) / 70;
    for (int64_t i = 0; i < 4; ++i) EXPECT_NEAR(out.out.at({i, c}), mean, 1e-6);
  }
  EXPECT_EQ(max_difference(out.dq, Tensor::zeros({4, 6}, DType::kF32)), 0);
  EXPECT_EQ(max_difference(out.dk, Tensor::zeros({70, 6}, DType::kF32)), 0);
}

// A cache holds prepared keys: preparing them once gives what the packed op gives.
TEST(Scores, PreparedKeysInACacheGiveTheSameBits) {
  for (std::string_view name : score_names()) {
    const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 8, .d_v = 4};
    ParameterSet set(2);
    const AttentionOptions options{.heads = heads, .score = make_score(name, set, "s", heads)};
    const Shapes shapes{.heads = heads, .q_lengths = {5}, .kv_lengths = {80}};
    const Inputs in = random_inputs(shapes, DType::kF32);
    const Tensor keys = options.score->prepare_keys(Var(in.k), heads).value();
    const KeyValueSpan span[] = {{.k = keys.data<float>(),
                                  .v = in.v.data<float>(),
                                  .kv_len = 80,
                                  .k_row_stride = keys.stride(0),
                                  .v_row_stride = in.v.stride(0)}};
    expect_equal_bits(attention_cached(in.q, in.queries, span, DType::kF32, options),
                      attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).value(),
                      std::string(name));
  }
}

TEST(Scores, AMisspeltNameIsAnsweredWithTheNearest) {
  ParameterSet set(1);
  try {
    (void)make_score("aditive", set, "s", {.d_k = 4});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kValue);
    EXPECT_NE(std::string(e.what()).find("\"aditive\"; did you mean additive?"), std::string::npos)
        << e.what();
  }
  EXPECT_THROW((void)scaled_dot(-1), Error);
}

TEST(Scores, NameTheirParameters) {
  ParameterSet set(1);
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 8};
  const ScorePtr score = mlp(set, "layers.0.score", heads, 16);
  ASSERT_EQ(score->parameters().size(), 4u);
  EXPECT_EQ(set.find("layers.0.score.query_weight")->value().shape(), (Shape{4, 8, 16}));
  EXPECT_EQ(set.find("layers.0.score.key_weight")->value().shape(), (Shape{2, 8, 16}));
  EXPECT_EQ(set.find("layers.0.score.bias")->value().shape(), (Shape{2, 16}));
  EXPECT_EQ(set.find("layers.0.score.v")->value().shape(), (Shape{4, 16}));
}

}  // namespace
}  // namespace qkv
