#include "qkv/attention/heads/latent.h"

#include <cmath>

#include "qkv/attention/heads/head_columns.h"
#include "qkv/attention/heads/head_controls.h"
#include "qkv/attention/scores.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/linear.h"

namespace qkv {
namespace {

const LatentConfig& checked(const LatentConfig& c) {
  QKV_CHECK(c.d_model > 0 && c.n_heads > 0 && c.q_lora_rank >= 0 && c.kv_lora_rank > 0 &&
                c.qk_nope_head_dim > 0 && c.qk_rope_head_dim > 0 && c.v_head_dim > 0,
            kValue,
            "latent attention: d_model ({}), n_heads ({}), kv_lora_rank ({}), qk_nope_head_dim ({}), "
            "qk_rope_head_dim "
            "({}) and v_head_dim ({}) must be positive, q_lora_rank ({}) not negative",
            c.d_model, c.n_heads, c.kv_lora_rank, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim,
            c.q_lora_rank);
  return c;
}

double scale_of(const LatentConfig& c) {
  return c.scale > 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.qk_nope_head_dim + c.qk_rope_head_dim));
}

}  // namespace

MultiHeadLatentAttention::MultiHeadLatentAttention(ParameterSet& set, const std::string& name,
                                                   const LatentConfig& c)
    : config_(checked(c)),
      rope_(c.qk_rope_head_dim, c.rope),
      score_(scaled_dot(scale_of(c))),
      kv_norm_(set, name + ".kv_a_layernorm", c.kv_lora_rank, c.eps) {
  const auto matrix = [&](const char* of, int64_t d_out, int64_t d_in) {
    return set.xavier_uniform(name + of + ".weight", {d_out, d_in});
  };
  const int64_t d_q = c.n_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim);
  if (c.q_lora_rank == 0) {
    q_ = matrix(".q_proj", d_q, c.d_model);
  } else {
    q_a_ = matrix(".q_a_proj", c.q_lora_rank, c.d_model);
    q_norm_ = std::make_unique<RmsNorm>(set, name + ".q_a_layernorm", c.q_lora_rank, c.eps);
    q_b_ = matrix(".q_b_proj", d_q, c.q_lora_rank);
  }
  kv_a_ = matrix(".kv_a_proj_with_mqa", c.kv_lora_rank + c.qk_rope_head_dim, c.d_model);
  kv_b_ = matrix(".kv_b_proj", c.n_heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank);
  o_ = matrix(".o_proj", c.d_model, c.n_heads * c.v_head_dim);
}

AttentionOptions MultiHeadLatentAttention::options(const HeadSizes& heads, const std::vector<RulePtr>& rules,
                                                   Probe* probe) const {
  return {.heads = heads,
          .score = score_,
          .rules = rules,
          .probe = probe,
          .site = config_.site,
          .layer = config_.layer};
}

// V2, eq. 12-15.
MultiHeadLatentAttention::Halves MultiHeadLatentAttention::queries(const Var& x,
                                                                   const Segments& tokens) const {
  const int64_t nope = config_.qk_nope_head_dim, d = nope + config_.qk_rope_head_dim, n = config_.n_heads;
  const Var q = q_ ? linear(x, q_) : linear((*q_norm_)(linear(x, q_a_)), q_b_);
  return {.nope = head_columns(q, n, 0, nope), .rope = rope_(head_columns(q, n, nope, d), tokens, n)};
}

// V2, eq. 9 and 15; the norm is the models', not in the equations.
MultiHeadLatentAttention::Latent MultiHeadLatentAttention::latent(const Var& x,
                                                                  const Segments& tokens) const {
  const int64_t r = config_.kv_lora_rank;
  const Var both = linear(x, kv_a_);
  return {.c = kv_norm_(head_columns(both, 1, 0, r)),
          .k_rope = rope_(head_columns(both, 1, r, r + config_.qk_rope_head_dim), tokens, 1)};
}

Var MultiHeadLatentAttention::controlled(const Var& heads, const Segments& tokens, const Probe* probe) const {
  return control_heads(heads, tokens, config_.n_heads, nullptr, probe ? probe->controls : nullptr,
                       config_.site, config_.layer);
}

