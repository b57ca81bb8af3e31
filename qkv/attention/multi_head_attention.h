#pragma once
// nn.MultiheadAttention of PyTorch as a function: its parameters under its names, its layouts, its masks. A
// thin face over the packed op (attention.h). Models use the layer of multi_head.h.

#include <string>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// Parameters as nn.MultiheadAttention has them. E is the width of queries and results, embed_dim.
struct MultiHeadWeights {
  /// Queries', keys' and values' projections one below the other, [3 E, E]; or
  ParameterPtr in_proj_weight;
  /// each for itself, [E, E], [E, kdim], [E, vdim].
  ParameterPtr q_proj_weight, k_proj_weight, v_proj_weight;
  ParameterPtr in_proj_bias;                    // [3 E], or null
  ParameterPtr bias_k, bias_v;                  // [1, 1, E]: one more key and its value for all; or null
  ParameterPtr out_proj_weight, out_proj_bias;  // [E, E], and [E] or null
};

struct MultiHeadWeightsConfig {
  int64_t embed_dim = 0, kdim = 0, vdim = 0;  // 0: embed_dim
  bool bias = true, add_bias_kv = false;
};
/// Fresh ones, <prefix>.in_proj_weight, <prefix>.out_proj.weight and so on, started as PyTorch starts them.
MultiHeadWeights multi_head_weights(ParameterSet& set, const std::string& prefix,
                                    const MultiHeadWeightsConfig& config);

struct MultiHeadOptions {
  int64_t n_heads = 1;       // PyTorch's num_heads
  bool batch_first = false;  // [batch, len, width]; else [len, batch, width], as PyTorch's default is
  /// TRUE (not 0) = NOT ALLOWED, i32: the opposite of scaled_dot_product_attention's. [q_len, kv_len], or
  /// [batch * n_heads, q_len, kv_len], whose row of (b, h) is b * n_heads + h.
  Tensor attn_mask;
  /// Added to scaled scores, f64 | f32 | bf16, of the same shapes: PyTorch's attn_mask of floats. With
  /// gradient.
  Var attn_bias;
  /// TRUE = IGNORE that key, i32 [batch, kv_len] ([kv_len] without a batch); and its form of floats.
  Tensor key_padding_mask;
  Var key_padding_bias;
  /// Query i sees keys 0 .. i, besides what the masks say. PyTorch's is a hint that wants attn_mask as well.
  bool is_causal = false;
  bool add_zero_attn = false;  // one more key and value, of zeros
  double dropout_p = 0;        // of attn_weights; applies whenever it is above 0
  RandomKey key;               // of dropout
  /// Whether attn_weights come back. PyTorch's default is true; here nobody pays for them unasked.
  bool need_weights = false;
  bool average_attn_weights = true;  // over the heads
  // Beyond PyTorch's.
  std::vector<RulePtr> rules;  // besides; the keys of bias_k and add_zero_attn have positions from kv_len on
  NormalizerPtr normalizer;
  AttentionPath path = AttentionPath::kAuto;
  /// Single rows of weights, and controls of heads at site "", layer 0. need_weights uses a probe of its own.
  Probe* probe = nullptr;
};

struct MultiHeadResult {
  Var output;  // like query
  /// f32 [batch, q_len, kv_len'], or [batch, n_heads, q_len, kv_len'] without averaging; kv_len' counts the
  /// keys of bias_k and add_zero_attn, which come last, in this order. Undefined unless asked for.
  Tensor attn_weights;
};

/// MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V), with
/// the meaning of torch.nn.MultiheadAttention (2.5). MASKS: TRUE = NOT ALLOWED.
///
/// Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, section 3.2.2. bias_k, bias_v and
/// add_zero_attn: keys that every query may look at when nothing else fits.
///
///   query    [q_len, batch, E]      f64 | f32 | bf16, or [batch, q_len, E] (batch_first), or [q_len, E]
///   key      [kv_len, batch, kdim]  likewise, dtype of query
///   value    [kv_len, batch, vdim]
///   returns  output of query's shape and dtype
///
/// Gradients flow to query, key, value, biases and every parameter. No q_len x kv_len matrix is made unless
/// the weights are asked for: need_weights costs O(batch n_heads q_len kv_len) time and memory, `probe` only
/// the rows that it names.
///
/// Where PyTorch does otherwise: a query that sees no key gives out_proj's bias (a zero vector before it) and
/// weights of 0, not NaN; NaN in a key stays with the queries that see it; attn_weights are those before
/// dropout and carry no gradient.
///
/// Errors: kShape (ranks, masks and widths that disagree), kValue (E no multiple of n_heads; a dropout_p
/// outside [0, 1); both stacked and separate projections, or neither; one of bias_k and bias_v alone;
/// need_weights and probe together), kDtype (mixed dtypes, masks that are not i32, parameters of another
/// type than the accumulator's).
MultiHeadResult multi_head_attention(const Var& query, const Var& key, const Var& value,
                                     const MultiHeadWeights& weights, const MultiHeadOptions& options);

}  // namespace qkv
