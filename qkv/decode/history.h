#pragma once
// The tree of tokens that a search has written.

#include <cstdint>
#include <span>
#include <vector>

#include "qkv/decode/hypothesis.h"
#include "qkv/decode/search_plan.h"

namespace qkv::decode {

/// Hypotheses of a beam share their beginnings, so tokens are kept as a tree with links to the parent: a step
/// adds its rows and copies nothing. Attention rows (where the plan uses them) are kept once a row of a step,
/// since all tokens chosen from one distribution looked at the source in the same way.
class History {
 public:
  static constexpr int64_t kRoot = -1;

  explicit History(const SearchPlan& plan) : plan_(plan) {}

  /// Keeps what row `row` of the model's last step attended to; returns its place, -1 where the plan uses
  /// none.
  int64_t keep_attention(const StepModel& model, int64_t row, int64_t src_len);

  /// Adds a token behind `parent` (kRoot: the first of a sentence); returns its node.
  int64_t add(int64_t parent, int32_t id, float log_prob, int64_t attention);

  /// The ranking score (length_penalty.h) of the hypothesis that ends in `node`.
  double score(int64_t node, int64_t src_len) const;
  /// The whole hypothesis that ends in `node`.
  Hypothesis hypothesis(int64_t node, int64_t src_len, bool ended) const;

  int64_t length(int64_t node) const { return node == kRoot ? 0 : nodes_[static_cast<size_t>(node)].length; }
  double log_prob(int64_t node) const {
    return node == kRoot ? 0 : nodes_[static_cast<size_t>(node)].log_prob;
  }

 private:
  struct Node {
    int64_t parent;
    int64_t attention;  // where its row begins in attention_
    double log_prob;    // sum from the root, in float64: the order of two hypotheses hangs on its last digits
    float token_log_prob;
    int32_t id;
    int32_t length;
  };
  const SearchPlan& plan_;
  std::vector<Node> nodes_;
  std::vector<float> attention_;
};

}  // namespace qkv::decode
