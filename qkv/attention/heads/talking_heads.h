#pragma once
// Heads that talk: Shazeer et al., "Talking-Heads Attention" (2020), arXiv:2003.02436.
//
//   X_h = scale Q_h K_h^T    S_h = sum_g Pl[g, h] X_g    W_h = softmax(S_h)    U_h = sum_g Pw[g, h] W_g O_h =
//   U_h V_h
//
// Edits and masks act on the mixed scores S_h (a bias is head h's after mixing; what a mask hides from head h
// is hidden whatever the other heads say), dropout on the mixed weights U_h, as in TensorFlow's model garden. So a
// mask that differs between heads hides a key from W_h, not from O_h: mixed weights bring it back. The paper
// lets the three numbers of heads differ; here they are one.

#include <string>

#include "qkv/attention/heads.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// What AttentionOptions::talking holds. Either may be null: the paper also tries each alone. It
/// needs the rows of all heads at once: 64 queries x kv_len x n_heads scores, of f32 (f64 for f64), a few
/// times over; 2 n_heads^2 more multiply-adds a pair of tokens, three times that with backward. A probe sees
/// U_h, what multiplies the values: its rows need not add up to 1.
struct TalkingHeads {
  ParameterPtr scores;   // Pl [n_heads, n_heads] by (from, to)
  ParameterPtr weights;  // Pw [n_heads, n_heads] by (from, to)
  explicit operator bool() const { return scores || weights; }
};

/// <prefix>.pre_softmax_weight and <prefix>.post_softmax_weight, from the identity: a fresh layer is ordinary
/// multi-head attention.
TalkingHeads talking_heads(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);

}  // namespace qkv
