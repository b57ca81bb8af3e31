#pragma once
// Multi-head attention: projections around the attention op.

#include <optional>
#include <string>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/attention/kv_cache.h"
#include "qkv/attention/variant.h"
#include "qkv/nn/linear.h"
#include "qkv/nn/pass.h"

namespace qkv {

struct MultiHeadConfig {
  int64_t d_model = 0;
  int64_t n_heads = 1, n_kv_heads = 1;
  int64_t d_k = 0, d_v = 0;              // of a head
  std::string attention = "scaled_dot";  // in words: attention/variant.h
  bool causal = false;                   // queries see their own position and those before it
  bool cross = false;                    // queries and keys are of two texts
  double dropout = 0;                    // of attn_weights
  std::string site;                      // "encoder", "decoder", "cross": what a probe asks for
  int64_t layer = 0;
};

/// MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).
/// Vaswani et al. 2017, section 3.2.2. Queries and keys are prepared by the score, then placed by the
/// positions, then they meet. Parameters <name>.{q,k,v,out}_proj.{weight,bias} and the variant's own: wq
/// [n_heads * d_k, d_model], wk [n_kv_heads * d_k, d_model], wv [n_kv_heads * d_v, d_model], wo [d_model,
/// n_heads * d_v]. A probe may carry switches for
/// heads (heads/head_controls.h).
class MultiHeadAttention {
 public:
  MultiHeadAttention(ParameterSet& set, const std::string& name, const MultiHeadConfig& config);

  /// x [n_q_tokens, d_model] attends to memory [n_kv_tokens, d_model] (itself, for self-attention) ->
  /// [n_q_tokens, d_model]; plus the residual, if it is defined.
  Var operator()(Pass& pass, const Var& x, const Segments& queries, const Var& memory, const Segments& keys,
                 const std::vector<RulePtr>& rules, Probe* probe, const Var& residual = {}) const;

  /// The same for running, where keys and values are kept. Attention to another text (config.cross) appends
  /// those of `memory` to the cache once; to its own text, attend() appends those of x first.
  void remember(const Var& memory, const Segments& keys, KvCache& cache) const;
  /// x attends to all that the cache holds: sequence b of `queries` to sequence b of the cache.
  Var attend(const Var& x, const Segments& queries, KvCache& cache, const std::vector<RulePtr>& rules,
             Probe* probe, const Var& residual = {}) const;
  /// Error kUnsupported: a sliding cache, whose rows have other positions than the text's.
  KvCache make_cache(DType dtype, int64_t n_sequences, const KvCacheOptions& options = {}) const;

 private:
  // Queries [n_q_tokens, n_heads * d_k] as they meet keys, and how they do.
  struct Meeting {
    Var q;
    AttentionOptions options;
  };
  Meeting meet(const Var& projected, const Segments& queries, int64_t max_kv_len,
               const std::vector<RulePtr>& rules, Probe* probe) const;
  // Projected keys as they meet queries.
  Var placed(const Var& projected, const Segments& keys) const;
  // The heads' outputs, scaled and switched, to d_model, and onto the residual.
  Var joined(const Var& heads, const Segments& queries, const Probe* probe, const Var& residual) const;

  MultiHeadConfig config_;
  HeadSizes heads_;
  // What reads the same rows is one product: x makes queries, and keys and values unless another text does.
  StackedLinear of_x_;
  std::optional<StackedLinear> of_memory_;
  Linear wo_;
  AttentionParts parts_;
};

}  // namespace qkv
