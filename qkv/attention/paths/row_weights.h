#pragma once
// From queries and keys to whole rows of weights, 64 queries at a time: for normalizers that need a row at
// once, and for talking heads, which need a row of every head at once. With X a head's scores, for a block of
// queries:
//
//   X_h = scale Q_h K_h^T      S_h = edit(sum_g X_g Pl_gh), masked      W_h = normalizer(S_h)
//   U_h = sum_g W_g Pw_gh
//
// and S = X edited and masked, U = W where heads do not talk.
//
// Scratch: 64 rows of kv_len numbers for each head that is worked on together. No sum is split by thread:
// where heads talk, they go from step to step together, and within a step each key/value head, or each range
// of rows, is one thread's.

#include "qkv/attention/paths/items.h"
#include "qkv/attention/paths/mix_heads.h"

namespace qkv::paths {

/// Queries i .. i + rows - 1 and the keys they may see, for some heads.
struct RowBlock {
  int64_t i = 0, rows = 0;
  int64_t j0 = 0, cols = 0;  // keys j0 .. j0 + cols - 1, j0 at a tile's begin
  int64_t h_begin = 0, h_end = 0;
};

/// One key/value head of a sequence, or all of them where heads talk.
template <class T>
class RowWeights {
 public:
  using A = accumulator_t<T>;

  /// What all blocks of queries need of one key/value head, and the memory of whoever works on it.
  struct KvHead {
    Scratch scratch;
    TileMask mask;
    KeyTile<T>* keys = nullptr;  // of each tile
    A* tile = nullptr;           // [kTile, kTile]
  };

  /// The keys that the item's query blocks may see are packed. trains: edited scores are kept, and the
  /// threads share the key/value heads, unless there is one or it is too small to be worth it.
  RowWeights(const Problem<T>& p, const Item& item, bool trains)
      : p_(p),
        seq_(p.sequences[static_cast<size_t>(item.sequence)]),
        kv_begin_(item.kv_head),
        kv_heads_(static_cast<size_t>(p.talks() ? p.heads.kv_heads() : 1)),
        threaded_(trains && kv_heads_.size() > 1 &&
                  std::min(kTile, seq_.q_len) * seq_.kv_len * p.heads.n_heads >= kPairsWorthAThread) {
    int64_t key_begin = seq_.kv_len, key_end = 0;
    for (int64_t b = item.begin; b < item.end; ++b) {
      const KeyRange one = visible_to_block(p, seq_, b);
      if (one.begin < one.end)
        key_begin = std::min(key_begin, one.begin), key_end = std::max(key_end, one.end);
    }
    first_tile_ = key_begin / kTile;
    n_tiles_ = std::max<int64_t>(0, blocks_of(key_end) - first_tile_);
    // Rows a power of two apart would share the sets of a cache.
    stride_ = n_tiles_ * kTile + 16;
    head_stride_ = kTile * stride_ + 16;
    each_part([&](int64_t part) {
      KvHead& kv = kv_heads_[static_cast<size_t>(part)];
      kv.keys = kv.scratch.template take<KeyTile<T>>(n_tiles_);
      each_key_tile([&](int64_t t, int64_t j0, int64_t cols) {
        kv.keys[t] = key_tile(p_, seq_, kv_begin_ + part, j0, cols, kv.scratch);
      });
      kv.tile = kv.scratch.template take<A>(kTile * kTile);
    });
    x = take_rows();
    w = p.mix_scores ? take_rows() : x;
    u = p.mix_weights ? take_rows() : w;
    sight_ = scratch_.take<Sight>(heads() * n_tiles_);
    words_ = scratch_.take<uint64_t>(heads() * n_tiles_ * kTile);
    max_ = scratch_.take<A>(heads() * n_tiles_ * kTile);
    for (const Edit* edit : p.edits)
      edited_.push_back(trains && edit->backward_reads_scores() ? take_rows() : nullptr);
    mix_scores_ = transposed(p.mix_scores);
    mix_weights_ = transposed(p.mix_weights);
  }

  /// Rows of each head of a block: x, w, u as above. Some are the same memory where nothing is mixed between.
  A *x = nullptr, *w = nullptr, *u = nullptr;

