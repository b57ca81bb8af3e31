#pragma once
// The attention op. docs/math/attention.md has the formulae, the derivation of both passes, and where each is
// in the code.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qkv/attention/edits.h"
#include "qkv/attention/heads/talking_heads.h"
#include "qkv/attention/key_value_span.h"
#include "qkv/attention/masks.h"
#include "qkv/attention/normalizers.h"
#include "qkv/attention/own_rule.h"
#include "qkv/attention/probe.h"
#include "qkv/attention/relative.h"
#include "qkv/attention/score.h"
#include "qkv/attention/scores.h"
#include "qkv/base/segments.h"
#include "qkv/kernels/table.h"

namespace qkv {

enum class AttentionPath {
  kAuto,       // the fastest; rows, where the normalizer cannot go tile by tile or heads talk
  kReference,  // the definition: whole score matrices, one (sequence, head) at a time
  kBlocked,    // tiles of 64 x 64, linear memory
  kDecode,  // for few queries and many keys: reads each key once for all heads that share it, splits the keys
            // over the threads. The bits of kBlocked
  kRows,    // 64 whole rows of scores at a time, linear memory
};

struct AttentionOptions {
  HeadSizes heads;
  ScorePtr score;  // null: scaled_dot()
  std::optional<RelativeKeys> relative_keys;
  std::optional<RelativeValues> relative_values;
  std::vector<RulePtr> rules;  // masks and edits: all of them apply
  NormalizerPtr normalizer;    // null: softmax_normalizer()
  TalkingHeads talking;        // heads/talking_heads.h; none
  /// Of attn_weights. The mask is a function of (key, query row of the batch, head, key position): backward
  /// asks again.
  kernels::Dropout dropout;  // threshold 0: none
  AttentionPath path = AttentionPath::kAuto;
  Probe* probe = nullptr;  // receives rows of this site and layer, if it asks for them
  std::string site;        // "encoder", "decoder", "cross"
  int64_t layer = 0;
  const kernels::Table* kernels = nullptr;  // null: the machine's; a test passes another family's
};

/// Attention over packed sequences: out_i = sum_j normalize_j(score(q_i, k_j), edited and masked by the
/// rules) v_j, in each head.
///
/// Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, eq. 1, with any score in place of
/// the scaled dot. The blocked path computes the same values without storing the scores: Dao et al.,
/// "FlashAttention" (2022), arXiv:2205.14135; Rabe and Staats (2021), arXiv:2112.05682.
///
///   q        [n_q_tokens,  n_heads * d_k]     f64 | f32 | bf16; rows may be strided
///   k        [n_kv_tokens, n_kv_heads * d_k]  dtype of q
///   v        [n_kv_tokens, n_kv_heads * d_v]  dtype of q
///   returns  [n_q_tokens,  n_heads * d_v]     dtype of q
///
/// Sequence b of `queries` attends to sequence b of `keys`: the same Segments for self-attention, the
/// encoder's for cross-attention. Query row r of sequence b has absolute position queries.past(b) + r; key
/// row c has position c.
///
/// Scores, softmax and sums are kept in f32 (f64 for f64) and the result is rounded once; products of bf16
/// read bf16 weights. A query that sees no key yields zeros and has zero gradients. A key of weight 0 adds
/// exactly nothing, so NaN in a key or value stays with the queries that see it. What a sequence gets does
/// not depend, bit for bit, on the other sequences (but for dropout, whose mask counts the rows of the
/// batch), on the number of threads, or on whether its keys beyond a query's sight are present.
///
/// O(q_len * kv_len) time a sequence. The blocked path keeps two numbers (the largest score, the sum of
/// exponentials) a query and head, and scratch of O(kv_len) forward, O(q_len + kv_len) backward, for each
/// thread; kRows 64 rows of scores more for each head that is worked on at once. What all sequences share and
/// trains (relative rows, numbers of rules and scores) has a sum for each of a wave of sequences: 32 MiB, or
/// four times their size for each head if that is more.
///
/// Errors: kShape (ranks or named sizes disagree), kDtype (mixed dtypes or not one of activations), kValue
/// (head counts that do not divide, a dropout that keeps nothing, a scale that is not positive), kUnsupported
/// (kBlocked or kDecode with a normalizer that needs whole rows or with talking heads; relative keys with a
/// score that is no dot product).
Var attention(const Var& q, const Var& k, const Var& v, const Segments& queries, const Segments& keys,
              const AttentionOptions& options);

/// The same computation for decoding with a cache, without a tape: sequence b of `queries` attends to
/// keys[b]. Several sequences may name the same memory (beams that share a source); neighbours that do are
/// computed together where no rule tells them apart.
///
///   q        [n_q_tokens, n_heads * d_k]  dtype (f64 | f32 | bf16), that of the spans' memory; not prepared
///   returns  [n_q_tokens, n_heads * d_v]  dtype
///
/// The same sums in the same order as attention(): prompt and token-by-token agree bit for bit, and so do
/// pages and one block of memory. Stored numbers are read as T (bf16 for kInt8 in a bf16 model: rounded once
/// more). Dropout is not applied. Errors: as attention(); kValue: a negative length, or one without memory.
Tensor attention_cached(const Tensor& q, const Segments& queries, std::span<const KeyValueSpan> keys,
                        DType dtype, const AttentionOptions& options);

/// The score and the normalizer in use.
const Score& score_of(const AttentionOptions& options);
const Normalizer& normalizer_of(const AttentionOptions& options);

}  // namespace qkv
