// What PyTorch's numbers (torch_parity_test.cc) do not show: larger sizes, dropout, hidden rows, errors.

#include "qkv/attention/multi_head_attention.h"

#include "qkv/attention/heads/head_controls.h"
#include "qkv/attention/sdpa.h"
#include "qkv/attention/test_cases.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/linear.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;

struct Layer {
  explicit Layer(const MultiHeadWeightsConfig& config, DType dtype = DType::kF64)
      : set(3, dtype), weights(multi_head_weights(set, "attn", config)) {
    for (const ParameterPtr& p : set.all())
      if (p->name().ends_with("bias")) p->set_value(random_tensor(p->value().shape(), 17, dtype));
  }
  ParameterSet set;
  MultiHeadWeights weights;
};

TEST(MultiHeadFunction, ParametersHaveTheNamesAndShapesOfPyTorch) {
  const Layer one({.embed_dim = 6, .add_bias_kv = true}), apart({.embed_dim = 6, .kdim = 4, .vdim = 5});
  const auto shape = [](const Layer& layer, const char* name) {
    return layer.set.find(std::string("attn.") + name)->value().shape();
  };
  EXPECT_EQ(shape(one, "in_proj_weight"), (Shape{18, 6}));
  EXPECT_EQ(shape(one, "in_proj_bias"), (Shape{18}));
  EXPECT_EQ(shape(one, "out_proj.weight"), (Shape{6, 6}));
  EXPECT_EQ(shape(one, "out_proj.bias"), (Shape{6}));
  EXPECT_EQ(shape(one, "bias_k"), (Shape{1, 1, 6}));
  EXPECT_EQ(one.set.all().size(), 6u);
  EXPECT_EQ(shape(apart, "k_proj_weight"), (Shape{6, 4}));
  EXPECT_EQ(shape(apart, "v_proj_weight"), (Shape{6, 5}));
  EXPECT_EQ(apart.set.find("attn.in_proj_weight"), nullptr);
  EXPECT_EQ(Layer({.embed_dim = 6, .bias = false}).set.all().size(), 2u);
}

// Three projections, scaled_dot_product_attention on heads, and a projection: what the call stands for, at
// sizes that straddle tiles.
TEST(MultiHeadFunction, IsProjectionsAroundScaledDotProductAttention) {
  const int64_t width = 12, heads = 3;
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (int64_t q_len : {1, 5, 64, 130})
      for (int64_t kv_len : {1, 63, 65}) {
        const Layer layer({.embed_dim = width}, accumulator_dtype(dtype));
        const Var query(random_tensor({2, q_len, width}, 1, dtype)),
            memory(random_tensor({2, kv_len, width}, 2, dtype));
        const auto heads_of = [&](const Var& x, int64_t part) {
          const Var y = linear(reshape(x, {2 * x.size(1), width}), layer.weights.in_proj_weight,
                               layer.weights.in_proj_bias);
          return Var(columns(y, part * width, (part + 1) * width)
                         .value()
                         .contiguous()
                         .reshape({2, x.size(1), heads, width / heads})
                         .transpose(1, 2));
        };
        const Tensor out =
            scaled_dot_product_attention(heads_of(query, 0), heads_of(memory, 1), heads_of(memory, 2))
                .value()
                .transpose(1, 2)
                .contiguous()
                .reshape({2 * q_len, width});
        const Tensor want =
            linear(Var(out), layer.weights.out_proj_weight, layer.weights.out_proj_bias).value();
        const Tensor got = multi_head_attention(query, memory, memory, layer.weights,
                                                {.n_heads = heads, .batch_first = true})
                               .output.value();
        EXPECT_EQ(got.values(), want.values()) << name(dtype) << " " << q_len << " " << kv_len;
      }
}

TEST(MultiHeadFunction, TheTwoLayoutsHaveTheSameBits) {
  const Layer layer({.embed_dim = 6}, DType::kF32);
  const Tensor query = random_tensor({2, 5, 6}, 1, DType::kF32),
               key = random_tensor({2, 7, 6}, 2, DType::kF32);
  const Tensor first =
      multi_head_attention(Var(query), Var(key), Var(key), layer.weights, {.n_heads = 2, .batch_first = true})
          .output.value();
  const Var q(query.transpose(0, 1)), k(key.transpose(0, 1));  // strided
  const Tensor second = multi_head_attention(q, k, k, layer.weights, {.n_heads = 2}).output.value();
  EXPECT_EQ(second.shape(), (Shape{5, 2, 6}));
  EXPECT_EQ(second.transpose(0, 1).values(), first.values());
}