  /// Makes them for a block. kept: [n_heads, n_q] or null.
  void weigh(const RowBlock& block, kernels::RowSoftmax<A> kept) {
    each_head(block, [&](int64_t part, int64_t h) { look(kv_heads_[part], block, h); });
    each_head(block, [&](int64_t part, int64_t h) { score(kv_heads_[part], block, h); });
    if (p_.mix_scores) mix(block, mix_scores_, x, w);
    each_head(block, [&](int64_t, int64_t h) {
      edit(block, h);
      hide(block, h, w, -kInfinity);
      normalize(block, h, kept ? kept.from(h * p_.n_q + seq_.q_begin + block.i) : kept);
      // A row that met a NaN is NaN where it may look, and only there.
      if (!p_.exact->all_finite(block.rows, block.cols, rows_of(w, block, h), stride_))
        hide(block, h, w, A(0));
    });
    if (p_.mix_weights) mix(block, mix_weights_, w, u);
  }

  RowBlock block_at(int64_t b, int64_t h_begin, int64_t h_end) const {
    RowBlock block{
        .i = b * kTile, .rows = std::min(kTile, seq_.q_len - b * kTile), .h_begin = h_begin, .h_end = h_end};
    const KeyRange range = visible_to_block(p_, seq_, b);
    if (range.begin < range.end) {
      block.j0 = range.begin / kTile * kTile;
      block.cols = std::min(seq_.kv_len, blocks_of(range.end) * kTile) - block.j0;
    }
    return block;
  }

  const Sequence<T>& sequence() const { return seq_; }
  int64_t stride() const { return stride_; }
  A* rows_of(A* rows, const RowBlock& block, int64_t h) const {
    return rows + (h - block.h_begin) * head_stride_;
  }
  A* row(A* rows, const RowBlock& block, int64_t h, int64_t r) const {
    return rows_of(rows, block, h) + r * stride_;
  }
  /// What edit e made of head h's scores: null, unless its backward reads them.
  A* edited(size_t e, const RowBlock& block, int64_t h) const {
    return edited_[e] ? rows_of(edited_[e], block, h) : nullptr;
  }
  /// Memory like x's, for gradients.
  A* take_rows() { return scratch_.take<A>(heads() * head_stride_); }

  /// Key/value heads, in order, and what belongs to one.
  int64_t parts() const { return static_cast<int64_t>(kv_heads_.size()); }
  int64_t kv_head(int64_t part) const { return kv_begin_ + part; }
  Scratch& scratch(int64_t part) { return kv_heads_[static_cast<size_t>(part)].scratch; }
  const KeyTile<T>& keys(int64_t part, const TilePlace& place) const {
    return kv_heads_[static_cast<size_t>(part)].keys[tile_index(place)];
  }
  /// Which of the packed tiles of keys this is.
  int64_t tile_index(const TilePlace& place) const { return place.j0 / kTile - first_tile_; }
  int64_t n_tiles() const { return n_tiles_; }

  /// f(part) for each key/value head, over the threads where that is worth it.
  template <class F>
  void each_part(F&& f) {
    if (threaded_)
      parallel_items(parts(), f);
    else
      for (int64_t part = 0; part < parts(); ++part) f(part);
  }
  /// f(part, h) for the block's heads; those of one key/value head in order.
  template <class F>
  void each_head(const RowBlock& block, F&& f) {
    const int64_t group = p_.heads.group();
    each_part([&](int64_t part) {
      const int64_t first = (kv_begin_ + part) * group;
      for (int64_t h = std::max(first, block.h_begin); h < std::min(first + group, block.h_end); ++h)
        f(part, h);
    });
  }
  /// f(part, r) for the block's rows. The parts depend on the problem's shape alone.
  template <class F>
  void each_row(const RowBlock& block, F&& f) {
    each_part([&](int64_t part) {
      for (int64_t r = block.rows * part / parts(); r < block.rows * (part + 1) / parts(); ++r) f(part, r);
    });
  }
  /// f(t, j0, cols) for the packed tiles of keys.
  template <class F>
  void each_key_tile(F&& f) const {
    for (int64_t t = 0; t < n_tiles_; ++t) {
      const int64_t j0 = (first_tile_ + t) * kTile;
      f(t, j0, std::min(kTile, seq_.kv_len - j0));
    }
  }
  /// f(c, place) for the block's tiles in which any of its heads sees anything; c is the first column in the
  /// rows.
  template <class F>
  void each_tile(const RowBlock& block, int64_t h, F&& f) const {
    for (int64_t c = 0; c < block.cols; c += kTile)
      if (seen(block, c)) f(c, place_at(block, h, c));
  }

