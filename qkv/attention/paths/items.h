#pragma once
// How the blocked paths cut their work: one item a (sequence, key/value head), cut further along the queries
// where that gives too few items for the threads. No sum crosses an item's border, so how it is cut changes
// no bit.

#include <numeric>
#include <vector>

#include "qkv/attention/paths/score_tile.h"
#include "qkv/base/parallel.h"
#include "qkv/tensor/matmul.h"

namespace qkv::paths {

/// Blocks begin .. end - 1 of one sequence and key/value head.
struct Item {
  int64_t sequence = 0, kv_head = 0, begin = 0, end = 0;
};

inline int64_t blocks_of(int64_t length) { return ceil_div(length, kTile); }

/// length(s): how many rows of sequence s are to be cut in blocks of kTile, and these into at most `pieces`,
/// for each of its first `kv_heads` key/value heads. A sequence of length 0 gives one empty item: its other
/// side's results are still to be written.
template <class T, class Length>
std::vector<Item> cut(const Problem<T>& p, Length&& length, int64_t pieces, int64_t kv_heads) {
  const int64_t n = static_cast<int64_t>(p.sequences.size());
  std::vector<Item> items;
  items.reserve(static_cast<size_t>(n * kv_heads * pieces));
  for (int64_t s = 0; s < n; ++s) {
    const int64_t blocks = blocks_of(length(p.sequences[s]));
    const int64_t m = std::clamp<int64_t>(blocks, 1, pieces);
    for (int64_t h = 0; h < kv_heads; ++h)
      for (int64_t i = 0; i < m; ++i)
        items.push_back({.sequence = s, .kv_head = h, .begin = blocks * i / m, .end = blocks * (i + 1) / m});
  }
  return items;
}

template <class T, class Length>
std::vector<Item> cut(const Problem<T>& p, Length&& length, int64_t pieces) {
  return cut(p, length, pieces, p.heads.kv_heads());
}

/// run(item) for all, over the threads where the work is worth waking them. It returns the floating-point
/// operations done.
template <class T, class Item, class Run>
void for_each_item(const Problem<T>& p, const std::vector<Item>& items, Run&& run) {
  int64_t work = 0;
  for (const Sequence<T>& s : p.sequences) work += s.q_len * s.kv_len * p.heads.n_heads * (p.width + p.d_v());
  constexpr int64_t kWorthAThread = 1 << 16;  // multiply-adds: a few microseconds, as a fork costs
  std::vector<int64_t> flops(
      items.size());  // one place an item: a shared counter took 3 % of a batch of short sentences
  const auto run_at = [&](int64_t i) { flops[static_cast<size_t>(i)] = run(items[static_cast<size_t>(i)]); };
  const int64_t n = static_cast<int64_t>(items.size());
  if (work < kWorthAThread)
    for (int64_t i = 0; i < n; ++i) run_at(i);
  else
    parallel_items(n, run_at);
  count_flops(std::accumulate(flops.begin(), flops.end(), int64_t{0}));
}

/// The keys that the queries of block b may see.
template <class T>
KeyRange visible_to_block(const Problem<T>& p, const Sequence<T>& s, int64_t b) {
  const int64_t i = b * kTile, rows = std::min(kTile, s.q_len - i);
  return visible_keys(p.masks, s.index, s.past + i, rows, s.kv_len);
}

}  // namespace qkv::paths
