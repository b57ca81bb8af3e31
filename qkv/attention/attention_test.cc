// The op's face: the probe, the errors, and what it leaves alone.

#include "qkv/attention/attention.h"

#include "qkv/attention/test_cases.h"
#include "qkv/autograd/ops/elementwise.h"

namespace qkv {
namespace {

using namespace test;

// Weights by their definition, in float64.
std::vector<double> weights_by_hand(const Inputs& in, const HeadSizes& heads, int64_t b, int64_t h, int64_t i,
                                    bool is_causal) {
  std::vector<double> w(static_cast<size_t>(in.keys.length(b)));
  double sum = 0;
  for (int64_t j = 0; j < in.keys.length(b); ++j) {
    double s = 0;
    for (int64_t d = 0; d < heads.d_k; ++d)
      s += in.q.at({in.queries.begin(b) + i, h * heads.d_k + d}) *
           in.k.at({in.keys.begin(b) + j, h / heads.group() * heads.d_k + d});
    w[j] = is_causal && j > i ? 0 : std::exp(s / std::sqrt(static_cast<double>(heads.d_k)));
    sum += w[j];
  }
  for (double& x : w) x /= sum;
  return w;
}

TEST(Probe, ReturnsTheExactWeightsOfTheRowsAskedForAndNoOthers) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked})
      for (bool is_causal : {false, true}) {
        const Shapes shapes{
            .heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 8}, .q_lengths = {3, 130, 70}, .kv_lengths = {}};
        const Inputs in = random_inputs(shapes, dtype);
        Probe probe{.sites = {"encoder"},
                    .layers = {2},
                    .heads = {1, 3},
                    .sequences = {1},
                    .positions = {0, 5, 63, 64, 65, 129}};
        AttentionOptions options{.heads = shapes.heads,
                                 .dropout = dropout(0.5),
                                 .path = path,
                                 .probe = &probe,
                                 .site = "encoder",
                                 .layer = 2};
        if (is_causal) options.rules = {causal()};
        (void)run(in, options);  // under training
        ASSERT_EQ(probe.rows.size(), 12u);
        for (const AttentionRow& row : probe.rows) {
          const std::vector<double> want =
              weights_by_hand(in, shapes.heads, 1, row.head, row.position, is_causal);
          double sum = 0;
          for (size_t j = 0; j < want.size(); ++j) {
            EXPECT_NEAR(row.attn_weights[j], want[j], 2e-6);
            sum += row.attn_weights[j];
          }
          EXPECT_NEAR(sum, 1, 1e-5);
          EXPECT_EQ(row.sequence, 1);
          EXPECT_TRUE(row.head == 1 || row.head == 3);
        }
      }
}

TEST(Probe, ChangesNoBitOfTheResultAndHearsNothingFromOtherSites) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 8}, .q_lengths = {70, 4}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kBF16);
  Probe all, other{.sites = {"cross"}};
  AttentionOptions options{.heads = shapes.heads, .rules = {causal()}, .site = "decoder", .layer = 1};
  const Outcome plain = run(in, options);
  options.probe = &all;
  const Outcome watched = run(in, options);
  options.probe = &other;
  (void)run(in, options);
  EXPECT_EQ(all.rows.size(), 2u * 74);
  EXPECT_TRUE(other.rows.empty());
  expect_equal_bits(plain.out, watched.out, "out");
  expect_equal_bits(plain.dq, watched.dq, "dq");
}

TEST(Probe, KnowsTheEntropyAndTheHeaviestKeys) {
  // Keys score 0, log 2, 0, log 4: weights 1/8, 2/8, 1/8, 4/8.
  const Segments one({1}), four({4});
  const Var q(Tensor::from({1, 1}, {1}, DType::kF64)), v(Tensor::zeros({4, 1}, DType::kF64)),
      k(Tensor::from({4, 1}, {0, std::log(2.0), 0, std::log(4.0)}, DType::kF64));
  Probe all, two, many;
  two.top_k = 3;
  many.top_k = 9;
  for (Probe* probe : {&all, &two, &many})
    (void)attention(q, k, v, one, four, {.heads = {.d_k = 1}, .score = dot(), .probe = probe});
  EXPECT_NEAR(all.rows.at(0).entropy, 1.75 * std::log(2.0), 1e-7);
  EXPECT_TRUE(all.rows[0].keys.empty());
  EXPECT_EQ(two.rows.at(0).keys, (std::vector<int64_t>{3, 1, 0})) << "of equal keys the first";
  EXPECT_EQ(two.rows[0].attn_weights, (std::vector<float>{0.5f, 0.25f, 0.125f}));
  EXPECT_EQ(two.rows[0].entropy, all.rows[0].entropy) << "over all keys, kept or not";
  EXPECT_EQ(many.rows.at(0).keys, (std::vector<int64_t>{3, 1, 0, 2}));
  // A query that sees nothing has no entropy.
  Probe blind;
  (void)attention(q, k, v, one, four, {.heads = {.d_k = 1}, .rules = {key_limit({0})}, .probe = &blind});
  EXPECT_EQ(blind.rows.at(0).entropy, 0);
}