TEST(MultiHeadFunction, GradientsMatchFiniteDifferences) {
  for (bool batch_first : {false, true})
    for (double dropout_p : {0.0, 0.3}) {
      const Layer layer({.embed_dim = 4, .kdim = 3, .vdim = 5, .add_bias_kv = true});
      const auto tokens = [&](int64_t length, int64_t width, uint64_t seed) {
        return random_tensor(batch_first ? Shape{2, length, width} : Shape{length, 2, width}, seed);
      };
      const Tensor mask = Tensor::from({3, 4}, {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0}, DType::kI32);
      EXPECT_EQ(gradcheck(
                    [&](const std::vector<Var>& x) {
                      return multi_head_attention(x[0], x[1], x[2], layer.weights,
                                                  {.n_heads = 2,
                                                   .batch_first = batch_first,
                                                   .attn_mask = mask,
                                                   .attn_bias = x[3],
                                                   .key_padding_bias = x[4],
                                                   .add_zero_attn = true,
                                                   .dropout_p = dropout_p,
                                                   .key = {.seed = 4}})
                          .output;
                    },
                    {tokens(3, 4, 1), tokens(4, 3, 2), tokens(4, 5, 3), random_tensor({4, 3, 4}, 4),
                     random_tensor({2, 4}, 5)},
                    layer.set.all()),
                "")
          << batch_first << " dropout " << dropout_p;
    }
}

// PyTorch gives NaN here.
TEST(MultiHeadFunction, AQueryThatSeesNoKeyGetsTheOutputBiasAlone) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Layer layer({.embed_dim = 4}, accumulator_dtype(dtype));
    const Var x(random_tensor({1, 3, 4}, 1, dtype), true);
    const Tensor mask = Tensor::from({3, 3}, {1, 1, 1, 0, 0, 0, 0, 0, 0}, DType::kI32);
    const MultiHeadResult r = multi_head_attention(
        x, x, x, layer.weights, {.n_heads = 2, .batch_first = true, .attn_mask = mask, .need_weights = true});
    for (int64_t d = 0; d < 4; ++d) {
      EXPECT_EQ(r.output.value().at({0, 0, d}), layer.weights.out_proj_bias->value().to(dtype).at({d}));
      EXPECT_FALSE(std::isnan(r.output.value().at({0, 1, d})));
    }
    for (int64_t j = 0; j < 3; ++j) EXPECT_EQ(r.attn_weights.at({0, 0, j}), 0);
    backward(r.output);
    for (double g : x.grad().values()) EXPECT_TRUE(std::isfinite(g));
  }
}

TEST(MultiHeadFunction, ASequenceGetsTheSameBitsAloneAndBesideAnythingAndWithAnyPadding) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Layer layer({.embed_dim = 6}, accumulator_dtype(dtype));
    const Tensor x = random_tensor({2, 9, 6}, 1, dtype);
    x.slice(1, 7, 9).fill(std::nan(""));  // both end in two places of padding
    const Tensor padding = Tensor::zeros({2, 9}, DType::kI32);
    padding.columns(7, 9).fill(1);
    MultiHeadOptions options{.n_heads = 2, .batch_first = true, .key_padding_mask = padding};
    const Tensor together =
        multi_head_attention(Var(x), Var(x), Var(x), layer.weights, options).output.value();
    options.key_padding_mask = {};
    const Var alone(x.slice(0, 1, 2).slice(1, 0, 7).contiguous());
    EXPECT_EQ(multi_head_attention(alone, alone, alone, layer.weights, options).output.value().values(),
              together.slice(0, 1, 2).slice(1, 0, 7).values())
        << name(dtype);
  }
}

TEST(MultiHeadFunction, ALengthOfNothingIsFine) {
  const Layer layer({.embed_dim = 4});
  const Var none(Tensor::zeros({2, 0, 4}, DType::kF64), true), some(random_tensor({2, 3, 4}, 1), true);
  const MultiHeadOptions options{.n_heads = 2, .batch_first = true, .need_weights = true};
  EXPECT_EQ(multi_head_attention(none, some, some, layer.weights, options).output.value().shape(),
            (Shape{2, 0, 4}));
  const MultiHeadResult r = multi_head_attention(some, none, none, layer.weights, options);
  EXPECT_EQ(r.output.value().at({1, 2, 3}), layer.weights.out_proj_bias->value().at({3}));
  backward(r.output);
  EXPECT_EQ(r.attn_weights.shape(), (Shape{2, 3, 0}));
}

