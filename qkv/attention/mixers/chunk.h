#pragma once
// A chunk of at most 64 tokens: its decays, its scores, and what it does to the state. Forward and backward
// share this.
//
// Two tokens c < r meet at a border between them: the key is decayed up to it, the query from it on, and both
// factors are products of numbers in [0, 1]. Borders lie at a chunk's beginning, for keys of older chunks;
// and inside it, with decays for each feature, at 32, 16 and 48. So no decay is ever divided by another.

#include <algorithm>

#include "qkv/attention/mixers/recurrence.h"
#include "qkv/attention/paths/tile.h"

namespace qkv::recurrence {

using paths::pack;
using paths::right_operand;
using paths::RightOperand;
using paths::Scratch;

/// Where a chunk's tokens meet, and by how much.
template <class T>
class ChunkDecays {
 public:
  using A = accumulator_t<T>;

  ChunkDecays(const Problem<T>& p, int64_t kv_head, Scratch& scratch)
      : p_(p),
        kv_head_(kv_head),
        weights_(scratch.take<A>(kChunk * kChunk)),
        total_(scratch.take<A>(p.width)) {
    std::fill(weights_, weights_ + kChunk * kChunk, A(0));
    for (int64_t r = 0; r < kChunk; ++r)
      std::fill(weights_ + r * kChunk, weights_ + r * kChunk + r + 1, A(1));
  }

  /// Tokens row .. row + rows - 1 of the batch.
  void look(int64_t row, int64_t rows) {
    a_ = p_.decays(row, kv_head_);
    if (!a_ || p_.by_feature()) return;
    if (rows == rows_ && p_.decay_stride == 0) return;
    rows_ = rows;
    for (int64_t r = 0; r < rows; ++r) {
      const A a = a_[r * p_.decay_stride];
      from_begin_[r] = r == 0 ? a : from_begin_[r - 1] * a;
      for (int64_t c = 0; c < r; ++c) weights_[r * kChunk + c] = weights_[(r - 1) * kChunk + c] * a;
    }
    std::copy(weights_ + (rows - 1) * kChunk, weights_ + (rows - 1) * kChunk + rows, to_end_);
    std::fill(total_, total_ + p_.width, from_begin_[rows - 1]);
  }

  bool any() const { return a_ != nullptr; }
  /// The features' decays of the chunk's row r, lda() apart.
  const A* of(int64_t r) const { return a_ + r * lda(); }
  int64_t lda() const { return p_.decay_stride; }
  /// [kChunk, kChunk]: what a score is multiplied by; 0 where the key is younger. With decays for each
  /// feature the scores hold them already, and this is 1 where it is not 0.
  const A* weights() const { return weights_; }
  const A* from_begin() const { return from_begin_; }  // [rows], of scalar decays: a_0 ... a_r
  const A* to_end() const { return to_end_; }          // [rows], likewise: a_{r+1} ... a_{rows-1}
  const A* total() const { return total_; }            // [width], after keys_to_end() where by feature

  /// Keys decayed to the chunk's end, queries from its beginning. Without decays they are x itself; else they
  /// go to y, [rows, width].
  const T* keys_to_end(int64_t rows, const T* x, int64_t& ld, T* y) const {
    return decayed(rows, x, ld, y, true);
  }
  const T* queries_from_begin(int64_t rows, const T* x, int64_t& ld, T* y) const {
    return decayed(rows, x, ld, y, false);
  }

 private:
  const T* decayed(int64_t rows, const T* x, int64_t& ld, T* y, bool to_end) const {
    if (!any()) return x;
    if (p_.by_feature())
      p_.kernels->mixers.decay_rows({.rows = rows,
                                     .d = p_.width,
                                     .to_end = to_end,
                                     .a = a_,
                                     .lda = lda(),
                                     .x = x,
                                     .ldx = ld,
                                     .y = y,
                                     .ldy = p_.width,
                                     .total = to_end ? total_ : nullptr});
    else
      for (int64_t r = 0; r < rows; ++r)
        p_.kernels->rows.scale(p_.width, to_end ? to_end_[r] : from_begin_[r], x + r * ld, y + r * p_.width);
    ld = p_.width;
    return y;
  }