Var MultiHeadLatentAttention::operator()(Pass& pass, const Var& x, const Segments& tokens,
                                         const std::vector<RulePtr>& rules, Probe* probe) const {
  const int64_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim, d_v = config_.v_head_dim,
                n = config_.n_heads;
  const Halves q = queries(x, tokens);
  const Latent kept = latent(x, tokens);
  const Var kv = linear(kept.c, kv_b_);  // eq. 10, 11
  AttentionOptions o = options({.n_heads = n, .d_k = nope + rope, .d_v = d_v}, rules, probe);
  const RandomKey key = pass.next_key();
  if (const double p = pass.rate(config_.dropout); p > 0)
    o.dropout = {.key = key, .threshold = kernels::Dropout::threshold_of(p)};
  const Var heads = attention(join_heads(q.nope, q.rope, n, rope),                             // eq. 16
                              join_heads(head_columns(kv, n, 0, nope), kept.k_rope, n, rope),  // eq. 17
                              head_columns(kv, n, nope, nope + d_v), tokens, tokens, o);
  return linear(controlled(heads, tokens, probe), o_);
}

void MultiHeadLatentAttention::remember(const Var& x, const Segments& tokens, LatentCache& cache) const {
  const NoGrad off;
  const Latent kept = latent(x, tokens);
  cache.rows.append(tokens, join_heads(kept.c, kept.k_rope, 1, config_.qk_rope_head_dim).value(),
                    Tensor::empty({x.size(0), 0}, x.dtype()));
}

Var MultiHeadLatentAttention::attend(const Var& x, const Segments& tokens, const LatentCache& cache,
                                     const std::vector<RulePtr>& rules, Probe* probe) const {
  const NoGrad off;
  const int64_t n = config_.n_heads, nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim,
                r = config_.kv_lora_rank, d_v = config_.v_head_dim;
  const Halves q = queries(x, tokens);
  const Tensor met = Tensor::empty({x.size(0), n * r}, x.dtype()),
               heads = Tensor::empty({x.size(0), n * d_v}, x.dtype());
  for (int64_t h = 0; h < n; ++h)
    matmul(q.nope.value().columns(h * nope, (h + 1) * nope), cache.w_uk[static_cast<size_t>(h)],
           met.columns(h * r, (h + 1) * r));
  std::vector<KeyValueSpan> spans = cache.rows.spans();
  for (KeyValueSpan& span : spans) {
    QKV_CHECK(span.plain(), kUnsupported,
              "latent attention: its cache needs to be contiguous and not quantised");
    span.v = span.k, span.v_row_stride = span.k_row_stride;
  }
  const Tensor means =
      attention_cached(join_heads(Var(met), q.rope, n, rope).value(), tokens, spans, x.dtype(),
                       options({.n_heads = n, .n_kv_heads = 1, .d_k = r + rope, .d_v = r}, rules, probe));
  for (int64_t h = 0; h < n; ++h)
    matmul(means.columns(h * r, (h + 1) * r), cache.w_uv[static_cast<size_t>(h)],
           heads.columns(h * d_v, (h + 1) * d_v));
  return linear(controlled(Var(heads), tokens, probe), o_);
}

LatentCache MultiHeadLatentAttention::make_cache(DType dtype, int64_t n_sequences) const {
  LatentCache cache{.rows = KvCache(n_sequences, config_.kv_lora_rank + config_.qk_rope_head_dim, 0, dtype)};
  const int64_t nope = config_.qk_nope_head_dim, d = nope + config_.v_head_dim;
  for (int64_t h = 0; h < config_.n_heads; ++h) {
    cache.w_uk.push_back(pack_matrix(kv_b_->value().rows(h * d, h * d + nope), dtype));
    cache.w_uv.push_back(pack_matrix(kv_b_->value().rows(h * d + nope, (h + 1) * d).transpose(0, 1), dtype));
  }
  return cache;
}

int64_t MultiHeadLatentAttention::cached_bytes(DType dtype) const {
  return (config_.kv_lora_rank + config_.qk_rope_head_dim) * size_of(dtype);
}

}  // namespace qkv
