#pragma once
// Rules edit scores: masks now, biases that depend on places alone as well. One rule is one small class;
// every path (reference, blocked, cached) applies the same object, so writing it once is enough.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

namespace qkv {

/// Keys begin .. end - 1.
struct KeyRange {
  int64_t begin = 0, end = 0;
};

/// The score of a key that is not visible: exp gives exactly 0.
constexpr float kMasked = -std::numeric_limits<float>::infinity();

/// The scores of queries i0 .. i0 + rows - 1 against keys j0 .. j0 + cols - 1, for one sequence and one query
/// head. i and j are absolute positions: key j is the sequence's j-th; query i has past + its row in the
/// sequence. They count the same things in self-attention; in cross-attention they do not, so use rules there
/// that look at keys only. Score (i, j) is scores[(i - i0) * stride + (j - j0)], already scaled. A is float,
/// or double where the model runs in f64.
template <class A>
struct ScoreTile {
  int64_t batch = 0, head = 0;
  int64_t i0 = 0, j0 = 0, rows = 0, cols = 0, stride = 0;
  A* scores = nullptr;
};

/// What a path calls. Write variants on RuleFor below.
class Rule {
 public:
  virtual ~Rule() = default;

  /// A range that covers every key which any of the queries i0 .. i0 + rows - 1 of sequence `batch` may see:
  /// tiles of keys outside it are never loaded. It saves time and means nothing else; what is masked is
  /// apply's to say.
  virtual KeyRange visible_keys(int64_t /*batch*/, int64_t /*i0*/, int64_t /*rows*/, int64_t kv_len) const {
    return {0, kv_len};
  }
  /// Edits the tile in place: sets kMasked, or adds what does not depend on the scores (their gradient passes
  /// unchanged).
  virtual void apply(const ScoreTile<float>&) const noexcept = 0;
  virtual void apply(const ScoreTile<double>&) const noexcept = 0;
  /// True if apply only ever sets kMasked. Scaling may then come after the rule, inside the softmax, which
  /// saves a pass.
  virtual bool only_masks() const { return false; }
};
using RulePtr = std::shared_ptr<const Rule>;

/// Lets a rule be written once for both element types: derive from RuleFor<Mine> and give it
///   template <class A> void edit(const ScoreTile<A>& t) const noexcept;
template <class Derived>
class RuleFor : public Rule {
 public:
  void apply(const ScoreTile<float>& t) const noexcept final { static_cast<const Derived*>(this)->edit(t); }
  void apply(const ScoreTile<double>& t) const noexcept final { static_cast<const Derived*>(this)->edit(t); }
};

/// All rules together: the keys that none of them rules out. Empty ranges come back as {0, 0}.
inline KeyRange visible_keys(std::span<const RulePtr> rules, int64_t batch, int64_t i0, int64_t rows,
                             int64_t kv_len) {
  KeyRange all{0, kv_len};
  for (const RulePtr& rule : rules) {
    const KeyRange one = rule->visible_keys(batch, i0, rows, kv_len);
    all = {std::max(all.begin, one.begin), std::min(all.end, one.end)};
  }
  return all.begin < all.end ? all : KeyRange{};
}

}  // namespace qkv
