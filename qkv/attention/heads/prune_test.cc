#include "qkv/attention/heads/prune.h"

#include "qkv/attention/heads/head_controls.h"
#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

MultiHeadConfig config(int64_t n_kv_heads, const std::string& attention) {
  return {.d_model = 10,
          .n_heads = 6,
          .n_kv_heads = n_kv_heads,
          .d_k = 4,
          .d_v = 3,
          .attention = attention + " + head_scale",
          .causal = true,
          .site = "decoder"};
}

void randomise(const ParameterSet& set) {
  for (const ParameterPtr& p : set.all())
    if (!p->name().ends_with("proj.weight"))
      p->set_value(random_tensor(p->value().shape(), p->name().size(), set.dtype()));
}

Tensor output(const MultiHeadAttention& layer, const Tensor& x, Probe* probe) {
  Pass pass = Pass::running(x.dtype());
  const Segments rows({4, 7});
  return layer(pass, Var(x), rows, Var(x), rows, {}, probe).value();
}

// Every part of a layer that heads have a share of: score, positions, normalizer, scale.
TEST(PruneHeads, GiveWhatTheGatedLayerGives) {
  struct Case {
    int64_t n_kv_heads;
    std::vector<int64_t> heads;
    int64_t heads_left, kv_left;
  };
  for (const Case& k : {Case{6, {0, 3}, 4, 4}, Case{2, {3, 4, 5}, 3, 1}, Case{2, {0, 4}, 4, 2},
                        Case{3, {2, 3}, 4, 2}, Case{1, {5, 5, 0}, 4, 1}, Case{3, {0, 3, 4}, 3, 3}})
    for (const std::string attention :
         {"scaled_dot", "general + learned_alibi + sink", "mlp", "additive + t5",
          "qk_norm + rope + sparsemax", "scaled_dot + transformer_xl"})
      for (DType dtype : {DType::kF64, DType::kF32}) {
        const MultiHeadConfig c = config(k.n_kv_heads, attention);
        ParameterSet set(3, dtype);
        const MultiHeadAttention layer(set, "l", c);
        randomise(set);
        const PrunedHeads pruned = prune_heads(set, "l", c, k.heads);
        EXPECT_EQ(pruned.config.n_heads, k.heads_left);
        EXPECT_EQ(pruned.config.n_kv_heads, k.kv_left);

        ParameterSet smaller(1, dtype);
        const MultiHeadAttention small(smaller, "l", pruned.config);
        for (const ParameterPtr& p : smaller.all()) p->set_value(pruned.tensors.at(p->name()));
        EXPECT_LT(smaller.numel(), set.numel());

        HeadControls off{.layers = {{.site = "decoder", .layer = 0, .gates = head_gates("g", 6, dtype)}}};
        for (int64_t h : k.heads) off.layers[0].gates->value().slice(1, h, h + 1).fill(0);
        Probe probe{.sites = {"nothing"}, .controls = &off};
        const Tensor x = random_tensor({11, 10}, 5, dtype);
        EXPECT_LE(max_difference(output(small, x, nullptr), output(layer, x, &probe)),
                  dtype == DType::kF64 ? 1e-13 : 1e-5)
            << attention << " " << k.n_kv_heads << " " << name(dtype);
      }
}

TEST(PruneHeads, SayWhatCannotBeTakenAway) {
  const auto error = [](const MultiHeadConfig& c, const std::vector<int64_t>& heads) {
    ParameterSet set(3);
    const MultiHeadAttention layer(set, "l", c);
    try {
      (void)prune_heads(set, "l", c, heads);
      return std::string("no error");
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  EXPECT_NE(error(config(6, "scaled_dot"), {6}).find("prune_heads: head 6 of 6"), std::string::npos);
  EXPECT_NE(error(config(6, "scaled_dot"), {0, 1, 2, 3, 4, 5}).find("one needs to stay"), std::string::npos);
  EXPECT_NE(
      error(config(2, "scaled_dot"), {0}).find("2 query heads of key/value head 0 would stay, but 3 of 1"),
      std::string::npos);
  EXPECT_NE(error(config(6, "scaled_dot + alibi"), {0}).find("learned_alibi keeps each head's slope"),
            std::string::npos);
}

}  // namespace
}  // namespace qkv