TEST(MultiHeadFunction, WeightsAreAveragedOverHeadsAndAddUpToOne) {
  const Layer layer({.embed_dim = 6, .add_bias_kv = true}, DType::kF32);
  const Var q(random_tensor({2, 70, 6}, 1, DType::kF32)), k(random_tensor({2, 66, 6}, 2, DType::kF32));
  MultiHeadOptions options{.n_heads = 3, .batch_first = true, .add_zero_attn = true, .need_weights = true};
  const MultiHeadResult averaged = multi_head_attention(q, k, k, layer.weights, options);
  options.average_attn_weights = false;
  const Tensor each = multi_head_attention(q, k, k, layer.weights, options).attn_weights;
  options.need_weights = false;
  const MultiHeadResult plain = multi_head_attention(q, k, k, layer.weights, options);
  EXPECT_FALSE(plain.attn_weights.defined());
  expect_equal_bits(plain.output.value(), averaged.output.value(), "asking changes nothing");
  ASSERT_EQ(averaged.attn_weights.shape(), (Shape{2, 70, 68}));
  ASSERT_EQ(each.shape(), (Shape{2, 3, 70, 68}));
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t i = 0; i < 70; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < 68; ++j) {
        const double mean = (each.at({b, 0, i, j}) + each.at({b, 1, i, j}) + each.at({b, 2, i, j})) / 3;
        EXPECT_NEAR(averaged.attn_weights.at({b, i, j}), mean, 1e-7);
        sum += mean;
      }
      EXPECT_NEAR(sum, 1, 1e-5);
    }
}

TEST(MultiHeadFunction, AProbeGetsTheRowsItNames) {
  const Layer layer({.embed_dim = 6}, DType::kF32);
  const Var x(random_tensor({2, 9, 6}, 1, DType::kF32));
  Probe probe{.sites = {}, .layers = {}, .heads = {1}, .sequences = {0}, .positions = {4}, .rows = {}};
  (void)multi_head_attention(x, x, x, layer.weights, {.n_heads = 2, .batch_first = true, .probe = &probe});
  ASSERT_EQ(probe.rows.size(), 1u);
  EXPECT_EQ(probe.rows[0].attn_weights.size(), 9u);
}

TEST(MultiHeadFunction, AProbesControlsSwitchHeadsOff) {
  const Layer layer({.embed_dim = 6});
  const Var x(random_tensor({2, 3, 6}, 1));
  HeadControls controls{.layers = {{.site = "", .layer = 0, .gates = head_gates("gates", 2, DType::kF64)}}};
  controls.layers[0].gates->set_value(Tensor::zeros({1, 2}, DType::kF64));
  Probe probe = probe_with(&controls);
  const Tensor off =
      multi_head_attention(x, x, x, layer.weights, {.n_heads = 2, .probe = &probe}).output.value();
  const Tensor rows = off.contiguous().reshape({6, 6});
  for (int64_t i = 0; i < 6; ++i)  // what is left is the last bias
    EXPECT_EQ(rows.rows(i, i + 1).values(), layer.weights.out_proj_bias->value().values());
}

TEST(MultiHeadFunction, DropsWeightsByItsKeyAndReturnsThemWhole) {
  const Layer layer({.embed_dim = 4}, DType::kF32);
  const Var x(random_tensor({1, 8, 4}, 1, DType::kF32));
  const auto call = [&](double p, uint64_t seed) {
    return multi_head_attention(
        x, x, x, layer.weights,
        {.n_heads = 2, .batch_first = true, .dropout_p = p, .key = {.seed = seed}, .need_weights = true});
  };
  const MultiHeadResult none = call(0, 1), some = call(0.5, 1);
  EXPECT_NE(some.output.value().values(), none.output.value().values());
  EXPECT_NE(some.output.value().values(), call(0.5, 2).output.value().values());
  expect_equal_bits(some.output.value(), call(0.5, 1).output.value(), "same key");
  expect_equal_bits(some.attn_weights, none.attn_weights, "weights before dropout");
}

// A causal query sees its past and the keys that belong to no token, also when there are more queries than
// keys.
TEST(MultiHeadFunction, CausalQueriesSeeTheKeysThatAreNoTokens) {
  const Layer layer({.embed_dim = 4, .add_bias_kv = true}, DType::kF32);
  const Var q(random_tensor({1, 6, 4}, 1, DType::kF32)), k(random_tensor({1, 3, 4}, 2, DType::kF32));
  const Tensor w =
      multi_head_attention(
          q, k, k, layer.weights,
          {.n_heads = 2, .batch_first = true, .is_causal = true, .add_zero_attn = true, .need_weights = true})
          .attn_weights;
  for (int64_t i = 0; i < 6; ++i)
    for (int64_t j = 0; j < 5; ++j) EXPECT_EQ(w.at({0, i, j}) > 0, j <= i || j >= 3) << i << " " << j;
}

