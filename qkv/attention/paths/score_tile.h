#pragma once
// A tile of scores as all blocked paths see it: pairing, relative keys, edits; and which of its weights
// dropout keeps.

#include "qkv/attention/paths/relative_tile.h"
#include "qkv/attention/paths/tile.h"

namespace qkv::paths {

template <class T>
TilePlace place_of(const Sequence<T>& seq, int64_t h, int64_t i, int64_t rows, const KeyTile<T>& keys) {
  return {.batch = seq.index, .head = h, .i0 = seq.past + i, .j0 = keys.j0, .rows = rows, .cols = keys.cols};
}

template <class T>
ScoreTile<accumulator_t<T>> edited_tile(const Problem<T>& p, const TilePlace& place, accumulator_t<T>* s) {
  return {place, kTile, s, p.exact};
}

/// The pairing of `rows` prepared queries, ldq apart, with a tile of keys, into s [rows, kTile]. h: whose
/// tanh_v.
template <class T>
void pair_tile(const Problem<T>& p, int64_t h, int64_t rows, const T* q, int64_t ldq, const KeyTile<T>& keys,
               accumulator_t<T>* s) {
  switch (p.kind) {
    case Pairing::Kind::kDot:
      if (keys.k_packed)
        multiply(*p.kernels, rows, keys.cols, p.width, q, ldq, keys.k_packed, s, kTile, false);
      else
        multiply_unpacked(*p.kernels, rows, keys.cols, p.width, q, ldq, keys.k, 1, keys.k_stride, keys.ahead,
                          s, kTile, false);
      break;
    case Pairing::Kind::kTanhSum:
      p.kernels->attention.additive_tile(rows, keys.cols, p.width, q, ldq, keys.k, keys.k_stride,
                                         p.tanh_v + h * p.width, s, kTile);
      break;
    case Pairing::Kind::kUniform:
      std::fill(s, s + rows * kTile, accumulator_t<T>(0));
      break;
  }
}

/// Adds relative keys to paired scores s [rows, kTile].
template <class T>
void add_relative_keys(const Problem<T>& p, const Sequence<T>& seq, int64_t h, int64_t i,
                       const TilePlace& place, Scratch& scratch, accumulator_t<T>* s) {
  if (!p.relative_keys.rows) return;
  const Scratch::Frame frame(scratch);
  RelativeTile<T>(p, p.relative_keys, p.width, place, scratch)
      .add_products(p.relative_query(seq, h, i), p.relative_keys.q_stride, s);
}

/// Adds relative keys to paired scores s [rows, kTile] and makes the edits. Returns the scale that is still
/// to be applied. saved, if given, has a tile for each edit whose backward reads scores: it gets what the
/// edit made of them.
template <class T>
accumulator_t<T> edit_tile(const Problem<T>& p, const Sequence<T>& seq, int64_t h, int64_t i, int64_t rows,
                           const KeyTile<T>& keys, Scratch& scratch, accumulator_t<T>* s,
                           accumulator_t<T>* const* saved = nullptr) {
  using A = accumulator_t<T>;
  const TilePlace place = place_of(seq, h, i, rows, keys);
  add_relative_keys(p, seq, h, i, place, scratch, s);
  if (p.edits.empty()) return p.scale;
  A factor[kTile];
  std::fill(factor, factor + rows, p.scale);
  p.kernels->attention.scale_rows(rows, keys.cols, factor, s, kTile);
  const ScoreTile<A> tile = edited_tile(p, place, s);
  for (size_t e = 0; e < p.edits.size(); ++e) {
    p.edits[e]->apply(tile);
    if (saved && saved[e]) std::copy(s, s + rows * kTile, saved[e]);
  }
  return 1;
}

/// Both, for query rows i .. i + rows - 1 of head h.
template <class T>
accumulator_t<T> score_tile(const Problem<T>& p, const Sequence<T>& seq, int64_t h, int64_t i, int64_t rows,
                            const KeyTile<T>& keys, Scratch& scratch, accumulator_t<T>* s,
                            accumulator_t<T>* const* saved = nullptr) {
  pair_tile(p, h, rows, p.query(seq, h, i), p.q_stride, keys, s);
  return edit_tile(p, seq, h, i, rows, keys, scratch, s, saved);
}

/// The dropout bits of a tile: bit c of word r says whether key j0 + c of query row i + r is kept. A dropout
/// group (128 places) is two neighbouring query rows of the batch by the 64 keys of a tile, in one head.
class TileDropout {
 public:
  /// Null where there is no dropout. The words live until the next call.
  template <class T>
  const uint64_t* keep(const Problem<T>& p, const Sequence<T>& seq, int64_t h, int64_t i, int64_t rows,
                       int64_t j0) {
    if (p.dropout.threshold == 0) return nullptr;
    const int64_t row = seq.q_begin + i, pair = row / 2, pairs = (row + rows - 1) / 2 - pair + 1;
    const auto group = [&](int64_t pair_of_rows) {
      return (static_cast<uint64_t>(pair_of_rows) * static_cast<uint64_t>(p.heads.n_heads) +
              static_cast<uint64_t>(h))
                 << 24 |
             static_cast<uint64_t>(j0 / kTile);
    };
    p.kernels->attention.dropout_keep(pairs, group(pair), group(pair + 1) - group(pair), p.dropout, words_);
    return words_ + row % 2;
  }

 private:
  uint64_t words_[kTile + 2];
};

}  // namespace qkv::paths
