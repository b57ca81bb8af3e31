// Attention of few queries to many keys, as in a decode step: reading keys and values is what it costs. So
// each tile of them is read once, for all rows of all heads that share it, and sequences too few for the
// threads are cut along their keys, into splits whose sums are merged afterwards ("Flash-Decoding", Dao et
// al. 2023; the split softmax in docs/math/decoding.md). Splits lie at multiples of kSplit and are the
// blocked path's too: same sums, same order, same bits.

#include "qkv/attention/paths/gather.h"
#include "qkv/attention/paths/items.h"

namespace qkv::paths {
namespace {

// A block of at most kTile query rows of one sequence, for all heads, and where its splits' sums lie: for
// each split [n_heads * rows] maxima, as many sums, and [n_heads * rows, d_v]; row i of head h is row h *
// rows + i.
struct QueryBlock {
  int64_t sequence = 0, block = 0, rows = 0;
  KeyRange keys;  // that any of them may see
  int64_t first_split = 0, n_splits = 0;
  int64_t offset = 0;
};

// Key/value heads begin .. end - 1 of one split of one query block.
struct SplitItem {
  int64_t block = 0, split = 0, begin = 0, end = 0;
};

template <class T>
class Decode {
 public:
  using A = accumulator_t<T>;
  Decode(const Problem<T>& p, const Result<T>& result) : p_(p), result_(result) {
    int64_t size = 0;
    for (int64_t s = 0; s < static_cast<int64_t>(p.sequences.size()); ++s)
      for (int64_t b = 0; b < blocks_of(p.sequences[s].q_len); ++b) {
        const KeyRange keys = visible_to_block(p, p.sequences[s], b);
        const int64_t first = keys.begin / kSplit, rows = std::min(kTile, p.sequences[s].q_len - b * kTile);
        const int64_t n = std::max<int64_t>(1, ceil_div(keys.end, kSplit) - first);
        blocks_.push_back({.sequence = s,
                           .block = b,
                           .rows = rows,
                           .keys = keys,
                           .first_split = first,
                           .n_splits = n,
                           .offset = size});
        size += n * split_size(rows);
        n_splits_ += n;
      }
    if (static_cast<int64_t>(memory().size()) < size) memory().resize(static_cast<size_t>(size));
    sums_ = memory().data();
  }

  void run() {
    const int64_t kv_heads = p_.heads.kv_heads();
    // All heads of a split in one item read whole rows; where that gives too few items, heads go apart.
    const int64_t pieces = std::clamp<int64_t>(ceil_div(4 * threads(), std::max<int64_t>(1, n_splits_)), 1,
                                               threads() == 1 ? 1 : kv_heads);
    std::vector<SplitItem> splits, merges;
    for (int64_t b = 0; b < static_cast<int64_t>(blocks_.size()); ++b)
      for (int64_t m = 0; m < pieces; ++m) {
        const int64_t begin = kv_heads * m / pieces, end = kv_heads * (m + 1) / pieces;
        for (int64_t split = 0; split < blocks_[b].n_splits; ++split)
          splits.push_back({b, split, begin, end});
        if (blocks_[b].n_splits > 1) merges.push_back({b, 0, begin, end});
      }
    for_each_item(p_, splits, [&](const SplitItem& item) {
      const int64_t flops = sum_split(item);
      if (blocks_[item.block].n_splits == 1) finish(item);
      return flops;
    });
    if (merges.empty()) return;
    for_each_item(p_, merges, [&](const SplitItem& item) {
      const QueryBlock& block = blocks_[item.block];
      const int64_t first = item.begin * p_.heads.group() * block.rows, n = rows_of(item);
      for (int64_t split = 1; split < block.n_splits; ++split)
        p_.kernels->attention.merge_rows(n, p_.d_v(), from_row(sums_of(block, split), first, p_.d_v()),
                                         from_row(sums_of(block, 0), first, p_.d_v()));
      finish(item);
      return int64_t{0};
    });
  }

 private:
  // Kept from call to call: fresh pages would cost more than the sums.
  static std::vector<A>& memory() {
    thread_local std::vector<A> sums;
    return sums;
  }
  int64_t split_size(int64_t rows) const { return p_.heads.n_heads * rows * (2 + p_.d_v()); }
  Gathered<A> sums_of(const QueryBlock& block, int64_t split) const {
    const int64_t rows = p_.heads.n_heads * block.rows;
    A* at = sums_ + block.offset + split * split_size(block.rows);
    return {.max = at, .sum = at + rows, .o = at + 2 * rows};
  }
  int64_t rows_of(const SplitItem& item) const {
    return (item.end - item.begin) * p_.heads.group() * blocks_[item.block].rows;
  }