  /// rows become `value` where head h does not see.
  void hide(const RowBlock& block, int64_t h, A* rows, A value) const {
    for (int64_t c = 0; c < block.cols; c += kTile) {
      const Sight sees = sight(block, h, c);
      if (sees == Sight::kAll) continue;
      const int64_t cols = std::min(kTile, block.cols - c);
      for (int64_t r = 0; r < block.rows; ++r) {
        A* to = row(rows, block, h, r) + c;
        if (sees == Sight::kNone)
          std::fill(to, to + cols, value);
        else if (const uint64_t word = words_of(block, h, c)[r]; (~word & low_bits(cols)) != 0)
          for (int64_t j = 0; j < cols; ++j) to[j] = word >> j & 1 ? to[j] : value;
      }
    }
  }

  /// to_h = sum_g mixing[h, g] from_g at every place of the block.
  void mix(const RowBlock& block, const A* mixing, const A* from, A* to) {
    each_row(block, [&](int64_t part, int64_t r) {
      mix_row(*p_.exact_gemm, head_rows(block), mixing, from + r * stride_, to + r * stride_, scratch(part));
    });
  }
  HeadRows head_rows(const RowBlock& block) const {
    return {.n_heads = p_.heads.n_heads, .cols = block.cols, .head_stride = head_stride_};
  }

 private:
  int64_t heads() const { return p_.talks() ? p_.heads.n_heads : 1; }
  bool seen(const RowBlock& block, int64_t c) const {
    for (int64_t h = block.h_begin; h < block.h_end; ++h)
      if (sight(block, h, c) != Sight::kNone) return true;
    return false;
  }
  TilePlace place_at(const RowBlock& block, int64_t h, int64_t c) const {
    return {.batch = seq_.index,
            .head = h,
            .i0 = seq_.past + block.i,
            .j0 = block.j0 + c,
            .rows = block.rows,
            .cols = std::min(kTile, block.cols - c)};
  }
  int64_t tile_of(const RowBlock& block, int64_t h, int64_t c) const {
    return (h - block.h_begin) * n_tiles_ + c / kTile;
  }
  Sight& sight(const RowBlock& block, int64_t h, int64_t c) const { return sight_[tile_of(block, h, c)]; }
  uint64_t* words_of(const RowBlock& block, int64_t h, int64_t c) const {
    return words_ + tile_of(block, h, c) * kTile;
  }
  const A* transposed(const A* mixing) {
    if (!mixing) return nullptr;
    const int64_t n = p_.heads.n_heads;
    A* flipped = scratch_.take<A>(n * n);
    for (int64_t g = 0; g < n; ++g)
      for (int64_t h = 0; h < n; ++h) flipped[h * n + g] = mixing[g * n + h];
    return flipped;
  }

  void look(KvHead& kv, const RowBlock& block, int64_t h) {
    for (int64_t c = 0; c < block.cols; c += kTile) {
      const TilePlace place = place_at(block, h, c);
      sight(block, h, c) = kv.mask.look(p_.masks, place);
      if (sight(block, h, c) == Sight::kSome)
        std::copy(kv.mask.words(), kv.mask.words() + place.rows, words_of(block, h, c));
    }
  }

  void score(KvHead& kv, const RowBlock& block, int64_t h) {
    for (int64_t c = 0; c < block.cols; c += kTile) {
      const TilePlace place = place_at(block, h, c);
      if (seen(block, c)) {  // edits come after mixing
        pair_tile(p_, h, place.rows, p_.query(seq_, h, block.i), p_.q_stride, kv.keys[tile_index(place)],
                  kv.tile);
        add_relative_keys(p_, seq_, h, block.i, place, kv.scratch, kv.tile);
      } else {
        std::fill(kv.tile, kv.tile + kTile * kTile, A(0));  // mixing reads it
      }
      store_rows(*p_.exact, place.rows, place.cols, p_.scale, kv.tile, kTile, rows_of(x, block, h) + c,
                 stride_);
    }
  }

