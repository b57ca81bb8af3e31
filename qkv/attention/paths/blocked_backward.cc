// Attention backward without the score matrix: Dao et al. 2022 (arXiv:2205.14135), algorithm 4. Each tile's
// weights are recomputed from q, k and the row's softmax (kernels::RowSoftmax). With W = softmax weights, P =
// W with dropout, for one head:
//
//   dV = P^T dO      dP = dO V^T      dS = W * (dropout(dP) - delta)      delta_i = dO_i . O_i
//   dQ = scale dS K  dK = scale dS^T Q                                    (docs/math/attention.md)
//
// Keys are the outer loop: a tile's dK and dV stay in the L1, dQ is added to in memory. One thread does a
// (sequence, key/value head): the query heads that share it add to the same dK and dV in order of head, then
// of query block, and a query's dQ is added to in order of key tile. Both orders stay the same where there
// are too few of these for the threads and keys and queries are done apart (seven products a tile instead of
// five), so that changes no bit.

#include "qkv/attention/paths/items.h"

namespace qkv::paths {
namespace {

enum class Wants { kAll, kKeys, kQueries };

// What is needed of one block of queries of one head, whichever tile of keys it meets.
template <class T>
struct QueryBlock {
  using A = accumulator_t<T>;
  int64_t head = 0, i = 0, rows = 0;
  int64_t first_tile = 0, end_tile = 0;  // the key tiles it sees
  const T* dout = nullptr;               // [rows, d_v], rows n_heads * d_v apart
  kernels::RowSoftmax<A> softmax;        // [rows]
  A* delta = nullptr;                    // [rows]
  A* dq = nullptr;                       // [rows, width], the sum so far
  A* d_relative_q = nullptr;             // likewise; dq itself where the relative keys meet q
  RightOperand<T> q_right, dout_right;   // q and dout as right operands
};

template <class T>
class BlockedBackward {
 public:
  using A = accumulator_t<T>;
  BlockedBackward(const Problem<T>& p, const Gradients<T>& g, Wants wants)
      : p_(p),
        g_(g),
        keys_(wants != Wants::kQueries),
        queries_(wants != Wants::kKeys && g.dq != nullptr),
        passes_gradients_(p.passes_gradients()),
        out_stride_(p.heads.n_heads * p.d_v()) {}

  // kAll, kKeys: the item's key tiles, all queries. kQueries: the item's query blocks, all keys.
  void run(const Item& item, Wants wants) {
    const Sequence<T>& seq = p_.sequences[item.sequence];
    scratch_ = &Scratch::fresh();
    const int64_t all_blocks = blocks_of(seq.q_len), group = p_.heads.group();
    const int64_t block_begin = wants == Wants::kQueries ? item.begin : 0;
    const int64_t block_end = wants == Wants::kQueries ? item.end : all_blocks;
    const int64_t tile_begin = wants == Wants::kQueries ? 0 : item.begin;
    const int64_t tile_end = wants == Wants::kQueries ? blocks_of(seq.kv_len) : item.end;

    const int64_t n = group * (block_end - block_begin);
    auto* blocks = scratch_->take<QueryBlock<T>>(n);
    QueryBlock<T>* next = blocks;
    for (int64_t h = item.kv_head * group; h < (item.kv_head + 1) * group; ++h)
      for (int64_t b = block_begin; b < block_end; ++b) *next++ = query_block(seq, h, b);
    s_ = scratch_->take<A>(kTile * kTile);
    dp_ = scratch_->take<A>(kTile * kTile);
    weights_ = scratch_->take<T>(kTile * kTile);
    ds_ = scratch_->take<T>(kTile * kTile);
    flipped_ = scratch_->take<T>(kTile * kTile);
    dk_ = scratch_->take<A>(kTile * p_.width);
    dv_ = scratch_->take<A>(kTile * p_.d_v());
    sequence_ = item.sequence;
    for (size_t e = 0; e < p_.edits.size(); ++e)
      saved_.push_back(p_.edits[e]->backward_reads_scores() ? scratch_->take<A>(kTile * kTile) : nullptr);
    if (g_.d_normalizer.sums)
      for (const QueryBlock<T>& block : std::span(blocks, static_cast<size_t>(n))) sink_pass(block);

    for (int64_t t = tile_begin; t < tile_end; ++t)
      key_tile_pass(seq, item.kv_head, t, {blocks, static_cast<size_t>(n)});
    if (queries_)
      for (const QueryBlock<T>& block : std::span(blocks, static_cast<size_t>(n))) {
        const int64_t at = ((seq.q_begin + block.i) * p_.heads.n_heads + block.head) * p_.width,
                      ld = p_.heads.n_heads * p_.width;
        store_rows(p_.kernels->attention, block.rows, p_.width, p_.scale, block.dq, p_.width, g_.dq + at, ld);
        if (g_.d_relative_q)
          store_rows(p_.kernels->attention, block.rows, p_.width, p_.scale, block.d_relative_q, p_.width,
                     g_.d_relative_q + at, ld);
      }
  }

