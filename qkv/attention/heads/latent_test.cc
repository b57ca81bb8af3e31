#include "qkv/attention/heads/latent.h"

#include <numeric>

#include "qkv/attention/heads/head_columns.h"
#include "qkv/attention/heads/head_controls.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;
using Matrix = std::vector<std::vector<double>>;

LatentConfig config(int64_t q_lora_rank = 6) {
  return {.d_model = 12,
          .n_heads = 3,
          .q_lora_rank = q_lora_rank,
          .kv_lora_rank = 8,
          .qk_nope_head_dim = 5,
          .qk_rope_head_dim = 4,
          .v_head_dim = 7};
}

struct Layer {
  explicit Layer(const LatentConfig& c, DType masters = DType::kF32, double gain = 1)
      : set(3, masters), attention(set, "attn", c) {
    for (const ParameterPtr& p : set.all()) {
      if (p->name().ends_with("layernorm.weight"))
        p->set_value(random_tensor(p->value().shape(), 17, masters));
      if (gain != 1) {
        std::vector<double> values = p->value().values();
        for (double& x : values) x *= gain;
        p->set_value(Tensor::from(p->value().shape(), values, masters));
      }
    }
  }
  Tensor train(const Tensor& x, const Segments& rows) const {
    Pass pass = Pass::running(x.dtype());
    return attention(pass, Var(x), rows, {causal()}).value();
  }
  Tensor run(const Tensor& x, const Segments& rows) const {
    LatentCache cache = attention.make_cache(x.dtype(), rows.size());
    attention.remember(Var(x), rows, cache);
    return attention.attend(Var(x), rows, cache, {causal()}).value();
  }
  ParameterSet set;
  MultiHeadLatentAttention attention;
};

TEST(LatentAttention, ParametersHaveTheNamesAndShapesOfTheCheckpoints) {
  const auto shapes = [](const Layer& layer) {
    std::map<std::string, Shape> all;
    for (const ParameterPtr& p : layer.set.all()) all[p->name()] = p->value().shape();
    return all;
  };
  EXPECT_EQ(shapes(Layer(config(6))),
            (std::map<std::string, Shape>{{"attn.q_a_proj.weight", {6, 12}},
                                          {"attn.q_a_layernorm.weight", {6}},
                                          {"attn.q_b_proj.weight", {27, 6}},
                                          {"attn.kv_a_proj_with_mqa.weight", {12, 12}},
                                          {"attn.kv_a_layernorm.weight", {8}},
                                          {"attn.kv_b_proj.weight", {36, 8}},
                                          {"attn.o_proj.weight", {12, 21}}}));
  EXPECT_EQ(shapes(Layer(config(0))).at("attn.q_proj.weight"), (Shape{27, 12}));
  EXPECT_FALSE(shapes(Layer(config(0))).contains("attn.q_a_proj.weight"));
}

TEST(LatentAttention, HeadsThatAreOffGiveNothingInBothForms) {
  const NoGrad off;
  const Layer layer(config());
  const Segments rows({5});
  const Tensor x = random_tensor({5, 12}, 1, DType::kF32);
  HeadControls controls;
  controls.layers.push_back({.site = "", .gates = head_gates("gates", 3), .noise = {}});
  controls.layers[0].gates->value().fill(0);
  Probe probe = probe_with(&controls);
  Pass pass = Pass::running(DType::kF32);
  const std::vector<double> zeros(60, 0);
  EXPECT_EQ(layer.attention(pass, Var(x), rows, {causal()}, &probe).value().values(), zeros);
  LatentCache cache = layer.attention.make_cache(DType::kF32, 1);
  layer.attention.remember(Var(x), rows, cache);
  EXPECT_EQ(layer.attention.attend(Var(x), rows, cache, {causal()}, &probe).value().values(), zeros);
}