TEST(MultiHeadFunction, SaysWhatDoesNotFit) {
  const Layer layer({.embed_dim = 6}), apart({.embed_dim = 6, .kdim = 4, .vdim = 5});
  const auto tokens = [](int64_t batch, int64_t length, int64_t width = 6, DType dtype = DType::kF64) {
    return Var(random_tensor({batch, length, width}, 1, dtype));
  };
  const Var q = tokens(2, 3), k = tokens(2, 4);
  const auto call = [&](const Var& query, const Var& key, const MultiHeadOptions& options,
                        const MultiHeadWeights* weights = nullptr) {
    MultiHeadOptions o = options;
    o.batch_first = true;
    (void)multi_head_attention(query, key, key, weights ? *weights : layer.weights, o);
  };
  const auto mask = [](const Shape& shape) { return Tensor::zeros(shape, DType::kI32); };
  EXPECT_ERROR(kValue, "embed_dim (6) is not a multiple of n_heads (4)", call(q, k, {.n_heads = 4}));
  EXPECT_ERROR(kValue, "embed_dim (6) is not a multiple of n_heads (0)", call(q, k, {.n_heads = 0}));
  EXPECT_ERROR(kShape, "attn_mask is [4, 3], needs to be [q_len, kv_len] = [3, 4]",
               call(q, k, {.n_heads = 2, .attn_mask = mask({4, 3})}));
  EXPECT_ERROR(kShape, "[batch * n_heads, q_len, kv_len] = [4, 3, 4]",
               call(q, k, {.n_heads = 2, .attn_mask = mask({2, 3, 4})}));
  EXPECT_ERROR(kShape, "key_padding_mask is [2, 3], needs to be [2, 4]",
               call(q, k, {.n_heads = 2, .key_padding_mask = mask({2, 3})}));
  EXPECT_ERROR(kShape, "attn_bias is [3, 3]", call(q, k, {.attn_bias = Var(random_tensor({3, 3}, 1))}));
  EXPECT_ERROR(kDtype, "attn_mask is f64, needs to be i32",
               call(q, k, {.attn_mask = random_tensor({3, 4}, 1)}));
  EXPECT_ERROR(kDtype, "query is f64, key f32", call(q, tokens(2, 4, 6, DType::kF32), {}));
  EXPECT_ERROR(kDtype, "in_proj_weight is f64; with f32 inputs parameters are f32",
               call(tokens(2, 3, 6, DType::kF32), tokens(2, 4, 6, DType::kF32), {}));
  EXPECT_ERROR(kShape, "batch comes first", call(q, tokens(1, 4), {}));
  EXPECT_ERROR(kShape, "all of [batch, len, width]", call(q, Var(random_tensor({4, 6}, 1)), {}));
  EXPECT_ERROR(kShape, "value nothing", (void)multi_head_attention(q, k, Var(), layer.weights, {}));
  EXPECT_ERROR(kShape, "in place of in_proj_weight", call(q, tokens(2, 4, 5), {}));
  EXPECT_ERROR(kShape, "k_proj_weight is [6, 4], needs to be [6, 6]", call(q, k, {}, &apart.weights));
  EXPECT_ERROR(kValue, "dropout_p is 1", call(q, k, {.dropout_p = 1}));
  Probe probe;
  EXPECT_ERROR(kValue, "one of the two", call(q, k, {.need_weights = true, .probe = &probe}));
  MultiHeadWeights both = layer.weights, half = layer.weights, neither = layer.weights;
  both.q_proj_weight = apart.weights.q_proj_weight;
  half.bias_k = layer.weights.in_proj_bias;
  neither.in_proj_weight = nullptr;
  EXPECT_ERROR(kValue, "either in_proj_weight, or", call(q, k, {}, &both));
  EXPECT_ERROR(kValue, "either in_proj_weight, or", call(q, k, {}, &neither));
  EXPECT_ERROR(kValue, "bias_k and bias_v come together", call(q, k, {}, &half));
  ParameterSet set(1);
  EXPECT_ERROR(kValue, "embed_dim (0)", (void)multi_head_weights(set, "a", {}));
}

}  // namespace
}  // namespace qkv