  int64_t flops = 0;

 private:
  QueryBlock<T> query_block(const Sequence<T>& seq, int64_t h, int64_t b) {
    QueryBlock<T> block{.head = h, .i = b * kTile, .rows = std::min(kTile, seq.q_len - b * kTile)};
    const int64_t row = seq.q_begin + block.i, d_v = p_.d_v();
    const KeyRange range = visible_to_block(p_, seq, b);
    if (range.begin < range.end) {
      block.first_tile = range.begin / kTile;
      block.end_tile = blocks_of(range.end);
    }
    block.dout = g_.dout + row * out_stride_ + h * d_v;
    block.softmax = g_.rows.from(h * p_.n_q + row);
    block.delta = scratch_->take<A>(block.rows);
    p_.kernels->attention.row_dots(block.rows, d_v, block.dout, out_stride_,
                                   g_.out + row * out_stride_ + h * d_v, out_stride_, block.delta);
    if (queries_) {
      block.dq = scratch_->take<A>(block.rows * p_.width);
      std::fill(block.dq, block.dq + block.rows * p_.width, A(0));
      block.d_relative_q = block.dq;
      if (g_.d_relative_q) {
        block.d_relative_q = scratch_->take<A>(block.rows * p_.width);
        std::fill(block.d_relative_q, block.d_relative_q + block.rows * p_.width, A(0));
      }
    }
    if (keys_) {
      block.dout_right = right_operand(*p_.kernels, block.dout, block.rows, d_v, out_stride_, *scratch_);
      if (p_.kind == Pairing::Kind::kDot)
        block.q_right = right_operand(*p_.kernels, p_.query(seq, h, block.i), block.rows, p_.width,
                                      p_.q_stride, *scratch_);
    }
    return block;
  }

  // Everything that involves key tile t.
  void key_tile_pass(const Sequence<T>& seq, int64_t kv_head, int64_t t,
                     std::span<const QueryBlock<T>> blocks) {
    const Scratch::Frame frame(*scratch_);
    const int64_t j0 = t * kTile, cols = std::min(kTile, seq.kv_len - j0), d_v = p_.d_v(),
                  kv_heads = p_.heads.kv_heads();
    const KeyTile<T> keys = key_tile(p_, seq, kv_head, j0, cols, *scratch_);
    const void* v_flipped =
        transposed_operand(*p_.kernels, p_.value(seq, kv_head, j0), cols, d_v, seq.v_stride, *scratch_);
    RightOperand<T> k_right;
    if (queries_ && p_.kind == Pairing::Kind::kDot)
      k_right = right_operand(*p_.kernels, keys.k, cols, p_.width, seq.k_stride, *scratch_);
    std::fill(dk_, dk_ + cols * p_.width, A(0));
    std::fill(dv_, dv_ + cols * d_v, A(0));

    for (const QueryBlock<T>& block : blocks)
      if (block.first_tile <= t && t < block.end_tile) tile_pass(seq, keys, v_flipped, k_right, block);

    if (!keys_) return;
    if (g_.dk)
      store_rows(p_.kernels->attention, cols, p_.width, p_.scale, dk_, p_.width,
                 g_.dk + ((seq.kv_begin + j0) * kv_heads + kv_head) * p_.width, kv_heads * p_.width);
    store_rows(p_.kernels->attention, cols, d_v, p_.dropout_scale(), dv_, d_v,
               g_.dv + ((seq.kv_begin + j0) * kv_heads + kv_head) * d_v, kv_heads * d_v);
  }