// Section 2.1, literally, one number at a time; f: what happens to each number that is kept.
Matrix by_definition(const Layer& layer, const LatentConfig& c, const Tensor& x) {
  const auto product = [&](const std::string& name, const Matrix& in) {
    const Tensor w = layer.set.find("attn." + name + ".weight")->value();
    Matrix out(in.size(), std::vector<double>(static_cast<size_t>(w.size(0))));
    for (size_t r = 0; r < in.size(); ++r)
      for (int64_t n = 0; n < w.size(0); ++n)
        for (int64_t d = 0; d < w.size(1); ++d) out[r][n] += in[r][d] * w.at({n, d});
    return out;
  };
  const auto norm = [&](const std::string& name, Matrix in) {
    const Tensor w = layer.set.find("attn." + name + ".weight")->value();
    for (auto& row : in) {
      const double mean = std::inner_product(row.begin(), row.end(), row.begin(), 0.0) / double(row.size());
      for (size_t d = 0; d < row.size(); ++d) row[d] *= w.at({int64_t(d)}) / std::sqrt(mean + c.eps);
    }
    return in;
  };
  const int64_t nope = c.qk_nope_head_dim, rope = c.qk_rope_head_dim, r = c.kv_lora_rank, d_v = c.v_head_dim;
  const auto turn = [&](double* at, int64_t position) {  // neighbouring features
    for (int64_t p = 0; p < rope / 2; ++p) {
      const double angle = double(position) * std::pow(10000, -2.0 * double(p) / double(rope));
      const double a = at[2 * p], b = at[2 * p + 1];
      at[2 * p] = a * std::cos(angle) - b * std::sin(angle);
      at[2 * p + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  };
  Matrix in(static_cast<size_t>(x.size(0)), std::vector<double>(static_cast<size_t>(x.size(1))));
  for (int64_t i = 0; i < x.size(0); ++i)
    for (int64_t d = 0; d < x.size(1); ++d) in[i][d] = x.at({i, d});
  Matrix q = c.q_lora_rank ? product("q_b_proj", norm("q_a_layernorm", product("q_a_proj", in)))
                           : product("q_proj", in);
  Matrix both = product("kv_a_proj_with_mqa", in), latent;
  for (auto& row : both) latent.emplace_back(row.begin(), row.begin() + r);
  const Matrix kv = product("kv_b_proj", norm("kv_a_layernorm", latent));
  for (size_t i = 0; i < in.size(); ++i) {
    turn(both[i].data() + r, int64_t(i));
    for (int64_t h = 0; h < c.n_heads; ++h) turn(q[i].data() + h * (nope + rope) + nope, int64_t(i));
  }
  Matrix heads(in.size(), std::vector<double>(static_cast<size_t>(c.n_heads * d_v)));
  for (int64_t h = 0; h < c.n_heads; ++h)
    for (size_t i = 0; i < in.size(); ++i) {
      double total = 0;
      std::vector<double> weights;
      for (size_t j = 0; j <= i; ++j) {
        double s = 0;
        for (int64_t d = 0; d < nope; ++d) s += q[i][h * (nope + rope) + d] * kv[j][h * (nope + d_v) + d];
        for (int64_t d = 0; d < rope; ++d) s += q[i][h * (nope + rope) + nope + d] * both[j][r + d];
        weights.push_back(std::exp(s / std::sqrt(double(nope + rope))));
        total += weights.back();
      }
      for (size_t j = 0; j <= i; ++j)
        for (int64_t d = 0; d < d_v; ++d)
          heads[i][h * d_v + d] += weights[j] / total * kv[j][h * (nope + d_v) + nope + d];
    }
  return product("o_proj", heads);
}

TEST(LatentAttention, IsWhatThePaperWritesInBothForms) {
  for (int64_t q_lora_rank : {0, 6}) {
    const Layer layer(config(q_lora_rank), DType::kF64);
    const Tensor x = random_tensor({9, 12}, 1);
    std::vector<double> want;
    for (const auto& row : by_definition(layer, config(q_lora_rank), x))
      want.insert(want.end(), row.begin(), row.end());
    const Tensor expected = Tensor::from({9, 12}, want, DType::kF64);
    EXPECT_LE(max_difference(layer.train(x, Segments({9})), expected), 1e-12);
    EXPECT_LE(max_difference(layer.run(x, Segments({9})), expected), 1e-12);
  }
}

// The bound that the header states.
TEST(LatentAttention, TheRunningFormErrsAtMostTwiceAsMuchAsTheTrainingForm) {
  const LatentConfig c{.d_model = 96,
                       .n_heads = 4,
                       .q_lora_rank = 48,
                       .kv_lora_rank = 64,
                       .qk_nope_head_dim = 32,
                       .qk_rope_head_dim = 16,
                       .v_head_dim = 32};
  const Segments rows({1, 130, 65, 0, 7});
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Layer layer(c), exact(c, DType::kF64);
    for (const ParameterPtr& p : exact.set.all())
      p->set_value(layer.set.find(p->name())->value().to(DType::kF64));
    const Tensor x = random_tensor({rows.n_tokens(), 96}, 1, dtype);
    const Tensor want = exact.train(x.to(DType::kF64), rows);
    EXPECT_LE(max_difference(exact.run(x.to(DType::kF64), rows), want), 1e-12);
    EXPECT_LE(max_difference(layer.run(x, rows), want), 2 * max_difference(layer.train(x, rows), want))
        << name(dtype);
  }
}

TEST(LatentAttention, PromptAndTokenByTokenAgreeBitForBit) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Layer layer(config(), accumulator_dtype(dtype));
    const Segments whole({70, 3});
    const Tensor x = random_tensor({73, 12}, 1, dtype), expected = layer.run(x, whole);
    LatentCache cache = layer.attention.make_cache(dtype, 2);
    for (int64_t i = 0; i < 70; ++i) {
      const bool both = i < 3;
      const Segments newest({1, both ? 1 : 0}, {i, std::min<int64_t>(i, 3)});
      const Tensor step = Tensor::empty({both ? 2 : 1, 12}, dtype);
      step.rows(0, 1).copy_from(x.rows(i, i + 1));
      if (both) step.rows(1, 2).copy_from(x.rows(70 + i, 71 + i));
      layer.attention.remember(Var(step), newest, cache);
      const Tensor out = layer.attention.attend(Var(step), newest, cache, {causal()}).value();
      expect_equal_bits(out.rows(0, 1), expected.rows(i, i + 1), fmt::format("{} {}", name(dtype), i));
      if (both)
        expect_equal_bits(out.rows(1, 2), expected.rows(70 + i, 71 + i),
                          fmt::format("{} second {}", name(dtype), i));
    }
  }
}

