// Attention forward without the score matrix: Dao et al. 2022 (arXiv:2205.14135), algorithm 1, with the roles
// of the loops as in FlashAttention-2 (arXiv:2307.08691): queries outside, keys inside, one division at the
// end.

#include "qkv/attention/paths/gather.h"
#include "qkv/attention/paths/items.h"

namespace qkv::paths {
namespace {

template <class T>
class BlockedForward {
 public:
  using A = accumulator_t<T>;
  BlockedForward(const Problem<T>& p, const Result<T>& result) : p_(p), result_(result) {}

  void run(const Item& item) {
    const Sequence<T>& seq = p_.sequences[item.sequence];
    Scratch& scratch = Scratch::fresh();
    KeyRange all{seq.kv_len, 0};
    for (int64_t b = item.begin; b < item.end; ++b) {
      const KeyRange one = visible_to_block(p_, seq, b);
      if (one.begin < one.end) all = {std::min(all.begin, one.begin), std::max(all.end, one.end)};
    }

    // Keys and values are packed once for all query blocks and all heads that share them.
    const int64_t first_tile = all.begin / kTile,
                  n_tiles = std::max<int64_t>(0, blocks_of(all.end) - first_tile);
    auto* keys = scratch.take<KeyTile<T>>(n_tiles);
    auto* values = scratch.take<RightOperand<T>>(n_tiles);
    for (int64_t t = 0; t < n_tiles; ++t) {
      const int64_t j0 = (first_tile + t) * kTile, cols = std::min(kTile, all.end - j0);
      keys[t] = key_tile(p_, seq, item.kv_head, j0, cols, scratch);
      values[t] = value_tile(p_, seq, item.kv_head, j0, cols, scratch);
    }
    s_ = scratch.take<A>(kTile * kTile);
    weights_ = scratch.take<T>(kTile * kTile);
    correction_ = scratch.take<A>(kTile);
    for (Gathered<A>& g : gathered_)
      g = {scratch.take<A>(kTile), scratch.take<A>(kTile), scratch.take<A>(kTile * p_.d_v())};

    const int64_t group = p_.heads.group();
    for (int64_t h = item.kv_head * group; h < (item.kv_head + 1) * group; ++h)
      for (int64_t b = item.begin; b < item.end; ++b) {
        const KeyRange range = visible_to_block(p_, seq, b);
        const int64_t begin = range.begin / kTile - first_tile, end = blocks_of(range.end) - first_tile;
        block(seq, h, b * kTile, keys, values, range.begin < range.end ? begin : 0,
              range.begin < range.end ? end : 0);
      }
  }

 private:
  // Query rows i .. of head h against key tiles begin .. end - 1.
  void block(const Sequence<T>& seq, int64_t h, int64_t i, const KeyTile<T>* keys,
             const RightOperand<T>* values, int64_t begin, int64_t end) {
    const int64_t rows = std::min(kTile, seq.q_len - i);
    bool merged = false;  // gathered_[0] has the splits before; else it is still free
    for (int64_t t = begin; t < end || !merged;) {
      const Gathered<A>& into = gathered_[merged];
      SplitSums<T> sums(p_, rows, into, weights_, correction_);
      const int64_t split = t < end ? keys[t].j0 / kSplit : 0;
      for (; t < end && keys[t].j0 / kSplit == split; ++t) {
        const TilePlace place = place_of(seq, h, i, rows, keys[t]);
        if (mask_.look(p_.masks, place) == Sight::kNone) continue;
        const A scale = score_tile(p_, seq, h, i, rows, keys[t], Scratch::current(), s_);
        sums.add({.rows = rows,
                  .cols = keys[t].cols,
                  .s = s_,
                  .scale = scale,
                  .visible = mask_.words(),
                  .keep = dropout_.keep(p_, seq, h, i, rows, keys[t].j0)},
                 values[t]);
        sums.add_relative(place, 0);
        flops += 2 * rows * keys[t].cols * (p_.width + p_.d_v());
      }
      sums.end();
      if (merged) p_.kernels->attention.merge_rows(rows, p_.d_v(), into, gathered_[0]);
      merged = true;
    }
    finish_rows(p_, seq, h, i, rows, gathered_[0], result_);
  }

 public:
  int64_t flops = 0;

 private:
  const Problem<T>& p_;
  const Result<T>& result_;
  TileMask mask_;
  TileDropout dropout_;
  A *s_ = nullptr, *correction_ = nullptr;  // scores [kTile, kTile]; [kTile]
  T* weights_ = nullptr;                    // [kTile, kTile]
  Gathered<A> gathered_[2];                 // by all splits so far, by the next one
};

}  // namespace

template <class T>
void blocked_forward(const Problem<T>& p, const Result<T>& result) {
  // Hand-out one at a time evens out items of unequal cost if each thread gets a few.
  const int64_t n = static_cast<int64_t>(p.sequences.size()) * p.heads.kv_heads();
  const int64_t pieces = threads() == 1 ? 1 : ceil_div(4 * threads(), std::max<int64_t>(1, n));
  const std::vector<Item> items = cut(
      p, [](const Sequence<T>& s) { return s.q_len; }, pieces);
  for_each_item(p, items, [&](const Item& item) {
    BlockedForward<T> forward(p, result);
    forward.run(item);
    return forward.flops;
  });
}

template void blocked_forward<double>(const Problem<double>&, const Result<double>&);
template void blocked_forward<float>(const Problem<float>&, const Result<float>&);
template void blocked_forward<bfloat16>(const Problem<bfloat16>&, const Result<bfloat16>&);

}  // namespace qkv::paths
