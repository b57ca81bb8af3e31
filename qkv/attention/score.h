#pragma once
// A score says how well a query matches a key. It is two steps: an optional preparation of queries and keys,
// each alone and on the tape, so that its gradients need no code of their own; and a pairing of prepared
// queries with prepared keys, which the paths compute tile by tile.

#include <memory>
#include <string_view>
#include <vector>

#include "qkv/attention/heads.h"
#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

/// What a path computes for a prepared query q and key k of one head, both `width` long.
struct Pairing {
  enum class Kind {
    kDot,      // scale * q . k
    kTanhSum,  // v_h . tanh(q + k)
    kUniform,  // 0: neither q nor k is looked at
  };
  Kind kind = Kind::kDot;
  int64_t width = 0;
  double scale = 1;  // of kDot, > 0
  ParameterPtr v;    // [n_heads, width], of kTanhSum alone
};

class Score {
 public:
  virtual ~Score() = default;
  virtual std::string_view name() const = 0;
  virtual Pairing pairing(const HeadSizes& heads) const = 0;
  /// q [n, n_heads * d_k] -> [n, n_heads * width]
  virtual Var prepare_queries(const Var& q, const HeadSizes& /*heads*/) const { return q; }
  /// k [n, n_kv_heads * d_k] -> [n, n_kv_heads * width]. A key cache holds prepared keys: a key is prepared
  /// once.
  virtual Var prepare_keys(const Var& k, const HeadSizes& /*heads*/) const { return k; }
  /// Trainable numbers, if any.
  virtual std::vector<ParameterPtr> parameters() const { return {}; }
};
using ScorePtr = std::shared_ptr<const Score>;

}  // namespace qkv