  const Problem<T>& p_;
  int64_t kv_head_, rows_ = 0;
  const A* a_ = nullptr;
  A *weights_, *total_;
  A from_begin_[kChunk] = {}, to_end_[kChunk] = {};
};

/// A border inside a chunk: keys begin .. mid - 1, queries mid .. end - 1.
struct Border {
  int64_t begin = 0, mid = 0, end = 0;
};

/// f(border) for the borders of a chunk with decays for each feature, widest first.
template <class F>
void for_each_border(int64_t rows, F&& f) {
  for (int64_t half = kChunk / 2; half >= kBlock; half /= 2)
    for (int64_t begin = 0; begin + half < rows; begin += 2 * half)
      f(Border{.begin = begin, .mid = begin + half, .end = std::min(rows, begin + 2 * half)});
}

/// What a border makes of the two sides.
template <class T>
struct BorderRows {
  T* queries = nullptr;  // [end - mid, width], decayed from the border on
  T* keys = nullptr;     // [mid - begin, width], decayed up to it
};
template <class T>
BorderRows<T> at_border(const Problem<T>& p, const ChunkDecays<T>& decays, const Border& b, const T* q,
                        const T* k, Scratch& scratch) {
  const BorderRows<T> rows{.queries = scratch.take<T>((b.end - b.mid) * p.width),
                           .keys = scratch.take<T>((b.mid - b.begin) * p.width)};
  p.kernels->mixers.decay_rows({.rows = b.end - b.mid,
                                .d = p.width,
                                .a = decays.of(b.mid),
                                .lda = decays.lda(),
                                .x = q + b.mid * p.q_stride,
                                .ldx = p.q_stride,
                                .y = rows.queries,
                                .ldy = p.width});
  p.kernels->mixers.decay_rows({.rows = b.mid - b.begin,
                                .d = p.width,
                                .to_end = true,
                                .a = decays.of(b.begin),
                                .lda = decays.lda(),
                                .x = k + b.begin * p.k_stride,
                                .ldx = p.k_stride,
                                .y = rows.keys,
                                .ldy = p.width});
  return rows;
}

/// Scores of a chunk's queries and keys, s [kChunk, kChunk]: to be weighed by decays.weights(). k_flipped is
/// K^T packed, where decays are not by feature.
template <class T>
void chunk_scores(const Problem<T>& p, const ChunkDecays<T>& decays, int64_t rows, const T* q, const T* k,
                  const void* k_flipped, accumulator_t<T>* s, Scratch& scratch) {
  if (!p.by_feature()) {
    paths::multiply(*p.kernels, rows, rows, p.width, q, p.q_stride, k_flipped, s, kChunk, false);
    return;
  }
  const Scratch::Frame frame(scratch);
  for_each_border(rows, [&](const Border& b) {
    const Scratch::Frame inner(scratch);
    const BorderRows<T> sides = at_border(p, decays, b, q, k, scratch);
    const void* keys =
        paths::transposed_operand(*p.kernels, sides.keys, b.mid - b.begin, p.width, p.width, scratch);
    paths::multiply(*p.kernels, b.end - b.mid, b.mid - b.begin, p.width, sides.queries, p.width, keys,
                    s + b.mid * kChunk + b.begin, kChunk, false);
  });
  auto* work = scratch.take<accumulator_t<T>>(p.width);
  for (int64_t r = 0; r < rows; r += kBlock)
    p.kernels->mixers.decayed_scores({.rows = std::min(kBlock, rows - r),
                                      .d = p.width,
                                      .q = q + r * p.q_stride,
                                      .k = k + r * p.k_stride,
                                      .ldq = p.q_stride,
                                      .ldk = p.k_stride,
                                      .a = decays.of(r),
                                      .lda = decays.lda(),
                                      .s = s + r * kChunk + r,
                                      .work = work,
                                      .stride = kChunk});
}

/// S and z of one kv head.
template <class T>
class State {
 public:
  using A = accumulator_t<T>;
  State() = default;
  State(const Problem<T>& p, A* at) : p_(&p), s_(at), z_(at + p.width * p.d_v()) {}

  A* s() const { return s_; }
  A* z() const { return z_; }
  void clear() const { std::fill(s_, s_ + p_->state_size(), A(0)); }
  void copy_from(const State& other) const { std::copy(other.s_, other.s_ + p_->state_size(), s_); }

  void decay(const A* total) const {
    p_->exact->attention.scale_rows(p_->width, p_->d_v(), total, s_, p_->d_v());
    for (int64_t d = 0; d < p_->width; ++d) z_[d] *= total[d];
  }
  /// S += K^T V, z += K^T 1. flipped: width * kChunk numbers to work with.
  void absorb(int64_t rows, const T* keys, int64_t ld, const RightOperand<T>& values, T* flipped) const {
    p_->kernels->gemm.transpose(rows, p_->width, keys, ld, flipped, kChunk);
    paths::multiply(*p_->kernels, p_->width, flipped, kChunk, values, s_, p_->d_v(), /*accumulate=*/true);
    if (p_->normalised) p_->kernels->rows.column_sum(rows, p_->width, keys, ld, z_);
  }

 private:
  const Problem<T>* p_ = nullptr;
  A *s_ = nullptr, *z_ = nullptr;
};

}  // namespace qkv::recurrence
