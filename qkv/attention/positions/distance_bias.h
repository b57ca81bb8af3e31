#pragma once
// Biases that depend on the distance j - i and the head alone: a tile of them has rows + cols - 1 different
// numbers, which are looked up once and added along its diagonals.

#include "qkv/attention/rule.h"

namespace qkv {

/// Derive from DistanceBias<Mine> and give it
///   template <class A> A bias(int64_t head, int64_t distance) const noexcept;
/// and, where it trains (passes_gradients() is false),
///   template <class A> void add(int64_t distance, A db, A* gradient) const noexcept;   // of this head
template <class Derived>
class DistanceBias : public EditFor<DistanceBias<Derived>> {
 public:
  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    A diagonals[127];
    const int64_t first = first_distance(t);
    for (int64_t m = 0; m < count(t); ++m)
      diagonals[m] = static_cast<const Derived*>(this)->template bias<A>(t.head, first + m);
    t.kernels->add_diagonals(t.rows, t.cols, diagonals + t.rows - 1, t.scores, t.stride);
  }
  template <class A>
  void edit_backward(const ScoreTile<A>& t, A* ds, A* gradient) const noexcept {
    if constexpr (requires(const Derived& d) { d.template add<A>(int64_t{}, A{}, gradient); }) {
      A diagonals[127] = {};
      t.kernels->sum_diagonals(t.rows, t.cols, ds, t.stride, diagonals + t.rows - 1);
      const int64_t first = first_distance(t);
      for (int64_t m = 0; m < count(t); ++m)
        static_cast<const Derived*>(this)->template add<A>(first + m, diagonals[m], gradient);
    }
  }

 private:
  // The last query against the first key.
  static int64_t first_distance(const TilePlace& t) { return t.j0 - (t.i0 + t.rows - 1); }
  static int64_t count(const TilePlace& t) { return t.rows + t.cols - 1; }
};

}  // namespace qkv
