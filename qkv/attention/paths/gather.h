#pragma once
// What query rows gather from their keys, as the blocked and the decode path see it: tile after tile into the
// sums of a split, splits merged in order, and at the end one division. docs/math/attention.md and
// decoding.md derive it.

#include "qkv/attention/paths/score_tile.h"

namespace qkv::paths {

template <class A>
using Gathered = kernels::GatheredRows<A>;

/// Rows first .. of g.
template <class A>
Gathered<A> from_row(const Gathered<A>& g, int64_t first, int64_t d_v) {
  return {g.max + first, g.sum + first, g.o + first * d_v};
}

/// Scores of rows against a tile's keys, as far as edits, masks and dropout went.
template <class T>
struct ScoredTile {
  using A = accumulator_t<T>;
  int64_t rows = 0, cols = 0;
  const A* s = nullptr;  // [rows, kTile]
  A scale = 1;           // still to be applied
  const uint64_t *visible = nullptr, *keep = nullptr;
};

/// The sums of one split, for rows that meet the same tiles.
template <class T>
class SplitSums {
 public:
  using A = accumulator_t<T>;
  /// Empty, in memory for `rows` rows. weights [rows, kTile] and correction [rows] are lent.
  SplitSums(const Problem<T>& p, int64_t rows, const Gathered<A>& into, T* weights, A* correction)
      : p_(&p), rows_(rows), into_(into), weights_(weights), correction_(correction) {
    std::fill(into.max, into.max + rows, softmax() ? -std::numeric_limits<A>::infinity() : A(0));
    std::fill(into.sum, into.sum + rows, A(0));
  }

  void add(const ScoredTile<T>& t, const RightOperand<T>& values) {
    const auto& kernels = p_->kernels->attention;
    const int64_t d_v = p_->d_v();
    if (softmax()) {
      kernels.softmax_tile({.rows = t.rows,
                            .cols = t.cols,
                            .s = t.s,
                            .stride = kTile,
                            .scale = t.scale,
                            .visible = t.visible,
                            .keep = t.keep,
                            .max = into_.max,
                            .sum = into_.sum,
                            .correction = correction_,
                            .p = weights_,
                            .p_stride = kTile});
      if (!first_) kernels.scale_rows(rows_, d_v, correction_, into_.o, d_v);
    } else {
      kernels.sigmoid_tile({.rows = t.rows,
                            .cols = t.cols,
                            .s = t.s,
                            .stride = kTile,
                            .scale = t.scale,
                            .shift = static_cast<A>(p_->normalizer->shift()),
                            .visible = t.visible,
                            .keep = t.keep,
                            .p = weights_,
                            .p_stride = kTile});
    }
    multiply(*p_->kernels, rows_, weights_, kTile, values, into_.o, d_v, /*accumulate=*/!first_);
    first_ = false;
  }

  /// After add(): relative values of one head, whose rows begin at `first`.
  void add_relative(const TilePlace& place, int64_t first) {
    add_relative_values(*p_, place, weights_ + first * kTile, Scratch::current(),
                        into_.o + first * p_->d_v());
  }

  /// Rows that met no tile get o = 0.
  void end() {
    if (first_) std::fill(into_.o, into_.o + rows_ * p_->d_v(), A(0));
  }

 private:
  bool softmax() const { return p_->normalizer->blockwise() == Normalizer::Blockwise::kSoftmax; }

  const Problem<T>* p_;
  int64_t rows_;
  Gathered<A> into_;
  T* weights_;
  A* correction_;
  bool first_ = true;
};

/// Writes the result of query rows i .. i + rows - 1 of head h. A sink is one more key, whose value is 0; a
/// sigmoid's weights are not divided by their sum.
template <class T>
void finish_rows(const Problem<T>& p, const Sequence<T>& seq, int64_t h, int64_t i, int64_t rows,
                 const Gathered<accumulator_t<T>>& g, const Result<T>& result) {
  using A = accumulator_t<T>;
  const bool softmax = p.normalizer->blockwise() == Normalizer::Blockwise::kSoftmax;
  const int64_t d_v = p.d_v(), ldo = p.heads.n_heads * d_v;
  A factor[kTile];
  for (int64_t r = 0; r < rows; ++r) {
    A max = g.max[r], sum = softmax ? g.sum[r] : A(1), less = 1;
    if (p.sink) {
      const A sink = p.sink[h], before = max;
      max = std::max(before, sink);
      less = before == max ? A(1) : std::exp(before - max);
      sum = less * sum + (sink == max ? A(1) : std::exp(sink - max));
    }
    // A row that saw no key has sum 0 and stays zero.
    factor[r] = sum == 0 ? A(0) : less * p.dropout_scale() / sum;
    if (!result.rows) continue;
    const auto row = result.rows.from(h * p.n_q + seq.q_begin + i + r);
    *row.max = softmax ? max : A(0);
    *row.share = sum == 0 ? A(0) : 1 / sum;
  }
  p.kernels->attention.store_rows(rows, d_v, factor, g.o, d_v, result.out + (seq.q_begin + i) * ldo + h * d_v,
                                  ldo);
}

}  // namespace qkv::paths