  void edit(const RowBlock& block, int64_t h) {
    A* s = rows_of(w, block, h);
    for (size_t e = 0; e < p_.edits.size(); ++e) {
      each_tile(block, h, [&](int64_t c, const TilePlace& place) {
        p_.edits[e]->apply(ScoreTile<A>{place, stride_, s + c, p_.exact});
      });
      if (edited_[e]) std::copy(s, s + block.rows * stride_, edited(e, block, h));
    }
  }

  void normalize(const RowBlock& block, int64_t h, kernels::RowSoftmax<A> kept) {
    if (kept) std::fill_n(kept.max, block.rows, A(0)), std::fill_n(kept.share, block.rows, A(1));
    switch (p_.normalizer->blockwise()) {
      case Normalizer::Blockwise::kNone:
        for (int64_t r = 0; r < block.rows; ++r) p_.normalizer->weights(h, block.cols, row(w, block, h, r));
        break;
      case Normalizer::Blockwise::kSoftmax:
        softmax(block, h, kept);
        break;
      case Normalizer::Blockwise::kSigmoid:
        for (int64_t c = 0; c < block.cols; c += kTile) {
          A* s = rows_of(w, block, h) + c;
          p_.exact->sigmoid_tile({.rows = block.rows,
                                  .cols = std::min(kTile, block.cols - c),
                                  .s = s,
                                  .stride = stride_,
                                  .shift = static_cast<A>(p_.normalizer->shift()),
                                  .p = s,
                                  .p_stride = stride_});
        }
    }
  }

  // The online softmax leaves tile t as exp(s - m_t), m_t the maximum so far: what is missing is known in the
  // end.
  void softmax(const RowBlock& block, int64_t h, kernels::RowSoftmax<A> kept) {
    A max[kTile], sum[kTile], correction[kTile], factor[kTile];
    std::fill(max, max + block.rows, p_.sink ? p_.sink[h] : -kInfinity);
    std::fill(sum, sum + block.rows, p_.sink ? A(1) : A(0));
    A* history = max_ + tile_of(block, h, 0) * kTile;
    for (int64_t c = 0; c < block.cols; c += kTile) {
      A* s = rows_of(w, block, h) + c;
      p_.exact->softmax_tile({.rows = block.rows,
                              .cols = std::min(kTile, block.cols - c),
                              .s = s,
                              .stride = stride_,
                              .max = max,
                              .sum = sum,
                              .correction = correction,
                              .p = s,
                              .p_stride = stride_});
      std::copy(max, max + block.rows, history + c);
    }
    for (int64_t c = 0; c < block.cols; c += kTile) {
      for (int64_t r = 0; r < block.rows; ++r)  // exp(-inf - -inf) is NaN, of a row that had seen nothing yet
        factor[r] = history[c + r] == -kInfinity ? A(0) : std::exp(history[c + r] - max[r]) / sum[r];
      p_.exact->scale_rows(block.rows, std::min(kTile, block.cols - c), factor, rows_of(w, block, h) + c,
                           stride_);
    }
    for (int64_t r = 0; r < block.rows && kept; ++r)
      kept.max[r] = max[r], kept.share[r] = sum[r] == 0 ? A(0) : 1 / sum[r];
  }

  static constexpr A kInfinity = std::numeric_limits<A>::infinity();
  static constexpr int64_t kPairsWorthAThread =
      1 << 14;  // of a block, in all heads: tens of microseconds a step

  const Problem<T>& p_;
  const Sequence<T>& seq_;
  const int64_t kv_begin_;
  std::vector<KvHead> kv_heads_;
  const bool threaded_;
  int64_t first_tile_ = 0, n_tiles_ = 0, stride_ = 0, head_stride_ = 0;
  Scratch scratch_;
  std::vector<A*> edited_;                                  // rows for each edit whose backward reads scores
  Sight* sight_ = nullptr;                                  // [heads, n_tiles]
  uint64_t* words_ = nullptr;                               // [heads, n_tiles, kTile]
  A* max_ = nullptr;                                        // [heads, n_tiles, kTile]
  const A *mix_scores_ = nullptr, *mix_weights_ = nullptr;  // transposed: [to, from]
};

}  // namespace qkv::paths