  // A sink is a key whose value is 0, seen by all: its score's gradient is w (0 - delta).
  void sink_pass(const QueryBlock<T>& block) {
    A* gradient = g_.d_normalizer.of(sequence_, block.head);
    for (int64_t r = 0; r < block.rows; ++r)
      *gradient -=
          std::exp(p_.sink[block.head] - block.softmax.max[r]) * block.softmax.share[r] * block.delta[r];
  }

  // dL/d(edited scores) in dp_ becomes dL/d(scores), and is rounded into ds_.
  void edits_backward(const TilePlace& place) {
    for (size_t e = p_.edits.size(); e-- > 0;)
      if (!p_.edits[e]->passes_gradients())
        p_.edits[e]->backward(edited_tile(p_, place, saved_[e]), dp_,
                              g_.d_edits[e].of(sequence_, place.head));
    store_rows(p_.kernels->attention, place.rows, place.cols, A(1), dp_, kTile, ds_, kTile);
  }

  // From ds_ and weights_.
  void relative_gradients(const Sequence<T>& seq, const TilePlace& place, const QueryBlock<T>& block) {
    const Scratch::Frame frame(*scratch_);
    if (p_.relative_keys.rows) {
      RelativeTile<T> tile(p_, p_.relative_keys, p_.width, place, *scratch_);
      const T* skewed = tile.skew(ds_);
      tile.add_to_rows(skewed, block.d_relative_q);
      tile.add_to_vectors(skewed, p_.relative_query(seq, block.head, block.i), p_.relative_keys.q_stride,
                          g_.d_relative_keys.of(sequence_, block.head));
    }
    if (p_.relative_values.rows) {
      RelativeTile<T> tile(p_, p_.relative_values, p_.d_v(), place, *scratch_);
      tile.add_to_vectors(tile.skew(weights_), block.dout, out_stride_,
                          g_.d_relative_values.of(sequence_, block.head));
    }
  }

  // One block of queries against one tile of keys.
  void tile_pass(const Sequence<T>& seq, const KeyTile<T>& keys, const void* v_flipped,
                 const RightOperand<T>& k_right, const QueryBlock<T>& block) {
    const auto& kernels = *p_.kernels;
    const int64_t rows = block.rows, cols = keys.cols, d_v = p_.d_v(), width = p_.width;
    const TilePlace place = place_of(seq, block.head, block.i, rows, keys);
    if (mask_.look(p_.masks, place) == Sight::kNone) return;
    const A scale = score_tile(p_, seq, block.head, block.i, rows, keys, *scratch_, s_, saved_.data());
    const uint64_t* keep = dropout_.keep(p_, seq, block.head, block.i, rows, keys.j0);
    A* exact_ds = passes_gradients_ ? nullptr : dp_;
    multiply(kernels, rows, cols, d_v, block.dout, out_stride_, v_flipped, dp_, kTile, false);
    if (p_.relative_values.rows) {
      const Scratch::Frame frame(*scratch_);
      RelativeTile<T>(p_, p_.relative_values, d_v, place, *scratch_)
          .add_products(block.dout, out_stride_, dp_);
    }
    if (p_.normalizer->blockwise() == Normalizer::Blockwise::kSoftmax)
      kernels.attention.softmax_tile_backward({.rows = rows,
                                               .cols = cols,
                                               .s = s_,
                                               .dp = dp_,
                                               .stride = kTile,
                                               .scale = scale,
                                               .visible = mask_.words(),
                                               .keep = keep,
                                               .keep_scale = p_.dropout_scale(),
                                               .max = block.softmax.max,
                                               .share = block.softmax.share,
                                               .delta = block.delta,
                                               .p = weights_,
                                               .ds = ds_,
                                               .p_stride = kTile,
                                               .exact_ds = exact_ds});
    else
      kernels.attention.sigmoid_tile_backward({.rows = rows,
                                               .cols = cols,
                                               .s = s_,
                                               .dp = dp_,
                                               .stride = kTile,
                                               .scale = scale,
                                               .shift = static_cast<A>(p_.normalizer->shift()),
                                               .visible = mask_.words(),
                                               .keep = keep,
                                               .keep_scale = p_.dropout_scale(),
                                               .p = weights_,
                                               .ds = ds_,
                                               .p_stride = kTile,
                                               .exact_ds = exact_ds});
    if (exact_ds) edits_backward(place);
    relative_gradients(seq, place, block);
    if (keys_) {
      kernels.gemm.transpose(rows, cols, weights_, kTile, flipped_, kTile);
      multiply(kernels, cols, flipped_, kTile, block.dout_right, dv_, d_v, true);
    }
    flops += 2 * rows * cols * (2 * d_v + 3 * width);
    if (p_.kind == Pairing::Kind::kTanhSum) {
      kernels.attention.additive_tile_backward(rows, cols, width, p_.query(seq, block.head, block.i),
                                               p_.q_stride, keys.k, seq.k_stride,
                                               p_.tanh_v + block.head * width, ds_, kTile, block.dq, width,
                                               dk_, width, g_.d_tanh_v.of(sequence_, block.head));
    } else if (p_.kind == Pairing::Kind::kDot) {
      if (keys_) {
        kernels.gemm.transpose(rows, cols, ds_, kTile, flipped_, kTile);
        multiply(kernels, cols, flipped_, kTile, block.q_right, dk_, width, true);
      }
      if (queries_) multiply(kernels, rows, ds_, kTile, k_right, block.dq, width, true);
    }
  }

