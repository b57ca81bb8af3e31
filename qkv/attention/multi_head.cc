#include "qkv/attention/multi_head.h"

namespace qkv {
namespace {

// Queries, keys and values start as one stacked matrix [3 d, d] would: Xavier's bound is then sqrt(6 / (4
// d)), this much of a single matrix's. Fairseq's and PyTorch's attention start so, and post-norm stacks need
// it (docs/results.md, 1).
constexpr double kStackedGain = 0.7071067811865476;

}  // namespace

MultiHeadAttention::MultiHeadAttention(ParameterSet& set, const std::string& name, const MultiHeadConfig& c)
    : config_(c),
      heads_{.n_heads = c.n_heads, .n_kv_heads = c.n_kv_heads, .d_k = c.d_k, .d_v = c.d_v},
      wq_(set, name + ".q_proj", c.d_model, c.n_heads * c.d_k, kStackedGain),
      wk_(set, name + ".k_proj", c.d_model, c.n_kv_heads * c.d_k, kStackedGain),
      wv_(set, name + ".v_proj", c.d_model, c.n_kv_heads * c.d_v, kStackedGain),
      wo_(set, name + ".out_proj", c.n_heads * c.d_v, c.d_model),
      score_(make_score(c.score, set, name + ".score", heads_)) {}

AttentionOptions MultiHeadAttention::options(const std::vector<RulePtr>& rules, Probe* probe) const {
  return {.heads = heads_,
          .score = score_,
          .rules = rules,
          .probe = probe,
          .site = config_.site,
          .layer = config_.layer};
}

Var MultiHeadAttention::operator()(Pass& pass, const Var& x, const Segments& queries, const Var& memory,
                                   const Segments& keys, const std::vector<RulePtr>& rules,
                                   Probe* probe) const {
  AttentionOptions o = options(rules, probe);
  const RandomKey key = pass.next_key();
  if (const double p = pass.rate(config_.dropout); p > 0)
    o.dropout = {.key = key, .threshold = kernels::Dropout::threshold_of(p)};
  return wo_(attention(wq_(x), wk_(memory), wv_(memory), queries, keys, o));
}

void MultiHeadAttention::remember(const Var& memory, const Segments& keys, KvCache& cache) const {
  cache.append(keys, score_->prepare_keys(wk_(memory), heads_).value(), wv_(memory).value());
}

Var MultiHeadAttention::attend(const Var& x, const Segments& queries, const KvCache& cache,
                               const std::vector<RulePtr>& rules, Probe* probe) const {
  return wo_(Var(attention_cached(wq_(x).value(), queries, cache.spans(), x.dtype(), options(rules, probe))));
}

KvCache MultiHeadAttention::make_cache(DType dtype, int64_t n_sequences) const {
  return KvCache(n_sequences, heads_.kv_heads() * score_->pairing(heads_).width,
                 heads_.kv_heads() * heads_.value_width(), dtype);
}

}  // namespace qkv