TEST(Probe, SeesTheSameWeightsInAPromptAndStepByStep) {
  const int64_t n = 70;
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 8}, .q_lengths = {n}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF32);
  Probe prompt{.heads = {1}}, steps{.heads = {1}};
  AttentionOptions options{.heads = shapes.heads, .rules = {causal()}, .probe = &prompt};
  (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options);
  options.probe = &steps;
  for (int64_t i = 0; i < n; ++i) {
    const KeyValueSpan keys[] = {{.k = in.k.data<float>(),
                                  .v = in.v.data<float>(),
                                  .kv_len = i + 1,
                                  .k_row_stride = in.k.stride(0),
                                  .v_row_stride = in.v.stride(0)}};
    (void)attention_cached(in.q.rows(i, i + 1), Segments({1}, {i}), keys, DType::kF32, options);
  }
  ASSERT_EQ(steps.rows.size(), prompt.rows.size());
  for (size_t i = 0; i < steps.rows.size(); ++i) {
    EXPECT_EQ(steps.rows[i].position, prompt.rows[i].position);
    EXPECT_EQ(steps.rows[i].lse, prompt.rows[i].lse);
    std::vector<float> padded = steps.rows[i].attn_weights;
    padded.resize(prompt.rows[i].attn_weights.size());  // keys to come weigh 0 in the prompt
    EXPECT_EQ(padded, prompt.rows[i].attn_weights) << i;
  }
}

TEST(Attention, RunsWithoutATapeWhereNothingNeedsAGradient) {
  const Shapes shapes{.heads = {.n_heads = 1, .d_k = 2}, .q_lengths = {3}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF32);
  const AttentionOptions options{.heads = shapes.heads, .rules = {soft_cap(30), causal()}};
  EXPECT_FALSE(attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, options).requires_grad());
  EXPECT_TRUE(attention(Var(in.q), Var(in.k), Var(in.v, true), in.queries, in.keys, options).requires_grad());
}

TEST(Attention, GradientsReachColumnsOfOneFusedProjection) {
  const HeadSizes heads{.n_heads = 2, .d_k = 3};
  const Segments two({3, 4});
  EXPECT_EQ(gradcheck(
                [&](const std::vector<Var>& x) {
                  return attention(columns(x[0], 0, 6), columns(x[0], 6, 12), columns(x[0], 12, 18), two, two,
                                   {.heads = heads, .rules = {causal()}});
                },
                {random_tensor({7, 18}, 1)}),
            "");
}

TEST(Attention, AnEmptyBatchGivesAnEmptyResult) {
  const HeadSizes heads{.n_heads = 2, .d_k = 3};
  const Var nothing(Tensor::zeros({0, 6}, DType::kF32), true);
  const Var out = attention(nothing, nothing, nothing, Segments(), Segments(), {.heads = heads});
  EXPECT_EQ(out.value().shape(), (Shape{0, 6}));
  backward(out);
}

// The error's code and a piece of its text.
void expect_error(ErrorCode code, const std::string& piece, const std::function<void()>& f) {
  try {
    f();
    ADD_FAILURE() << "no error; wanted: " << piece;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(piece), std::string::npos) << e.what();
  }
}

// Says that its queries are wider than it makes them, or scales what has no scale.
class WrongScore final : public Score {
 public:
  explicit WrongScore(Pairing pairing) : pairing_(std::move(pairing)) {}
  std::string_view name() const override { return "wrong"; }
  Pairing pairing(const HeadSizes& /*heads*/) const override { return pairing_; }