  void finish(const SplitItem& item) const {
    const QueryBlock& block = blocks_[item.block];
    const int64_t group = p_.heads.group();
    for (int64_t h = item.begin * group; h < item.end * group; ++h)
      finish_rows(p_, p_.sequences[block.sequence], h, block.block * kTile, block.rows,
                  from_row(sums_of(block, 0), h * block.rows, p_.d_v()), result_);
  }

  // The prepared queries of all heads of one key/value head, [group * rows, width], ld apart.
  const T* queries_of(const QueryBlock& block, int64_t kv_head, int64_t& ld, Scratch& scratch) const {
    const Sequence<T>& seq = p_.sequences[block.sequence];
    const int64_t group = p_.heads.group(), h = kv_head * group, i = block.block * kTile;
    ld = group == 1 ? p_.q_stride : p_.width;
    if (group == 1 || block.rows == 1) return p_.query(seq, h, i);
    T* q = scratch.take<T>(group * block.rows * p_.width);
    for (int64_t g = 0; g < group; ++g)
      for (int64_t r = 0; r < block.rows; ++r)
        std::copy_n(p_.query(seq, h + g, i + r), p_.width, q + (g * block.rows + r) * p_.width);
    return q;
  }

  // A product as it lies gives an infinity or NaN among the values to every row, whether it sees it or not.
  // Then the sums show it, and that head is summed again with packed tiles, which know better.
  int64_t sum_split(const SplitItem& item) const {
    const auto& gemm = p_.kernels->gemm;
    if (!gemm.run_unpacked || p_.width > kernels::kUnpackedDepth) return sum_split(item, false);
    int64_t flops = sum_split(item, true);
    const QueryBlock& block = blocks_[item.block];
    const int64_t rows = p_.heads.group() * block.rows;
    for (int64_t g = item.begin; g < item.end; ++g) {
      const A* o = sums_of(block, item.split).o + g * rows * p_.d_v();
      if (!p_.exact->all_finite(rows, p_.d_v(), o, p_.d_v()))
        flops += sum_split({item.block, item.split, g, g + 1}, false);
    }
    return flops;
  }

  int64_t sum_split(const SplitItem& item, bool as_it_lies) const {
    const QueryBlock& block = blocks_[item.block];
    const Sequence<T>& seq = p_.sequences[block.sequence];
    const int64_t n = item.end - item.begin, rows = p_.heads.group() * block.rows;
    Scratch& scratch = Scratch::fresh();
    A *s = scratch.take<A>(rows * kTile), *correction = scratch.take<A>(rows);
    T* weights = scratch.take<T>(rows * kTile);
    Words words{scratch.take<uint64_t>(rows), scratch.take<uint64_t>(rows)};
    auto* sums = scratch.take<SplitSums<T>>(n);
    auto* q = scratch.take<const T*>(n);
    int64_t ldq = 0;
    for (int64_t g = 0; g < n; ++g) {
      sums[g] =
          SplitSums<T>(p_, rows, from_row(sums_of(block, item.split), (item.begin + g) * rows, p_.d_v()),
                       weights, correction);
      q[g] = queries_of(block, item.begin + g, ldq, scratch);
    }
    const int64_t begin =
                      std::max((block.first_split + item.split) * kSplit, block.keys.begin / kTile * kTile),
                  end = std::min((block.first_split + item.split + 1) * kSplit, block.keys.end);
    int64_t flops = 0;
    for (int64_t j0 = begin; j0 < end; j0 += kTile)
      for (int64_t g = 0; g < n; ++g) {
        const Scratch::Frame frame(scratch);
        const int64_t cols = std::min(kTile, end - j0), kv_head = item.begin + g,
                      h0 = kv_head * p_.heads.group();
        if (!look(block, seq, h0, j0, cols, words)) continue;
        KeyTile<T> keys;
        RightOperand<T> values;
        if (as_it_lies) {
          const TileRows<T> k = key_rows(p_, seq, kv_head, j0, cols, scratch),
                            v = value_rows(p_, seq, kv_head, j0, cols, scratch);
          keys = {.j0 = j0, .cols = cols, .k = k.x, .k_stride = k.ld};
          values = {.x = v.x, .rows = cols, .cols = p_.d_v(), .ld = v.ld};
          // A part of the next tile's whole rows with each head. What is widened is not fetched.
          if (const NextTile next = after(item, j0, end);
              next.rows > 0 && (!next.seq->cached || next.seq->cached->stored == Stored::kPlain)) {
            const int64_t first = next.rows * g / n, rows_ahead = next.rows * (g + 1) / n - first;
            const auto ahead = [&](const TileRows<T>& tile, int64_t d) -> kernels::Ahead {
              constexpr int64_t kBytes = sizeof(T);
              return {tile.x + first * tile.ld, rows_ahead, n * d * kBytes, tile.ld * kBytes};
            };
            keys.ahead = ahead(key_rows(p_, *next.seq, item.begin, next.j0, 0, scratch), p_.width);
            values.ahead = ahead(value_rows(p_, *next.seq, item.begin, next.j0, 0, scratch), p_.d_v());
          }
        } else {
          keys = key_tile(p_, seq, kv_head, j0, cols, scratch);
          values = value_tile(p_, seq, kv_head, j0, cols, scratch);
        }
        const A scale = score(block, seq, h0, keys, q[g], ldq, words, scratch, s);
        sums[g].add({.rows = rows,
                     .cols = cols,
                     .s = s,
                     .scale = scale,
                     .visible = p_.masks.empty() ? nullptr : words.visible,
                     .keep = p_.dropout.threshold ? words.keep : nullptr},
                    values);
        for (int64_t r = 0; r < p_.heads.group() && p_.relative_values.rows; ++r)
          sums[g].add_relative(place_of(seq, h0 + r, block.block * kTile, block.rows, keys), r * block.rows);
        flops += 2 * rows * cols * (p_.width + p_.d_v());
      }
    for (int64_t g = 0; g < n; ++g) sums[g].end();
    return flops;
  }

