// Set Transformer's pooling by multi-head attention: learnt seeds ask the rows.

#include "qkv/attention/multi_head.h"
#include "qkv/attention/pooling.h"
#include "qkv/autograd/ops/embedding.h"
#include "qkv/autograd/ops/rows.h"
#include "qkv/nn/feed_forward.h"
#include "qkv/nn/norm.h"

namespace qkv {
namespace {

MultiHeadConfig attention_config(const PoolingConfig& c, const std::string& site) {
  QKV_CHECK(c.d_model % c.n_heads == 0, kValue, "pooling {}: n_heads ({}) does not divide d_model ({})", site,
            c.n_heads, c.d_model);
  const int64_t d_head = c.d_model / c.n_heads;
  return {.d_model = c.d_model,
          .n_heads = c.n_heads,
          .n_kv_heads = c.n_heads,
          .d_k = d_head,
          .d_v = d_head,
          .dropout = c.dropout,
          .site = site,
          .layer = c.layer};
}

class Pma final : public Pooling {
 public:
  Pma(ParameterSet& set, const std::string& name, const PoolingConfig& c)
      : Pooling(name, c, /*many=*/true),
        n_seeds_(c.n_vectors),
        seeds_(set.xavier_uniform(name + ".seeds", {c.n_vectors, c.d_model})),
        memory_ff_(feed_forward(set, name + ".memory_ff", c)),
        attn_(set, name + ".attn", attention_config(c, site())),
        norm1_(set, name + ".norm1", c.d_model),
        ff_(feed_forward(set, name + ".ff", c)),
        norm2_(set, name + ".norm2", c.d_model) {}

 private:
  static FeedForward feed_forward(ParameterSet& set, const std::string& name, const PoolingConfig& c) {
    return {set, name + ".in", name + ".out", c.d_model, c.d_ff ? c.d_ff : c.d_model, Activation::kRelu, 0};
  }

  Var pool(Pass& pass, const Var& z, const Segments& rows, Probe* probe) const override {
    const int64_t n = rows.size();
    std::vector<int32_t> seed_of;         // of each row below
    std::vector<int64_t> row_or_nothing;  // -1 for what has no rows to look at
    for (int64_t b = 0; b < n; ++b)
      for (int64_t m = 0; m < n_seeds_; ++m) {
        seed_of.push_back(static_cast<int32_t>(m));
        row_or_nothing.push_back(rows.length(b) == 0 ? -1 : b * n_seeds_ + m);
      }
    const Segments queries(std::vector<int64_t>(static_cast<size_t>(n), n_seeds_));

    const Var s = embedding(seed_of, seeds_, 1, {}, nullptr, z.dtype());
    const Var h = norm1_(attn_(pass, s, queries, memory_ff_(pass, z), rows, {}, probe, s));
    const Var out = norm2_(ff_(pass, h, h));
    return reshape(take_rows({out}, row_or_nothing), {n, d_out()});
  }

  int64_t n_seeds_;
  ParameterPtr seeds_;
  FeedForward memory_ff_;
  MultiHeadAttention attn_;
  LayerNorm norm1_;
  FeedForward ff_;
  LayerNorm norm2_;
};

}  // namespace

PoolingPtr pma_pooling(ParameterSet& set, const std::string& name, const PoolingConfig& config) {
  return std::make_shared<Pma>(set, name, config);
}

}  // namespace qkv
