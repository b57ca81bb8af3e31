#pragma once
// Attention as frameworks call it: 4-D tensors of equal lengths, a mask tensor. A thin face over the packed
// op (attention.h).

#include <optional>
#include <vector>

#include "qkv/attention/attention.h"

namespace qkv {

/// Where a tensor says what is seen: [batch, n_heads, q_len, kv_len] i32, any size may be 1. TRUE (not 0) =
/// MAY ATTEND, as in PyTorch's function of this name (its nn.MultiheadAttention has it the other way round).
/// Sequences, heads, queries (counted from `past`) and keys beyond it see nothing. Error kShape, kDtype;
/// kValue: a negative past.
MaskPtr mask_tensor(const Tensor& visible, int64_t past = 0);
/// s' = s + bias, for all n_heads of n_batch sequences of q_len and kv_len; bias [batch, n_heads, q_len,
/// kv_len], of which any size may be 1, f64 | f32 | bf16. -inf hides. Beyond those sizes (queries count
/// from `past`) nothing is added. With its gradient, for which a whole [n_batch, n_heads, q_len, kv_len] is
/// made, f32 for bf16. Errors as mask_tensor(); kValue: a negative size.
EditPtr bias_tensor(const Var& bias, int64_t n_batch, int64_t n_heads, int64_t q_len, int64_t kv_len,
                    int64_t past = 0);

struct SdpaOptions {
  /// TRUE = MAY ATTEND: i32, broadcast to [batch, n_heads, q_len, kv_len] from the right.
  Tensor attn_mask;
  /// Added to scaled scores: f64 | f32 | bf16, broadcast likewise; or this, not both.
  Var attn_bias;
  double dropout_p = 0;  // applies whenever it is above 0
  RandomKey key;         // of dropout
  /// Query i sees keys 0 .. i, whatever the lengths: the triangle begins at the top left. With a cache one
  /// wants the bottom right instead, query i sees keys up to i + kv_len - q_len: is_causal_lower_right.
  bool is_causal = false, is_causal_lower_right = false;
  std::optional<double> scale;  // above 0; 1 / sqrt(d_k)
  bool enable_gqa = false;      // n_heads may be a multiple of n_kv_heads
  // Beyond PyTorch's.
  ScorePtr score;              // instead of the scaled dot product
  std::vector<RulePtr> rules;  // besides; positions count from 0 (lower right: kv_len - q_len)
  NormalizerPtr normalizer;
  AttentionPath path = AttentionPath::kAuto;
  Probe* probe = nullptr;
};

/// Between the two faces: rows [batch * length, n_heads * width], as projections give them, and [batch,
/// n_heads, length, width]. Splitting copies nothing, and merging what was split neither. With gradients.
/// Split, a batch of 0 has length 0. Errors kShape, n_heads 0 among them.
Var split_heads(const Var& rows, int64_t batch, int64_t n_heads);
Var merge_heads(const Var& heads);

/// softmax(scale Q K^T + bias, where attn_mask is TRUE: it says what MAY be seen) V.
/// torch.nn.functional.scaled_dot_product_attention of PyTorch 2.5 in meaning.
///
///   query    [batch, n_heads,    q_len,  d_k]   f64 | f32 | bf16; any strides
///   key      [batch, n_kv_heads, kv_len, d_k]
///   value    [batch, n_kv_heads, kv_len, d_v]
///   returns  [batch, n_heads,    q_len,  d_v]
///
/// A row that sees no key yields zeros. NaN in a key or value reaches only the rows that see it. Inputs whose
/// [batch, length, heads, width] is what lies in memory (a projection, transposed) are not copied.
/// Errors: kShape, kDtype, kValue (a mask and a bias, or a mask and is_causal: as PyTorch; heads that do not
/// divide or differ without enable_gqa).
Var scaled_dot_product_attention(const Var& query, const Var& key, const Var& value,
                                 const SdpaOptions& options = {});

}  // namespace qkv
