#pragma once
// The scores that qkv brings. Each is one file in scores/. q and k are one head's query and key, [d_k] each.
//
// Trainable scores make their parameters in `set` as <prefix>.weight and so on, with starting values for
// which scores of unit-variance queries and keys have a variance of about 1, as the scaled dot product's
// have.

#include <string>
#include <string_view>
#include <vector>

#include "qkv/attention/score.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// q . k                     Luong et al. 2015, arXiv:1508.04025, section 3.1 ("dot")
ScorePtr dot();
/// q . k / sqrt(d_k)         Vaswani et al. 2017, arXiv:1706.03762, eq. 1; or any other positive scale
ScorePtr scaled_dot(double scale = 0);
/// 0                         every visible key weighs the same: a query gets the mean of the values, whatever
/// it asks
ScorePtr uniform();
/// q^T W_h k                 Luong et al. 2015 ("general"). weight [n_heads, d_k, d_k]
ScorePtr general(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);
/// v_h . tanh(q + k)         Bahdanau et al. 2015, arXiv:1409.0473, A.1.2; its W and U are the layer's wq and
/// wk.
///                           v [n_heads, d_k]
ScorePtr additive(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);
/// v_h . tanh(W_h [q; k] + b_h)   Luong et al. 2015 ("concat"): a perceptron of d_hidden units (0: d_k) for
/// each head.
///                           query_weight [n_heads, d_k, d_hidden], key_weight [n_kv_heads, d_k, d_hidden]
///                           are the two halves of W; bias [n_kv_heads, d_hidden]; v [n_heads, d_hidden]
ScorePtr mlp(ParameterSet& set, const std::string& prefix, const HeadSizes& heads, int64_t d_hidden = 0);
/// scale * cos(q, k)         Graves et al. 2014, arXiv:1410.5401, eq. 6; scale 0: sqrt(d_k). `parameters` is
/// the
///                           dtype of masters: f32, or f64 in a model of f64
ScorePtr cosine(const HeadSizes& heads, DType parameters = DType::kF32, double scale = 0);
/// `score` (null: scaled_dot()) of RMS-normalised queries and keys, each head by itself. Henry et al. 2020,
/// arXiv:2010.04245; with RMS norm and gains as in Qwen 3 and Gemma 3 (2025). Gains q_norm.weight and
/// k_norm.weight [d_k], from 1.
ScorePtr qk_norm(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                 ScorePtr score = nullptr, double eps = 1e-6);

/// The pairing alone, for queries and keys that `score` has prepared already: for what comes between the two,
/// positions first of all.
ScorePtr prepared(ScorePtr score);

/// By its word (variant.h), with parameters <prefix>.score.*. Error kValue for another name.
ScorePtr make_score(std::string_view name, ParameterSet& set, const std::string& prefix,
                    const HeadSizes& heads);
const std::vector<std::string_view>& score_names();

}  // namespace qkv