 private:
  Pairing pairing_;
};

TEST(Attention, AScoreOfOnesOwnIsCheckedOnEveryPath) {
  const AttentionOptions options{.heads = {.n_heads = 2, .d_k = 3},
                                 .score = std::make_shared<WrongScore>(Pairing{.width = 6})};
  const Tensor x = Tensor::zeros({2, 6}, DType::kF32), wide = Tensor::zeros({2, 12}, DType::kF32);
  const char* piece = "a prepared q has 6 columns, needs 2 heads x 6 = 12";
  expect_error(ErrorCode::kShape, piece,
               [&] { (void)attention(Var(x), Var(x), Var(x), Segments({2}), Segments({2}), options); });
  expect_error(ErrorCode::kShape, piece, [&] {
    const KeyValueSpan keys[] = {
        {.k = wide.data<float>(), .v = x.data<float>(), .kv_len = 2, .k_row_stride = 12, .v_row_stride = 6}};
    (void)attention_cached(x, Segments({2}), keys, DType::kF32, options);
  });
  ParameterSet set(1);
  const Pairing scaled{
      .kind = Pairing::Kind::kTanhSum, .width = 3, .scale = 0.5, .v = set.constant("v", {2, 3}, 1)};
  expect_error(ErrorCode::kValue, "wrong scales a sum of tanh by 0.5; scale its v instead", [&] {
    (void)attention(Var(x), Var(x), Var(x), Segments({2}), Segments({2}),
                    {.heads = options.heads, .score = std::make_shared<WrongScore>(scaled)});
  });
}

TEST(Attention, ErrorsNameTheSizes) {
  const auto call = [](AttentionOptions o, Shape q, Shape k, Shape v, DType dk = DType::kF32,
                       std::vector<int64_t> n = {2}, std::vector<int64_t> m = {2}) {
    return [=] {
      (void)attention(Var(Tensor::zeros(q, DType::kF32)), Var(Tensor::zeros(k, dk)),
                      Var(Tensor::zeros(v, DType::kF32)), Segments(n), Segments(m), o);
    };
  };
  const AttentionOptions two{.heads = {.n_heads = 2, .d_k = 3}};
  expect_error(ErrorCode::kValue, "n_heads (6) is not a multiple of n_kv_heads (4)",
               call({.heads = {.n_heads = 6, .n_kv_heads = 4, .d_k = 1}}, {2, 6}, {2, 4}, {2, 4}));
  expect_error(ErrorCode::kValue, "d_k (0)", call({}, {2, 6}, {2, 6}, {2, 6}));
  expect_error(ErrorCode::kShape, "k has 5 columns, needs 2 heads x 3 = 6",
               call(two, {2, 6}, {2, 5}, {2, 6}));
  expect_error(ErrorCode::kShape, "q has 3 rows, queries has 2 tokens", call(two, {3, 6}, {2, 6}, {2, 6}));
  expect_error(ErrorCode::kDtype, "k is bf16, but q is f32", call(two, {2, 6}, {2, 6}, {2, 6}, DType::kBF16));
  expect_error(ErrorCode::kShape, "1 query sequences, but 2 key sequences",
               call(two, {2, 6}, {2, 6}, {2, 6}, DType::kF32, {2}, {1, 1}));
  expect_error(
      ErrorCode::kValue, "dropout",
      call({.heads = two.heads, .dropout = {.key = {}, .threshold = 65536}}, {2, 6}, {2, 6}, {2, 6}));
  expect_error(ErrorCode::kDtype, "i32 is not a type of activations", [&] {
    const Var ids(Tensor::zeros({2, 6}, DType::kI32));
    (void)attention(ids, ids, ids, Segments({2}), Segments({2}), two);
  });
  expect_error(ErrorCode::kDtype, "q is f32, but the cached keys and values are bf16", [&] {
    (void)attention_cached(Tensor::zeros({1, 6}, DType::kF32), Segments({1}), {}, DType::kBF16, two);
  });
  expect_error(ErrorCode::kValue, "length 3 without memory", [&] {
    const KeyValueSpan nowhere[] = {{.kv_len = 3}};
    (void)attention_cached(Tensor::zeros({1, 6}, DType::kF32), Segments({1}), nowhere, DType::kF32, two);
  });
}

}  // namespace
}  // namespace qkv
