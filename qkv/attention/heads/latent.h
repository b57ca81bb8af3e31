#pragma once
// Multi-head latent attention: keys and values of all heads are two linear maps of one small vector a token,
// and that vector is what a cache holds. DeepSeek-AI, "DeepSeek-V2" (2024), arXiv:2405.04434, section 2.1;
// DeepSeek-V3 (2024), arXiv:2412.19437, section 2.1.1.

#include <string>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/attention/kv_cache.h"
#include "qkv/attention/rope.h"
#include "qkv/nn/norm.h"
#include "qkv/nn/pass.h"

namespace qkv {

/// Names as in the config.json of the public checkpoints (model_type deepseek_v2, deepseek_v3).
struct LatentConfig {
  int64_t d_model = 0;
  int64_t n_heads = 1;
  int64_t q_lora_rank = 0;         // 0: queries are not compressed
  int64_t kv_lora_rank = 512;      // numbers in the latent c_kv
  int64_t qk_nope_head_dim = 128;  // of a head's query and key: without positions
  int64_t qk_rope_head_dim = 64;   // and with rotary positions; this part of the key is one for all heads
  int64_t v_head_dim = 128;
  /// The checkpoints turn neighbouring features, as here; for their YaRN scaling set attention_factor to
  /// m(factor, mscale) / m(factor, mscale_all_dim), with m(f, s) = 0.1 s ln f + 1, and multiply `scale` by
  /// m(factor, mscale_all_dim)^2.
  RopeOptions rope{.interleaved = true};
  double scale = 0;  // of scores; 0: 1 / sqrt(qk_nope_head_dim + qk_rope_head_dim)
  double eps = 1e-6;
  double dropout = 0;  // of attn_weights
  std::string site;
  int64_t layer = 0;
};

/// What latent attention keeps while a model runs: [c_kv | k_rope] once a token, kv_lora_rank +
/// qk_rope_head_dim numbers, whatever n_heads is; and the two halves of kv_b_proj, packed, which queries and
/// outputs go through instead of keys and values. It is of the weights that it was made with.
struct LatentCache {
  KvCache rows;
  std::vector<PackedMatrix> w_uk;  // of each head, [qk_nope_head_dim, kv_lora_rank]
  std::vector<PackedMatrix> w_uv;  // of each head, [kv_lora_rank, v_head_dim]
};

/// Self-attention with
///
///   c_q    = norm(x W_DQ)                     q_a_proj, q_a_layernorm; without compression c_q = x
///   q_h    = [q_nope_h | RoPE(q_rope_h)]      q_b_proj, or q_proj
///   c_kv   = norm(x W_DKV), k_rope = RoPE(x W_KR)    kv_a_proj_with_mqa (both), kv_a_layernorm
///   k_h    = [W_UK_h c_kv | k_rope]           kv_b_proj holds, for each head, W_UK_h then W_UV_h
///   v_h    = W_UV_h c_kv
///   out    = W_O [o_1 | o_2 | ...]            o_proj
///
/// Parameters <name>.{q_proj | q_a_proj, q_a_layernorm, q_b_proj}.weight, .kv_a_proj_with_mqa.weight,
/// .kv_a_layernorm.weight, .kv_b_proj.weight, .o_proj.weight, with the shapes of the public checkpoints; no
/// biases.
///
/// Two forms of one computation. Training expands keys and values and calls attention(). Running never does:
/// since q_nope . (W_UK c) = (W_UK^T q_nope) . c, a query taken through W_UK^T meets the latent itself, which
/// makes it multi-query attention with n_kv_heads 1, d_k = kv_lora_rank + qk_rope_head_dim and d_v =
/// kv_lora_rank, whose values are the first columns of the cached rows; W_UV then acts on its result. The two
/// agree within rounding: 1e-12 of f64, and in f32 and bf16 the running form errs at most twice as much as
/// the training form does against f64 (latent_test.cc). Prompt and token by token are the same form, and
/// agree bit for bit.
///
/// A step costs 2 n_heads kv_len (2 kv_lora_rank + qk_rope_head_dim) operations where expanded keys would
/// cost 2 n_heads kv_len (qk_nope_head_dim + qk_rope_head_dim + v_head_dim), and reads 1 / n_heads of the
/// memory or less.
class MultiHeadLatentAttention {
 public:
  /// Error kValue: a size that is not positive, an odd qk_rope_head_dim.
  MultiHeadLatentAttention(ParameterSet& set, const std::string& name, const LatentConfig& config);

  /// x [n_tokens, d_model] -> same shape. `rules`: as AttentionOptions has them, causal() among them.
  Var operator()(Pass& pass, const Var& x, const Segments& tokens, const std::vector<RulePtr>& rules,
                 Probe* probe = nullptr) const;

  /// The running form: the latents of x are appended to the cache ...
  void remember(const Var& x, const Segments& tokens, LatentCache& cache) const;
  /// ... and x attends to all that it holds.
  Var attend(const Var& x, const Segments& tokens, const LatentCache& cache,
             const std::vector<RulePtr>& rules, Probe* probe = nullptr) const;
  LatentCache make_cache(DType dtype, int64_t n_sequences) const;
  /// Of one token in a cache, in this layer.
  int64_t cached_bytes(DType dtype) const;

 private:
  struct Halves {
    Var nope, rope;  // [n, heads * width] each, rope turned
  };
  Halves queries(const Var& x, const Segments& tokens) const;
  struct Latent {
    Var c, k_rope;  // [n, kv_lora_rank], [n, qk_rope_head_dim]
  };
  Latent latent(const Var& x, const Segments& tokens) const;
  Var controlled(const Var& heads, const Segments& tokens, const Probe* probe) const;
  AttentionOptions options(const HeadSizes& heads, const std::vector<RulePtr>& rules, Probe* probe) const;

  LatentConfig config_;
  Rope rope_;
  ScorePtr score_;
  ParameterPtr q_, q_a_, q_b_, kv_a_, kv_b_, o_;  // q_, or q_a_ and q_b_
  std::unique_ptr<RmsNorm> q_norm_;
  RmsNorm kv_norm_;
};

}  // namespace qkv
