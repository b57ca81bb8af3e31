#pragma once
// Relative positions: vectors for distances, which a query meets as it meets keys, and which it is given as
// it is given values.
//
//   s_ij = scale * (q_i . k_j + q'_i . r_{j - i})
//   o_i  = sum_j w_ij (v_j + a_{j - i})
//
// Shaw et al. 2018 (arXiv:1803.02155): r is learnt for distances up to a limit, q' = q. Dai et al. 2019
// (Transformer-XL, arXiv:1901.02860): r = W_r times a sinusoid of the distance, q' = q + v. A tile of 64 x 64
// scores meets 127 vectors, so nothing of size q_len x kv_len is stored.

#include <string>

#include "qkv/attention/heads.h"
#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

struct RelativeKeys {
  Var rows;          // [n_rows, n_heads * d_k], or [n_rows, d_k] for all heads alike; dtype of q
  int64_t zero = 0;  // the row of j = i. Distance j - i has row zero + j - i, or the nearest that there is
  Var queries;       // q' [n_q_tokens, n_heads * d_k]; undefined: q
};

struct RelativeValues {
  Var rows;          // [n_rows, n_heads * d_v], or [n_rows, d_v] for all heads alike; dtype of v
  int64_t zero = 0;  // as above
};

/// Shaw et al. 2018, section 3.2, for keys: <prefix>.relative_keys [2 max_distance + 1, d_k], shared by the
/// heads as there.
class ShawRelativeKeys {
 public:
  ShawRelativeKeys(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                   int64_t max_distance);
  RelativeKeys operator()(DType dtype) const;

 private:
  ParameterPtr rows_;
  int64_t max_distance_;
};

/// The same for values (eq. 3): <prefix>.relative_values [2 max_distance + 1, d_v]. The weights of a tile of
/// 64 x 64, put in order of distance, meet 127 vectors: one more product, of the size of two with values.
class ShawRelativeValues {
 public:
  ShawRelativeValues(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                     int64_t max_distance);
  RelativeValues operator()(DType dtype) const;

 private:
  ParameterPtr rows_;
  int64_t max_distance_;
};

/// Dai et al. 2019, section 3.3. <prefix>.r_proj.weight [n_heads * d_k, d_model] (W_k,R), <prefix>.u and .v
/// [n_heads * d_k], from 0.
class TransformerXlPositions {
 public:
  TransformerXlPositions(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                         int64_t d_model);

  /// q + u: what meets the keys.
  Var content_queries(const Var& q) const;
  /// For distances from -(kv_len - 1) to kv_len - 1; q as projected, without u.
  RelativeKeys operator()(const Var& q, int64_t kv_len) const;

 private:
  ParameterPtr wr_, u_, v_;
  int64_t d_model_;
};

}  // namespace qkv
