// Attention forward without the score matrix: Dao et al. 2022 (arXiv:2205.14135), algorithm 1, with the roles
// of the loops as in FlashAttention-2 (arXiv:2307.08691): queries outside, keys inside, one division at the
// end.

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
      values[t] =
          right_operand(*p_.kernels, p_.value(seq, item.kv_head, j0), cols, p_.d_v(), seq.v_stride, scratch);
    }
    s_ = scratch.take<A>(kTile * kTile);
    weights_ = scratch.take<T>(kTile * kTile);
    o_ = scratch.take<A>(kTile * p_.d_v());

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
    const auto& kernels = p_.kernels->attention;
    const int64_t rows = std::min(kTile, seq.q_len - i), d_v = p_.d_v();
    const bool softmax = p_.normalizer->blockwise() == Normalizer::Blockwise::kSoftmax;
    // A sink is a first key whose value is 0. A sigmoid's weights need no sum: they are divided by 1.
    A max[kTile], sum[kTile], correction[kTile];
    std::fill(max, max + rows, p_.sink ? p_.sink[h] : softmax ? -std::numeric_limits<A>::infinity() : A(0));
    std::fill(sum, sum + rows, p_.sink || !softmax ? A(1) : A(0));
    bool first = true;

    for (int64_t t = begin; t < end; ++t) {
      const TilePlace place = place_of(seq, h, i, rows, keys[t]);
      if (mask_.look(p_.masks, place) == Sight::kNone) continue;
      const int64_t cols = keys[t].cols;
      const A scale = score_tile(p_, seq, h, i, rows, keys[t], Scratch::current(), s_);
      const uint64_t* keep = dropout_.keep(p_, seq, h, i, rows, keys[t].j0);
      if (!softmax) {
        kernels.sigmoid_tile({.rows = rows,
                              .cols = cols,
                              .s = s_,
                              .stride = kTile,
                              .scale = scale,
                              .shift = static_cast<A>(p_.normalizer->shift()),
                              .visible = mask_.words(),
                              .keep = keep,
                              .p = weights_,
                              .p_stride = kTile});
        multiply(*p_.kernels, rows, weights_, kTile, values[t], o_, d_v, /*accumulate=*/!first);
        add_relative_values(p_, place, weights_, Scratch::current(), o_);
        flops += 2 * rows * cols * (p_.width + d_v);
        first = false;
        continue;
      }
      kernels.softmax_tile({.rows = rows,
                            .cols = cols,
                            .s = s_,
                            .stride = kTile,
                            .scale = scale,
                            .visible = mask_.words(),
                            .keep = keep,
                            .max = max,
                            .sum = sum,
                            .correction = correction,
                            .p = weights_,
                            .p_stride = kTile});
      if (!first) kernels.scale_rows(rows, d_v, correction, o_, d_v);
      multiply(*p_.kernels, rows, weights_, kTile, values[t], o_, d_v, /*accumulate=*/!first);
      add_relative_values(p_, place, weights_, Scratch::current(), o_);
      flops += 2 * rows * cols * (p_.width + d_v);
      first = false;
    }
    if (first) std::fill(o_, o_ + rows * d_v, A(0));

    A factor[kTile];  // a row that saw no key has sum 0 and stays zero
    for (int64_t r = 0; r < rows; ++r) factor[r] = sum[r] == 0 ? A(0) : p_.dropout_scale() / sum[r];
    kernels.store_rows(rows, d_v, factor, o_, d_v,
                       result_.out + (seq.q_begin + i) * p_.heads.n_heads * d_v + h * d_v,
                       p_.heads.n_heads * d_v);
    if (result_.lse) {
      A* lse = result_.lse + h * p_.n_q + seq.q_begin + i;
      for (int64_t r = 0; r < rows; ++r) lse[r] = max[r] + std::log(sum[r]);  // -inf + log 0 = -inf
    }
  }

 public:
  int64_t flops = 0;

 private:
  const Problem<T>& p_;
  const Result<T>& result_;
  TileMask mask_;
  TileDropout dropout_;
  A *s_ = nullptr, *o_ = nullptr;  // scores [kTile, kTile], output [kTile, d_v]
  T* weights_ = nullptr;           // [kTile, kTile]
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
