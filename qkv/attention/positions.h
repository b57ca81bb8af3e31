#pragma once
// Positions that queries and keys carry into their meeting. (Those that only add a bias to scores are edits:
// edits.h.)

#include <memory>
#include <string>

#include "qkv/attention/attention.h"
#include "qkv/attention/rope.h"

namespace qkv {

/// Called between a score's preparation and its pairing (score.h), so that a norm of queries and keys comes
/// before them. Row r of sequence b has position at.past(b) + r.
class Positions {
 public:
  virtual ~Positions() = default;
  /// q [n_q_tokens, n_heads * d_k] as it meets the keys.
  virtual Var queries(const Var& q, const Segments& /*at*/) const { return q; }
  /// k [n_kv_tokens, n_kv_heads * d_k] as it meets the queries, and as a cache holds it.
  virtual Var keys(const Var& k, const Segments& /*at*/) const { return k; }
  /// Adds vectors of distances to the options. q: before queries(); max_kv_len: the longest sequence's keys.
  virtual void add_to(AttentionOptions& /*options*/, const Var& /*q*/, int64_t /*max_kv_len*/) const {}
};
using PositionsPtr = std::shared_ptr<const Positions>;

/// Rope (rope.h) on queries and keys. Error kValue: as there.
PositionsPtr rope_positions(const HeadSizes& heads, const RopeOptions& options = {});
/// ShawRelativeKeys (relative.h), and where asked for ShawRelativeValues.
PositionsPtr shaw_positions(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                            int64_t max_distance, bool values = false);
/// TransformerXlPositions (relative.h). A call costs O(max_kv_len * d_model * n_heads * d_k) for the vectors.
PositionsPtr transformer_xl_positions(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                                      int64_t d_model);

}  // namespace qkv
