#include "qkv/attention/multi_head.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/attention/masks.h"
#include "qkv/attention/scores.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using Values = std::vector<double>;

// Every score, and sentences in which each other word comes up.
std::vector<std::string> variants() {
  std::vector<std::string> all(score_names().begin(), score_names().end());
  all.insert(all.end(),
             {"qk_norm + rope + sink", "general + learned_alibi + soft_cap:2", "dot + t5:8:20 + sigmoid:-1",
              "shaw:3 + window:7|global:2", "shaw_values:3", "transformer_xl + temperature:1.5",
              "alibi + strided:2", "rope:100 + entmax15", "sparsemax"});
  return all;
}

MultiHeadConfig config(int64_t n_kv_heads = 2, const std::string& words = "scaled_dot") {
  return {.d_model = 12, .n_heads = 4, .n_kv_heads = n_kv_heads, .d_k = 6, .d_v = 3, .attention = words};
}

// A layer whose biases are not zero, as they are when fresh.
struct Layer {
  explicit Layer(const MultiHeadConfig& c, DType masters = DType::kF32)
      : set(3, masters), attention(set, "attn", c) {
    for (const ParameterPtr& p : set.all())
      if (p->name().ends_with(".bias")) p->set_value(random_tensor(p->value().shape(), 17, masters));
  }
  ParameterSet set;
  MultiHeadAttention attention;
};

Var self_attention(const Layer& layer, const Tensor& x, const Segments& rows) {
  Pass pass = Pass::running(x.dtype());
  const Var in(x);
  return layer.attention(pass, in, rows, in, rows, {causal()}, nullptr);
}

Tensor rows_of(const Tensor& x, const std::vector<int64_t>& which) {
  const Tensor out = Tensor::empty({static_cast<int64_t>(which.size()), x.size(1)}, x.dtype());
  for (size_t r = 0; r < which.size(); ++r)
    out.rows(static_cast<int64_t>(r), static_cast<int64_t>(r) + 1).copy_from(x.rows(which[r], which[r] + 1));
  return out;
}

TEST(MultiHeadAttention, ParametersHaveTheNamesAndShapesOfTheFiles) {
  const Layer layer(config(2));
  const auto shape = [&](const std::string& name) { return layer.set.find("attn." + name)->value().shape(); };
  EXPECT_EQ(shape("q_proj.weight"), (Shape{4 * 6, 12}));
  EXPECT_EQ(shape("k_proj.weight"), (Shape{2 * 6, 12}));
  EXPECT_EQ(shape("v_proj.weight"), (Shape{2 * 3, 12}));
  EXPECT_EQ(shape("out_proj.weight"), (Shape{12, 4 * 3}));
  EXPECT_EQ(shape("v_proj.bias"), (Shape{2 * 3}));
  EXPECT_EQ(layer.set.all().size(), 8u) << "the scaled dot product has none";
}

// Section 3.2.2, literally, in float64: every projection, every head, one number at a time.
Values by_definition(const Layer& layer, const MultiHeadConfig& c, const Tensor& x, const Tensor& memory,
                     bool masked) {
  const auto project = [&](const std::string& name, const Tensor& in) {
    const Tensor w = layer.set.find("attn." + name + ".weight")->value(),
                 b = layer.set.find("attn." + name + ".bias")->value();
    const Tensor out = Tensor::zeros({in.size(0), w.size(0)}, DType::kF64);
    for (int64_t r = 0; r < in.size(0); ++r)
      for (int64_t n = 0; n < w.size(0); ++n) {
        double sum = b.at({n});
        for (int64_t d = 0; d < w.size(1); ++d) sum += in.at({r, d}) * w.at({n, d});
        out.data<double>()[r * w.size(0) + n] = sum;
      }
    return out;
  };
  const Tensor q = project("q_proj", x), k = project("k_proj", memory), v = project("v_proj", memory);
  const Tensor heads = Tensor::zeros({x.size(0), c.n_heads * c.d_v}, DType::kF64);
  for (int64_t h = 0; h < c.n_heads; ++h) {
    const int64_t g = h / (c.n_heads / c.n_kv_heads);
    for (int64_t i = 0; i < x.size(0); ++i) {
      Values weights;
      double total = 0;
      for (int64_t j = 0; j < (masked ? i + 1 : memory.size(0)); ++j) {
        double score = 0;
        for (int64_t d = 0; d < c.d_k; ++d) score += q.at({i, h * c.d_k + d}) * k.at({j, g * c.d_k + d});
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(c.d_k))));
        total += weights.back();
      }
      for (size_t j = 0; j < weights.size(); ++j)
        for (int64_t d = 0; d < c.d_v; ++d)
          heads.data<double>()[(i * c.n_heads + h) * c.d_v + d] +=
              weights[j] / total * v.at({static_cast<int64_t>(j), g * c.d_v + d});
    }
  }
  return project("out_proj", heads).values();
}