// DeepSeek-V2's own sizes: section 2.1.4, table 1 counts 4.5 d_h a token and layer, 128 heads of 128.
TEST(LatentAttention, ACacheHoldsTheLatentAndOneKeyATokenAndNothingElse) {
  const LatentConfig c = config();
  const Layer layer(c);
  LatentCache cache = layer.attention.make_cache(DType::kBF16, 1);
  layer.attention.remember(Var(random_tensor({5, 12}, 1, DType::kBF16)), Segments({5}), cache);
  EXPECT_EQ(layer.attention.cached_bytes(DType::kBF16), (8 + 4) * 2);
  EXPECT_EQ(cache.rows.spans()[0].k_row_stride * size_of(DType::kBF16),
            layer.attention.cached_bytes(DType::kBF16));
  EXPECT_EQ(cache.rows.length(0), 5);
  ParameterSet set(1);
  const MultiHeadLatentAttention published(set, "a", {.d_model = 8, .n_heads = 2});
  EXPECT_EQ(published.cached_bytes(DType::kBF16), 2 * 9 * 128 / 2);
}

TEST(LatentAttention, GradientsMatchFiniteDifferences) {
  for (int64_t q_lora_rank : {0, 2}) {
    LatentConfig c{.d_model = 3,
                   .n_heads = 2,
                   .q_lora_rank = q_lora_rank,
                   .kv_lora_rank = 3,
                   .qk_nope_head_dim = 2,
                   .qk_rope_head_dim = 2,
                   .v_head_dim = 3,
                   .dropout = 0.2};
    const Layer layer(c, DType::kF64);
    const Segments rows({3, 0, 2});
    EXPECT_EQ(gradcheck(
                  [&](const auto& in) {
                    Pass pass = Pass::training(DType::kF64, 1, 2);
                    return layer.attention(pass, in[0], rows, {causal()});
                  },
                  {random_tensor({5, 3}, 1)}, layer.set.all()),
              "");
  }
}

TEST(LatentAttention, BitsDependNeitherOnTheBatchNorOnTheThreads) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Layer layer(config());
    const Segments rows({40, 3, 70});
    const Tensor x = random_tensor({113, 12}, 1, dtype);
    const Tensor trained = layer.train(x, rows), ran = layer.run(x, rows);
    set_threads(5);
    expect_equal_bits(layer.train(x, rows), trained, "train");
    expect_equal_bits(layer.run(x, rows), ran, "run");
    set_threads(0);
    expect_equal_bits(layer.train(x.rows(40, 43), Segments({3})), trained.rows(40, 43), "train alone");
    expect_equal_bits(layer.run(x.rows(40, 43), Segments({3})), ran.rows(40, 43), "run alone");
  }
}

TEST(LatentAttention, SaysWhatDoesNotFit) {
  LatentConfig c = config();
  c.kv_lora_rank = 0;
  try {
    Layer layer(c);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kValue);
    EXPECT_NE(std::string(e.what()).find("kv_lora_rank (0)"), std::string::npos) << e.what();
  }
  c = config();
  c.qk_rope_head_dim = 3;
  EXPECT_THROW(Layer{c}, Error);
}

TEST(HeadColumns, CutAndJoinHeadsAndTheirGradients) {
  const Var x(Tensor::from({1, 6}, {1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(head_columns(x, 2, 1, 3).value().values(), (std::vector<double>{2, 3, 5, 6}));
  const Var shared(Tensor::from({1, 1}, {9}));
  EXPECT_EQ(join_heads(x, shared, 2, 1).value().values(), (std::vector<double>{1, 2, 3, 9, 4, 5, 6, 9}));
  EXPECT_EQ(join_heads(x, x, 2, 3).value().values(),
            (std::vector<double>{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6}));
  EXPECT_EQ(gradcheck([](const auto& in) { return join_heads(head_columns(in[0], 3, 1, 3), in[1], 3, 2); },
                      {random_tensor({4, 12}, 1), random_tensor({4, 2}, 2)}),
            "");
  EXPECT_THROW((void)head_columns(x, 4, 0, 1), Error);
  EXPECT_THROW((void)join_heads(x, shared, 2, 2), Error);
}

}  // namespace
}  // namespace qkv
