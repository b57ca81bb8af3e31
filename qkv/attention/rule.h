#pragma once
// Rules say what attention may see (Mask) and change its scores (Edit). One rule is one small class; every
// path (reference, blocked, cached, the probe) asks the same object, so writing it once is enough. Rules see
// tiles of at most 64 x 64 pairs, whose coordinates are absolute positions: key j is the sequence's j-th;
// query i has past + its row in the sequence. The two count the same things in self-attention; in
// cross-attention they do not, so use rules there that look at keys only.
//
// Edits apply in the order given, masks after all of them: what is hidden stays hidden whatever an edit does.
//
// own_rule.h makes rules of lambdas.

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"
#include "qkv/kernels/attention.h"

namespace qkv {

/// Queries i0 .. i0 + rows - 1 against keys j0 .. j0 + cols - 1, of one sequence and one query head. Rows and
/// columns are at most 64.
struct TilePlace {
  int64_t batch = 0, head = 0;
  int64_t i0 = 0, j0 = 0, rows = 0, cols = 0;
};

/// A rule is a Mask or an Edit; derive from one of these.
class Rule {
 public:
  virtual ~Rule() = default;
};
using RulePtr = std::shared_ptr<const Rule>;

/// Keys begin .. end - 1.
struct KeyRange {
  int64_t begin = 0, end = 0;
};

/// How much of a tile a mask shows. It saves time and means nothing else: kSome is always right.
enum class Sight { kNone, kSome, kAll };

/// Says which keys a query sees.
class Mask : public Rule {
 public:
  /// words[r], bit c: whether query i0 + r sees key j0 + c. Bits from cols on may be anything.
  virtual void visible(const TilePlace& tile, uint64_t* words) const noexcept = 0;
  virtual Sight sight(const TilePlace& /*tile*/) const noexcept { return Sight::kSome; }
  /// A range that covers every key which any of the queries i0 .. i0 + rows - 1 of sequence `batch` may see
  /// in any head: tiles outside it are not even asked about.
  virtual KeyRange visible_keys(int64_t /*batch*/, int64_t /*i0*/, int64_t /*rows*/, int64_t kv_len) const {
    return {0, kv_len};
  }
};
using MaskPtr = std::shared_ptr<const Mask>;

/// Bits 0 .. n - 1, for any n.
constexpr uint64_t low_bits(int64_t n) {
  return n <= 0 ? 0 : n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

/// Scores of a tile, already scaled: (i0 + r, j0 + c) at scores[r * stride + c]. A is float, or double where
/// the model runs in f64.
template <class A>
struct ScoreTile : TilePlace {
  int64_t stride = 0;
  A* scores = nullptr;
  const kernels::AttentionKernels<A>* kernels = nullptr;

  A& at(int64_t r, int64_t c) const { return scores[r * stride + c]; }
};

/// Changes scores. s' = edit(s), elementwise in s.
class Edit : public Rule {
 public:
  virtual void apply(const ScoreTile<float>& tile) const noexcept = 0;
  virtual void apply(const ScoreTile<double>& tile) const noexcept = 0;

  /// True if s' - s does not depend on s nor on trainable numbers: gradients then pass unchanged and backward
  /// is never called.
  virtual bool passes_gradients() const { return true; }
  /// Whether backward reads `tile.scores`, which then hold s'. Where it says no there are none, and the
  /// memory and the copy are saved.
  virtual bool backward_reads_scores() const { return !passes_gradients(); }
  /// ds [rows, cols], rows tile.stride apart, holds dL/ds' and gets dL/ds. The gradient of parameter() is
  /// added to `gradient`, of its size(1) numbers of tile.head. It must be linear in ds, and a pair whose ds
  /// is 0 keeps 0 whatever its score: hidden ones may be NaN. Tiles of different sequences and key/value
  /// heads come at the same time. With a parameter() or inputs() each tile comes once, those of one such head
  /// one after the other; without them possibly twice, so that it must not sum anything itself.
  virtual void backward(const ScoreTile<float>& /*tile*/, float* /*ds*/, float* /*gradient*/) const noexcept {
  }
  virtual void backward(const ScoreTile<double>& /*tile*/, double* /*ds*/,
                        double* /*gradient*/) const noexcept {}
  /// Trainable numbers, [n_heads, size], or null.
  virtual ParameterPtr parameter() const { return nullptr; }
  /// What it reads from the tape. It passes their gradients on itself, in end_backward(): that and
  /// begin_backward() are called around the tiles of a backward pass.
  virtual std::vector<Var> inputs() const { return {}; }
  virtual void begin_backward() const {}
  virtual void end_backward() const {}
};

using EditPtr = std::shared_ptr<const Edit>;

/// Lets an edit be written once for both element types: derive from EditFor<Mine> and give it
///   template <class A> void edit(const ScoreTile<A>& tile) const noexcept;
/// and, where passes_gradients() is false,
///   template <class A> void edit_backward(const ScoreTile<A>& tile, A* ds, A* gradient) const noexcept;
template <class Derived>
class EditFor : public Edit {
 public:
  void apply(const ScoreTile<float>& t) const noexcept final { mine().edit(t); }
  void apply(const ScoreTile<double>& t) const noexcept final { mine().edit(t); }
  void backward(const ScoreTile<float>& t, float* ds, float* gradient) const noexcept final {
    backward_of(t, ds, gradient);
  }
  void backward(const ScoreTile<double>& t, double* ds, double* gradient) const noexcept final {
    backward_of(t, ds, gradient);
  }

 private:
  const Derived& mine() const { return static_cast<const Derived&>(*this); }
  template <class A>
  void backward_of(const ScoreTile<A>& t, A* ds, A* gradient) const noexcept {
    if constexpr (requires(const Derived& d) { d.edit_backward(t, ds, gradient); })
      mine().edit_backward(t, ds, gradient);
  }
};

}  // namespace qkv