TEST(MultiHeadAttention, IsWhatThePaperWrites) {
  for (int64_t n_kv_heads : {4, 2, 1})
    for (bool masked : {false, true}) {
      const MultiHeadConfig c = config(n_kv_heads);
      const Layer layer(c, DType::kF64);
      const Tensor x = random_tensor({7, 12}, 1), memory = masked ? x : random_tensor({9, 12}, 2);
      const std::vector<RulePtr> rules = masked ? std::vector<RulePtr>{causal()} : std::vector<RulePtr>{};
      Pass pass = Pass::running(DType::kF64);
      const Values got =
          layer
              .attention(pass, Var(x), Segments({7}), Var(memory), Segments({masked ? 7 : 9}), rules, nullptr)
              .value()
              .values();
      const Values expected = by_definition(layer, c, x, memory, masked);
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_NEAR(got[i], expected[i], 1e-12) << n_kv_heads << " " << i;
    }
}

// Fewer key/value heads compute what as many as query heads would whose weights are repeated.
TEST(MultiHeadAttention, GroupedHeadsAreFullHeadsThatShareTheirKeysAndValues) {
  const Layer grouped(config(2)), full(config(4));
  for (const ParameterPtr& p : full.set.all()) {
    const Tensor from = grouped.set.find(p->name())->value();
    if (from.shape() == p->value().shape()) {
      p->set_value(from.clone());
      continue;
    }
    const int64_t width = p->value().size(0) / 4;  // of one head
    for (int64_t h = 0; h < 4; ++h)
      p->value().rows(h * width, (h + 1) * width).copy_from(from.rows(h / 2 * width, (h / 2 + 1) * width));
    p->value_changed();
  }
  const Tensor x = random_tensor({11, 12}, 5, DType::kF32);
  EXPECT_EQ(self_attention(grouped, x, Segments({4, 7})).value().values(),
            self_attention(full, x, Segments({4, 7})).value().values());
}

// Prompt and decoding are the same computation, bit for bit, however the rows come: one by one, in pieces,
// with sequences of different lengths beside each other.
TEST(MultiHeadAttention, TokenByTokenGivesTheWholeCausalPass) {
  const NoGrad off;
  for (const std::string& words : variants())
    for (int64_t n_kv_heads : {4, 2, 1})
      for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
        const Layer layer(config(n_kv_heads, words), accumulator_dtype(dtype));
        const Segments whole({40, 3, 70});
        const Tensor x = random_tensor({whole.n_tokens(), 12}, 1, dtype);
        const Tensor expected = self_attention(layer, x, whole).value();

        KvCache cache = layer.attention.make_cache(dtype, whole.size());
        const std::vector<int64_t> pieces[] = {{1, 1, 1}, {33, 0, 1}, {1, 1, 62}, {1, 1, 1}, {4, 0, 5}};
        std::vector<int64_t> past(3, 0);
        for (const std::vector<int64_t>& piece : pieces) {
          std::vector<int64_t> rows;
          for (int64_t s = 0; s < 3; ++s)
            for (int64_t i = 0; i < piece[s]; ++i) rows.push_back(whole.begin(s) + past[s] + i);
          const Segments newest(piece, past);
          const Var in(rows_of(x, rows));
          EXPECT_EQ(layer.attention.attend(in, newest, cache, {causal()}, nullptr).value().values(),
                    rows_of(expected, rows).values())
              << words << " " << n_kv_heads << " " << name(dtype) << " after " << past[0];
          for (int64_t s = 0; s < 3; ++s) past[s] += piece[s];
        }
        EXPECT_EQ(past, (std::vector<int64_t>{40, 3, 70}));
      }
}

// Two hypotheses grow out of one: each is what it would be alone.
TEST(MultiHeadAttention, HypothesesThatShareABeginningStayApart) {
  const NoGrad off;
  const Layer layer(config());
  const Tensor x = random_tensor({5, 12}, 1, DType::kF32);
  KvCache cache = layer.attention.make_cache(DType::kF32, 1);
  const Var begin(rows_of(x, {0, 1}));
  (void)layer.attention.attend(begin, Segments({2}), cache, {causal()}, nullptr);
  const int32_t twice[] = {0, 0};
  cache.select(twice);
  const Segments newest({1, 1}, {2, 2});
  const Var ends(rows_of(x, {2, 3}));
  const Values got = layer.attention.attend(ends, newest, cache, {causal()}, nullptr).value().values();
  const Tensor alone = self_attention(layer, rows_of(x, {0, 1, 2, 0, 1, 3}), Segments({3, 3})).value();
  EXPECT_EQ(got, rows_of(alone, {2, 5}).values());
}