  const Problem<T>& p_;
  const Gradients<T>& g_;
  const bool keys_, queries_, passes_gradients_;
  const int64_t out_stride_;
  Scratch* scratch_ = nullptr;
  TileMask mask_;
  TileDropout dropout_;
  std::vector<A*> saved_;  // a tile of scores for each edit that wants them again
  int64_t sequence_ = 0;
  A *s_ = nullptr, *dp_ = nullptr;  // [kTile, kTile]: scores; gradient of the weights
  T *weights_ = nullptr, *ds_ = nullptr,
    *flipped_ = nullptr;             // [kTile, kTile]; flipped: one of the others, transposed
  A *dk_ = nullptr, *dv_ = nullptr;  // [kTile, width], [kTile, d_v]
};

template <class T>
void run_items(const Problem<T>& p, const Gradients<T>& g, Wants wants, const std::vector<Item>& items) {
  for_each_item(p, items, [&](const Item& item) {
    BlockedBackward<T> backward(p, g, wants);
    backward.run(item, wants);
    return backward.flops;
  });
}

}  // namespace

template <class T>
void blocked_backward(const Problem<T>& p, const Gradients<T>& g) {
  const auto q_len = [](const Sequence<T>& s) { return s.q_len; };
  const auto kv_len = [](const Sequence<T>& s) { return s.kv_len; };
  const int64_t n = static_cast<int64_t>(p.sequences.size()) * p.heads.kv_heads();
  // Gradients that a head's tiles all add to are one thread's.
  const bool edits_sum = std::any_of(p.edits.begin(), p.edits.end(),
                                     [](const Edit* e) { return e->parameter() || !e->inputs().empty(); });
  const bool sums_by_head = p.kind == Pairing::Kind::kTanhSum || edits_sum || g.d_normalizer.sums ||
                            p.relative_keys.rows || p.relative_values.rows;
  if (n >= threads() || sums_by_head || p.kind == Pairing::Kind::kUniform) {
    run_items(p, g, Wants::kAll, cut(p, kv_len, /*pieces=*/1));
    return;
  }
  const int64_t pieces = ceil_div(4 * threads(), std::max<int64_t>(1, n));
  run_items(p, g, Wants::kKeys, cut(p, kv_len, pieces));
  run_items(p, g, Wants::kQueries, cut(p, q_len, pieces));
}

template void blocked_backward<double>(const Problem<double>&, const Gradients<double>&);
template void blocked_backward<float>(const Problem<float>&, const Gradients<float>&);
template void blocked_backward<bfloat16>(const Problem<bfloat16>&, const Gradients<bfloat16>&);

}  // namespace qkv::paths