  struct Words {
    uint64_t *visible, *keep;
  };

  // What this thread reads after the tile at j0: the next of the same keys, or the first of the block that is
  // probably its next, where the threads take blocks in turn.
  struct NextTile {
    const Sequence<T>* seq = nullptr;
    int64_t j0 = 0, rows = 0;
  };
  NextTile after(const SplitItem& item, int64_t j0, int64_t end) const {
    const auto tile = [&](const QueryBlock& block, int64_t at, int64_t to) -> NextTile {
      return {&p_.sequences[block.sequence], at, std::min(kTile, to - at)};
    };
    if (j0 + kTile < end) return tile(blocks_[item.block], j0 + kTile, end);
    const int64_t next = item.block + threads();
    if (next >= static_cast<int64_t>(blocks_.size())) return {};
    const QueryBlock& block = blocks_[next];
    return tile(block, block.keys.begin / kTile * kTile, block.keys.end);
  }

  // Scores of the rows of heads h0 .. that share a tile of keys, and their dropout. Returns the scale still
  // to be applied.
  A score(const QueryBlock& block, const Sequence<T>& seq, int64_t h0, const KeyTile<T>& keys, const T* q,
          int64_t ldq, Words words, Scratch& scratch, A* s) const {
    const int64_t group = p_.heads.group(), rows = block.rows, i = block.block * kTile;
    if (p_.kind != Pairing::Kind::kTanhSum) pair_tile(p_, h0, group * rows, q, ldq, keys, s);
    A scale = p_.scale;
    for (int64_t g = 0; g < group; ++g) {
      A* s_g = s + g * rows * kTile;
      if (p_.kind == Pairing::Kind::kTanhSum) pair_tile(p_, h0 + g, rows, q + g * rows * ldq, ldq, keys, s_g);
      scale = edit_tile(p_, seq, h0 + g, i, rows, keys, scratch, s_g);
      if (p_.dropout.threshold) {
        TileDropout dropout;
        std::copy_n(dropout.keep(p_, seq, h0 + g, i, rows, keys.j0), rows, words.keep + g * rows);
      }
    }
    return scale;
  }

  // What the masks show of a tile to the rows of all heads that share it. False: nothing.
  bool look(const QueryBlock& block, const Sequence<T>& seq, int64_t h0, int64_t j0, int64_t cols,
            Words words) const {
    if (p_.masks.empty()) return true;
    bool any = false;
    for (int64_t g = 0; g < p_.heads.group(); ++g) {
      TileMask mask;
      uint64_t* visible = words.visible + g * block.rows;
      const Sight sight = mask.look(p_.masks, {.batch = seq.index,
                                               .head = h0 + g,
                                               .i0 = seq.past + block.block * kTile,
                                               .j0 = j0,
                                               .rows = block.rows,
                                               .cols = cols});
      any = any || sight != Sight::kNone;
      if (sight == Sight::kSome)
        std::copy_n(mask.words(), block.rows, visible);
      else
        std::fill_n(visible, block.rows, sight == Sight::kAll ? ~uint64_t{0} : 0);
    }
    return any;
  }

  const Problem<T>& p_;
  const Result<T>& result_;
  std::vector<QueryBlock> blocks_;
  int64_t n_splits_ = 0;
  A* sums_ = nullptr;
};

}  // namespace

template <class T>
void decode_forward(const Problem<T>& p, const Result<T>& result) {
  Decode<T>(p, result).run();
}

template void decode_forward<double>(const Problem<double>&, const Result<double>&);
template void decode_forward<float>(const Problem<float>&, const Result<float>&);
template void decode_forward<bfloat16>(const Problem<bfloat16>&, const Result<bfloat16>&);

}  // namespace qkv::paths