// Cross-attention while running: the memory is projected once, and rows of one sentence come together or
// apart.
TEST(MultiHeadAttention, ACachedMemoryGivesWhatTheMemoryGives) {
  const NoGrad off;
  for (const std::string_view score : score_names()) {
    MultiHeadConfig c = config(2, std::string(score));
    c.cross = true;
    const Layer layer(c);
    const Segments source({6, 66}), target({3, 2});
    const Tensor memory = random_tensor({72, 12}, 1, DType::kF32), x = random_tensor({5, 12}, 2, DType::kF32);
    Pass pass = Pass::running(DType::kF32);
    const Tensor expected = layer.attention(pass, Var(x), target, Var(memory), source, {}, nullptr).value();
    KvCache cache = layer.attention.make_cache(DType::kF32, 2);
    layer.attention.remember(Var(memory), source, cache);
    EXPECT_EQ(layer.attention.attend(Var(x), target, cache, {}, nullptr).value().values(), expected.values())
        << score;
    const Var some(rows_of(x, {1, 4}));
    EXPECT_EQ(layer.attention.attend(some, Segments({1, 1}), cache, {}, nullptr).value().values(),
              rows_of(expected, {1, 4}).values())
        << score;
  }
}

// A text that goes on after known rows projects both; told apart, equal rows give equal bits.
TEST(MultiHeadAttention, OneTextAndTwoEqualOnesAreTheSame) {
  const Layer layer(config());
  const Tensor x = random_tensor({5, 12}, 1, DType::kF32);
  const Segments rows({2, 3});
  Pass pass = Pass::running(DType::kF32);
  EXPECT_EQ(layer.attention(pass, Var(x), rows, Var(x.clone()), rows, {causal()}, nullptr).value().values(),
            self_attention(layer, x, rows).value().values());
}

TEST(MultiHeadAttention, OnlyAnotherTextIsRememberedApart) {
  const Layer layer(config());
  KvCache cache = layer.attention.make_cache(DType::kF32, 1);
  EXPECT_THROW(layer.attention.remember(Var(random_tensor({2, 12}, 1)), Segments({2}), cache), Error);
}

TEST(MultiHeadAttention, GradientsOfInputsAndParametersAreRight) {
  for (const std::string& words : variants())
    for (double dropout : {0.0, 0.3}) {
      MultiHeadConfig c = config(2, words);
      c.d_model = 6;
      c.dropout = dropout;
      const Layer layer(c, DType::kF64);
      const Segments queries({2, 3}), keys({4, 2});
      EXPECT_EQ(gradcheck(
                    [&](const auto& v) {
                      Pass pass = Pass::training(DType::kF64, 1, 1);
                      return layer.attention(pass, v[0], queries, v[1], keys, {}, nullptr);
                    },
                    {random_tensor({5, 6}, 1), random_tensor({6, 6}, 2)}, layer.set.all()),
                "")
          << words << " dropout " << dropout;
      const Segments rows({3, 2});
      EXPECT_EQ(gradcheck(
                    [&](const auto& v) {
                      Pass pass = Pass::training(DType::kF64, 1, 1);
                      return layer.attention(pass, v[0], rows, v[0], rows, {causal()}, nullptr);
                    },
                    {random_tensor({5, 6}, 3)}),
                "")
          << "self-attention, " << words << " dropout " << dropout;
    }
}

TEST(MultiHeadAttention, TellsAProbeItsSiteAndLayer) {
  MultiHeadConfig c = config();
  c.site = "encoder";
  c.layer = 3;
  const Layer layer(c);
  const Tensor x = random_tensor({4, 12}, 1, DType::kF32);
  Pass pass = Pass::running(DType::kF32);
  Probe here{.sites = {"encoder"}, .layers = {3}}, elsewhere{.sites = {"decoder"}};
  const Values plain = self_attention(layer, x, Segments({4})).value().values();
  for (Probe* probe : {&here, &elsewhere})
    EXPECT_EQ(layer.attention(pass, Var(x), Segments({4}), Var(x), Segments({4}), {causal()}, probe)
                  .value()
                  .values(),
              plain);
  EXPECT_TRUE(elsewhere.rows.empty());
  ASSERT_EQ(here.rows.size(), 4u * 4u);
  for (const AttentionRow& row : here.rows) {
    EXPECT_EQ(row.site, "encoder");
    EXPECT_EQ(row.layer, 3);
    double sum = 0;
    for (size_t j = 0; j < row.attn_weights.size(); ++j) {
      sum += row.attn_weights[j];
      EXPECT_EQ(row.attn_weights[j] > 0, static_cast<int64_t>(j) <= row.position);
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

TEST(MultiHeadAttention, DropsOnlyWhileItTrains) {
  MultiHeadConfig c = config();
  c.dropout = 0.5;
  const Layer layer(c);
  const Tensor x = random_tensor({4, 12}, 1, DType::kF32);
  const auto out = [&](Pass pass) {
    return layer.attention(pass, Var(x), Segments({4}), Var(x), Segments({4}), {}, nullptr).value().values();
  };
  EXPECT_EQ(out(Pass::running(DType::kF32)), out(Pass::running(DType::kF32)));
  EXPECT_EQ(out(Pass::training(DType::kF32, 1, 1)), out(Pass::training(DType::kF32, 1, 1)));
  EXPECT_NE(out(Pass::training(DType::kF32, 1, 1)), out(Pass::running(DType::kF32)));
  EXPECT_NE(out(Pass::training(DType::kF32, 1, 1)), out(Pass::training(DType::kF32, 1, 2)));
}

}  // namespace
}  // namespace qkv
