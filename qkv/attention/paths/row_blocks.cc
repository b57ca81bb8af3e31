// Attention on whole rows of scores, 64 queries at a time: for normalizers that need a row at once, and for
// talking heads, which need a row of every head at once. With X a head's scores, for a block of queries:
//
//   X_h = scale Q_h K_h^T      S_h = edit(sum_g X_g Pl_gh), masked      W_h = normalizer(S_h)
//   U_h = sum_g W_g Pw_gh      O_h = dropout(U_h) V_h
//
// and S = X edited and masked, U = W where heads do not talk. Backward computes X .. U of a block again, then
//
//   dV_h = dropout(U_h)^T dO_h      dU_h = dropout(dO_h V_h^T)      dW_h = sum_g Pw_hg dU_g      dX_h = sum_g
//   Pl_hg dS_g dPw_gh = sum_ij W_g dU_h        dPl_gh = sum_ij X_g dS_h        dQ_h = scale dX_h K_h dK_h =
//   scale dX_h^T Q_h
//
// Scratch: 64 rows of kv_len numbers for each head that is worked on together. No sum is split by thread:
// forward, a thread has whole blocks; backward, a sequence's heads that talk go from step to step together,
// and within a step each key/value head, or each range of rows, is one thread's.

#include "qkv/attention/paths/items.h"

namespace qkv::paths {
namespace {

// What all blocks of queries need of one key/value head, and the memory of whoever works on it.
template <class T>
struct KvHead {
  using A = accumulator_t<T>;
  Scratch scratch;
  TileMask mask;
  TileDropout dropout;
  KeyTile<T>* keys = nullptr;                             // of each tile
  RightOperand<T>*k_right = nullptr, *v_right = nullptr;  // K in backward, V in forward
  const void** v_flipped = nullptr;                       // V^T, in backward
  A *dk = nullptr, *dv = nullptr;                         // [kv_len, width], [kv_len, d_v]
  A *tile = nullptr, *o = nullptr, *dq = nullptr,
    *d_relative_q = nullptr;                 // [kTile, kTile], [kTile, d_v], [kTile, width] twice
  T *rounded = nullptr, *flipped = nullptr;  // [kTile, kTile]
};

// Queries i .. i + rows - 1 and the keys they may see.
struct Block {
  int64_t i = 0, rows = 0;
  int64_t j0 = 0, cols = 0;  // keys j0 .. j0 + cols - 1, j0 at a tile's begin
  int64_t h_begin = 0, h_end = 0;
};

// One key/value head of a sequence, or all of them where heads talk.
template <class T>
class RowBlocks {
 public:
  using A = accumulator_t<T>;

  // The keys that the item's query blocks may see are packed. gradients null: forward.
  RowBlocks(const Problem<T>& p, const Item& item, const Gradients<T>* gradients)
      : p_(p),
        unedited_(p),
        index_(item.sequence),
        seq_(p.sequences[static_cast<size_t>(item.sequence)]),
        g_(gradients),
        kv_begin_(item.kv_head),
        kv_heads_(static_cast<size_t>(p.talks() ? p.heads.kv_heads() : 1)),
        threaded_(g_ && kv_heads_.size() > 1 &&
                  std::min(kTile, seq_.q_len) * seq_.kv_len * p.heads.n_heads >= kWorthAThread) {
    unedited_.edits.clear();
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
    each_part([&](int64_t part) { prepare(kv_heads_[static_cast<size_t>(part)], kv_begin_ + part); });

    const int64_t heads = p.talks() ? p.heads.n_heads : 1, n = heads * head_stride_;
    x_ = scratch_.take<A>(n);
    w_ = p.mix_scores ? scratch_.take<A>(n) : x_;
    u_ = p.mix_weights ? scratch_.take<A>(n) : w_;
    sight_ = scratch_.take<Sight>(heads * n_tiles_);
    words_ = scratch_.take<uint64_t>(heads * n_tiles_ * kTile);
    max_ = scratch_.take<A>(heads * n_tiles_ * kTile);
    if (g_) {
      dw_ = scratch_.take<A>(n);
      du_ = p.mix_weights ? scratch_.take<A>(n) : dw_;
      dx_ = p.mix_scores ? scratch_.take<A>(n) : dw_;
      for (const Edit* edit : p.edits)
        edited_.push_back(edit->backward_reads_scores() ? scratch_.take<A>(n) : nullptr);
      d_mix_scores_ = mixing_sums(p.mix_scores);
      d_mix_weights_ = mixing_sums(p.mix_weights);
    }
    mix_scores_ = transposed(p.mix_scores);
    mix_weights_ = transposed(p.mix_weights);
  }

  // Block b of heads h_begin .. h_end - 1.
  void forward(const Result<T>& result, int64_t b, int64_t h_begin, int64_t h_end) {
    const Block block = block_at(b, h_begin, h_end);
    weigh(block, result.lse);
    pairs_ += block.rows * block.cols * (h_end - h_begin);
    each_head(block, [&](KvHead<T>& kv, int64_t h) { output(kv, block, h, result.out); });
  }

  void backward(int64_t b, int64_t h_begin, int64_t h_end) {
    const Block block = block_at(b, h_begin, h_end);
    weigh(block, nullptr);
    pairs_ += block.rows * block.cols * (h_end - h_begin);
    each_head(block, [&](KvHead<T>& kv, int64_t h) { value_gradients(kv, block, h); });
    if (p_.mix_weights) {
      silence(block, du_, w_);
      add_mixing_gradient(block, w_, du_, d_mix_weights_);
      mix(block, p_.mix_weights, du_, dw_);
    }
    each_head(block, [&](KvHead<T>&, int64_t h) { score_gradients(block, h); });
    if (p_.mix_scores) {
      silence(block, x_, dw_);
      add_mixing_gradient(block, x_, dw_, d_mix_scores_);
      mix(block, p_.mix_scores, dw_, dx_);
    }
    each_head(block, [&](KvHead<T>& kv, int64_t h) { pairing_gradients(kv, block, h); });
  }

  // The sums over all blocks.
  void store_gradients() {
    each_part([&](int64_t part) {
      const KvHead<T>& kv = kv_heads_[static_cast<size_t>(part)];
      const int64_t heads = p_.heads.kv_heads(), kv_head = kv_begin_ + part;
      for (int64_t j = 0; j < seq_.kv_len; j += kTile) {
        const int64_t rows = std::min(kTile, seq_.kv_len - j), at = (seq_.kv_begin + j) * heads + kv_head;
        if (g_->dk)
          store(rows, p_.width, p_.scale, kv.dk + j * p_.width, g_->dk + at * p_.width, heads * p_.width);
        store(rows, p_.d_v(), p_.dropout_scale(), kv.dv + j * p_.d_v(), g_->dv + at * p_.d_v(),
              heads * p_.d_v());
      }
    });
    add_mixing_parts(d_mix_scores_, g_->d_mix_scores);
    add_mixing_parts(d_mix_weights_, g_->d_mix_weights);
  }

  // What multiplies the values, before dropout.
  void weights(int64_t b, int64_t h, float* const* attn_weights) {
    const Block block = p_.talks() ? block_at(b, 0, p_.heads.n_heads) : block_at(b, h, h + 1);
    weigh(block, nullptr);
    for (int64_t r = 0; r < block.rows; ++r)
      for (int64_t c = 0; c < block.cols; ++c)
        attn_weights[r][block.j0 + c] = static_cast<float>(row(u_, block, h, r)[c]);
  }

  // What forward() or backward() did: products, a multiply-add counts two.
  int64_t flops() const {
    const int64_t mixed = p_.heads.n_heads * ((p_.mix_scores != nullptr) + (p_.mix_weights != nullptr));
    return 2 * pairs_ * (g_ ? 3 * p_.width + 2 * p_.d_v() + 3 * mixed : p_.width + p_.d_v() + mixed);
  }

 private:
  // f(part) for each key/value head; in backward over the threads, where that is worth it and this is not one
  // item of several already.
  template <class F>
  void each_part(F&& f) {
    const int64_t n = static_cast<int64_t>(kv_heads_.size());
    if (threaded_)
      parallel_items(n, f);
    else
      for (int64_t part = 0; part < n; ++part) f(part);
  }
  // f(kv, h) for the block's heads; those of one key/value head in order.
  template <class F>
  void each_head(const Block& block, F&& f) {
    const int64_t group = p_.heads.group();
    each_part([&](int64_t part) {
      const int64_t first = (kv_begin_ + part) * group;
      for (int64_t h = std::max(first, block.h_begin); h < std::min(first + group, block.h_end); ++h)
        f(kv_heads_[static_cast<size_t>(part)], h);
    });
  }
  // f(part, r) for the block's rows. The parts depend on the problem's shape alone.
  template <class F>
  void each_row(const Block& block, F&& f) {
    const int64_t parts = static_cast<int64_t>(kv_heads_.size());
    each_part([&](int64_t part) {
      for (int64_t r = block.rows * part / parts; r < block.rows * (part + 1) / parts; ++r) f(part, r);
    });
  }
  // f(c, place) for the block's tiles in which any of its heads sees anything; c is the first column in the
  // rows.
  template <class F>
  void each_tile(const Block& block, int64_t h, F&& f) const {
    for (int64_t c = 0; c < block.cols; c += kTile)
      if (seen(block, c)) f(c, place_at(block, h, c));
  }
  bool seen(const Block& block, int64_t c) const {
    for (int64_t h = block.h_begin; h < block.h_end; ++h)
      if (sight(block, h, c) != Sight::kNone) return true;
    return false;
  }
  TilePlace place_at(const Block& block, int64_t h, int64_t c) const {
    return {.batch = seq_.index,
            .head = h,
            .i0 = seq_.past + block.i,
            .j0 = block.j0 + c,
            .rows = block.rows,
            .cols = std::min(kTile, block.cols - c)};
  }

  Block block_at(int64_t b, int64_t h_begin, int64_t h_end) const {
    Block block{
        .i = b * kTile, .rows = std::min(kTile, seq_.q_len - b * kTile), .h_begin = h_begin, .h_end = h_end};
    const KeyRange range = visible_to_block(p_, seq_, b);
    if (range.begin < range.end) {
      block.j0 = range.begin / kTile * kTile;
      block.cols = std::min(seq_.kv_len, blocks_of(range.end) * kTile) - block.j0;
    }
    return block;
  }
  KeyTile<T>& keys_of(KvHead<T>& kv, const TilePlace& place) const {
    return kv.keys[place.j0 / kTile - first_tile_];
  }
  A* rows_of(A* x, const Block& block, int64_t h) const { return x + (h - block.h_begin) * head_stride_; }
  A* row(A* x, const Block& block, int64_t h, int64_t r) const { return rows_of(x, block, h) + r * stride_; }
  int64_t tile_of(const Block& block, int64_t h, int64_t c) const {
    return (h - block.h_begin) * n_tiles_ + c / kTile;
  }
  Sight& sight(const Block& block, int64_t h, int64_t c) const { return sight_[tile_of(block, h, c)]; }
  uint64_t* words_of(const Block& block, int64_t h, int64_t c) const {
    return words_ + tile_of(block, h, c) * kTile;
  }

  void prepare(KvHead<T>& kv, int64_t kv_head) {
    Scratch& scratch = kv.scratch;
    kv.keys = scratch.take<KeyTile<T>>(n_tiles_);
    kv.v_right = scratch.take<RightOperand<T>>(n_tiles_);
    kv.k_right = scratch.take<RightOperand<T>>(n_tiles_);
    kv.v_flipped = scratch.take<const void*>(n_tiles_);
    for (int64_t t = 0; t < n_tiles_; ++t) {
      const int64_t j0 = (first_tile_ + t) * kTile, cols = std::min(kTile, seq_.kv_len - j0);
      kv.keys[t] = key_tile(p_, seq_, kv_head, j0, cols, scratch);
      const T* v = p_.value(seq_, kv_head, j0);
      if (!g_) {
        kv.v_right[t] = right_operand(*p_.kernels, v, cols, p_.d_v(), seq_.v_stride, scratch);
        continue;
      }
      kv.v_flipped[t] = transposed_operand(*p_.kernels, v, cols, p_.d_v(), seq_.v_stride, scratch);
      if (p_.kind == Pairing::Kind::kDot)
        kv.k_right[t] = right_operand(*p_.kernels, kv.keys[t].k, cols, p_.width, seq_.k_stride, scratch);
    }
    kv.tile = scratch.take<A>(kTile * kTile);
    kv.rounded = scratch.take<T>(kTile * kTile);
    kv.flipped = scratch.take<T>(kTile * kTile);
    kv.o = scratch.take<A>(kTile * p_.d_v());
    if (!g_) return;
    kv.dq = scratch.take<A>(kTile * p_.width);
    kv.d_relative_q = g_->d_relative_q ? scratch.take<A>(kTile * p_.width) : kv.dq;
    kv.dk = zeros(scratch, seq_.kv_len * p_.width);
    kv.dv = zeros(scratch, seq_.kv_len * p_.d_v());
  }

  static A* zeros(Scratch& scratch, int64_t n) {
    A* x = scratch.take<A>(n);
    std::fill(x, x + n, A(0));
    return x;
  }
  A* mixing_sums(const A* mixing) {
    const int64_t n = p_.heads.n_heads;
    return mixing ? zeros(scratch_, static_cast<int64_t>(kv_heads_.size()) * n * n) : nullptr;
  }
  const A* transposed(const A* mixing) {
    if (!mixing) return nullptr;
    const int64_t n = p_.heads.n_heads;
    A* flipped = scratch_.take<A>(n * n);
    for (int64_t g = 0; g < n; ++g)
      for (int64_t h = 0; h < n; ++h) flipped[h * n + g] = mixing[g * n + h];
    return flipped;
  }

  // ---- scores to weights

  // x_, w_ and u_ of the block.
  void weigh(const Block& block, A* lse) {
    each_head(block, [&](KvHead<T>& kv, int64_t h) { look(kv, block, h); });
    each_head(block, [&](KvHead<T>& kv, int64_t h) { scores(kv, block, h); });
    if (p_.mix_scores) mix(block, mix_scores_, x_, w_);
    each_head(block, [&](KvHead<T>&, int64_t h) {
      edit(block, h);
      hide(block, h, w_, -kInfinity);
      normalize(block, h, lse ? lse + h * p_.n_q + seq_.q_begin + block.i : nullptr);
      // A row that met a NaN is NaN where it may look, and only there.
      if (!p_.exact->all_finite(block.rows, block.cols, rows_of(w_, block, h), stride_))
        hide(block, h, w_, A(0));
    });
    if (p_.mix_weights) mix(block, mix_weights_, w_, u_);
  }

  void look(KvHead<T>& kv, const Block& block, int64_t h) {
    for (int64_t c = 0; c < block.cols; c += kTile) {
      const TilePlace place = place_at(block, h, c);
      sight(block, h, c) = kv.mask.look(p_.masks, place);
      if (sight(block, h, c) == Sight::kSome)
        std::copy(kv.mask.words(), kv.mask.words() + place.rows, words_of(block, h, c));
    }
  }

  void scores(KvHead<T>& kv, const Block& block, int64_t h) {
    A factor[kTile];
    for (int64_t c = 0; c < block.cols; c += kTile) {
      const TilePlace place = place_at(block, h, c);
      const bool counts = seen(block, c);
      const A scale = counts ? score_tile(unedited_, seq_, h, block.i, place.rows, keys_of(kv, place),
                                          kv.scratch, kv.tile)
                             : A(0);
      if (!counts) std::fill(kv.tile, kv.tile + kTile * kTile, A(0));  // mixing reads it
      std::fill(factor, factor + place.rows, scale);
      p_.exact->store_rows(place.rows, place.cols, factor, kv.tile, kTile, rows_of(x_, block, h) + c,
                           stride_);
    }
  }

  void edit(const Block& block, int64_t h) {
    A* s = rows_of(w_, block, h);
    for (size_t e = 0; e < p_.edits.size(); ++e) {
      each_tile(block, h, [&](int64_t c, const TilePlace& place) {
        p_.edits[e]->apply(ScoreTile<A>{place, stride_, s + c, p_.exact});
      });
      if (g_ && edited_[e]) std::copy(s, s + block.rows * stride_, rows_of(edited_[e], block, h));
    }
  }

  // x becomes `value` where head h does not see.
  void hide(const Block& block, int64_t h, A* x, A value) const {
    for (int64_t c = 0; c < block.cols; c += kTile) {
      const Sight sees = sight(block, h, c);
      if (sees == Sight::kAll) continue;
      const int64_t cols = std::min(kTile, block.cols - c);
      for (int64_t r = 0; r < block.rows; ++r) {
        A* to = row(x, block, h, r) + c;
        if (sees == Sight::kNone)
          std::fill(to, to + cols, value);
        else if (const uint64_t word = words_of(block, h, c)[r]; (~word & low_bits(cols)) != 0)
          for (int64_t j = 0; j < cols; ++j) to[j] = word >> j & 1 ? to[j] : value;
      }
    }
  }

  void normalize(const Block& block, int64_t h, A* lse) {
    switch (p_.normalizer->blockwise()) {
      case Normalizer::Blockwise::kNone:
        for (int64_t r = 0; r < block.rows; ++r) {
          const A one = p_.normalizer->weights(h, block.cols, row(w_, block, h, r));
          if (lse) lse[r] = one;
        }
        break;
      case Normalizer::Blockwise::kSoftmax:
        softmax(block, h, lse);
        break;
      case Normalizer::Blockwise::kSigmoid:
        for (int64_t c = 0; c < block.cols; c += kTile) {
          A* s = rows_of(w_, block, h) + c;
          p_.exact->sigmoid_tile({.rows = block.rows,
                                  .cols = std::min(kTile, block.cols - c),
                                  .s = s,
                                  .stride = stride_,
                                  .shift = static_cast<A>(p_.normalizer->shift()),
                                  .p = s,
                                  .p_stride = stride_});
        }
        if (lse) std::fill(lse, lse + block.rows, A(0));
    }
  }

  // The online softmax leaves tile t as exp(s - m_t), m_t the maximum so far: what is missing is known in the
  // end.
  void softmax(const Block& block, int64_t h, A* lse) {
    A max[kTile], sum[kTile], correction[kTile], factor[kTile];
    std::fill(max, max + block.rows, p_.sink ? p_.sink[h] : -kInfinity);
    std::fill(sum, sum + block.rows, p_.sink ? A(1) : A(0));
    A* history = max_ + tile_of(block, h, 0) * kTile;
    for (int64_t c = 0; c < block.cols; c += kTile) {
      A* s = rows_of(w_, block, h) + c;
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
      p_.exact->scale_rows(block.rows, std::min(kTile, block.cols - c), factor, rows_of(w_, block, h) + c,
                           stride_);
    }
    if (lse)
      for (int64_t r = 0; r < block.rows; ++r) lse[r] = max[r] + std::log(sum[r]);
  }

  // ---- heads that talk

  // y_h = sum_g mixing[h, g] x_g at every place of the block.
  void mix(const Block& block, const A* mixing, const A* x, A* y) {
    const int64_t n = p_.heads.n_heads;
    each_row(block, [&](int64_t part, int64_t r) {
      Scratch& scratch = kv_heads_[static_cast<size_t>(part)].scratch;
      for (int64_t c = 0; c < block.cols; c += kMixed) {
        const Scratch::Frame frame(scratch);
        const int64_t cols = std::min(kMixed, block.cols - c), at = r * stride_ + c;
        p_.exact_gemm->run({.m = n,
                            .n = cols,
                            .k = n,
                            .a = mixing,
                            .lda = n,
                            .b = pack(*p_.exact_gemm, x + at, n, cols, head_stride_, 1, scratch),
                            .n_begin = 0,
                            .n_end = cols,
                            .ldc = head_stride_,
                            .c_acc = y + at});
      }
    });
  }

  // x becomes 0 where it is not finite and y is 0 for every head: what nobody saw must not meet that 0 in a
  // product.
  void silence(const Block& block, A* x, const A* y) {
    each_row(block, [&](int64_t, int64_t r) {
      for (int64_t h = 0; h < p_.heads.n_heads; ++h) {
        A* mine = row(x, block, h, r);
        if (p_.exact->all_finite(1, block.cols, mine, stride_)) continue;
        for (int64_t c = 0; c < block.cols; ++c) {
          bool zero = !std::isfinite(mine[c]);
          for (int64_t g = 0; zero && g < p_.heads.n_heads; ++g)
            zero = y[g * head_stride_ + r * stride_ + c] == 0;
          if (zero) mine[c] = 0;
        }
      }
    });
  }

  // sums[g, h] += sum over places of x_g dy_h, in the part of whoever has the row.
  void add_mixing_gradient(const Block& block, const A* x, const A* dy, A* sums) {
    const int64_t n = p_.heads.n_heads;
    each_row(block, [&](int64_t part, int64_t r) {
      Scratch& scratch = kv_heads_[static_cast<size_t>(part)].scratch;
      for (int64_t c = 0; c < block.cols; c += kMixed) {
        const Scratch::Frame frame(scratch);
        const int64_t cols = std::min(kMixed, block.cols - c), at = r * stride_ + c;
        p_.exact_gemm->run({.m = n,
                            .n = n,
                            .k = cols,
                            .a = x + at,
                            .lda = head_stride_,
                            .b = pack(*p_.exact_gemm, dy + at, cols, n, 1, head_stride_, scratch),
                            .n_begin = 0,
                            .n_end = n,
                            .ldc = n,
                            .c_acc = sums + part * n * n,
                            .accumulate = true});
      }
    });
  }
  void add_mixing_parts(const A* parts, const HeadSums<A>& sums) const {
    const int64_t n = p_.heads.n_heads * p_.heads.n_heads;
    if (!parts || !sums.sums) return;
    for (size_t part = 0; part < kv_heads_.size(); ++part)
      for (int64_t i = 0; i < n; ++i) sums.of(index_, 0)[i] += parts[static_cast<int64_t>(part) * n + i];
  }

  // ---- weights to output, and back

  // kv.rounded: the weights of a tile after dropout, but for its scale.
  void round_weights(KvHead<T>& kv, const Block& block, const TilePlace& place, int64_t c) {
    A ones[kTile];
    std::fill(ones, ones + place.rows, A(1));
    p_.kernels->attention.store_rows(place.rows, place.cols, ones, rows_of(u_, block, place.head) + c,
                                     stride_, kv.rounded, kTile);
    const uint64_t* keep = kv.dropout.keep(p_, seq_, place.head, block.i, place.rows, place.j0);
    for (int64_t r = 0; keep && r < place.rows; ++r)
      for (int64_t j = 0; j < place.cols; ++j)
        if ((keep[r] >> j & 1) == 0) kv.rounded[r * kTile + j] = T(A(0));
  }

  void output(KvHead<T>& kv, const Block& block, int64_t h, T* out) {
    const int64_t d_v = p_.d_v();
    bool first = true;
    each_tile(block, h, [&](int64_t c, const TilePlace& place) {
      round_weights(kv, block, place, c);
      multiply(*p_.kernels, place.rows, kv.rounded, kTile, kv.v_right[place.j0 / kTile - first_tile_], kv.o,
               d_v, !first);
      add_relative_values(p_, place, kv.rounded, kv.scratch, kv.o);
      first = false;
    });
    if (first) std::fill(kv.o, kv.o + block.rows * d_v, A(0));
    store(block.rows, d_v, p_.dropout_scale(), kv.o, out + out_at(block, h), p_.heads.n_heads * d_v);
  }
  int64_t out_at(const Block& block, int64_t h) const {
    return ((seq_.q_begin + block.i) * p_.heads.n_heads + h) * p_.d_v();
  }

  void value_gradients(KvHead<T>& kv, const Block& block, int64_t h) {
    const Scratch::Frame frame(kv.scratch);
    const int64_t d_v = p_.d_v(), ld = p_.heads.n_heads * d_v;
    const T* dout = g_->dout + out_at(block, h);
    const RightOperand<T> dout_right = right_operand(*p_.kernels, dout, block.rows, d_v, ld, kv.scratch);
    A* du = rows_of(du_, block, h);
    A ones[kTile];
    std::fill(ones, ones + block.rows, A(1));
    if (p_.talks()) std::fill(du, du + block.rows * stride_, A(0));  // mixing reads all tiles
    each_tile(block, h, [&](int64_t c, const TilePlace& place) {
      const void* v_flipped = kv.v_flipped[place.j0 / kTile - first_tile_];
      multiply(*p_.kernels, place.rows, place.cols, d_v, dout, ld, v_flipped, kv.tile, kTile, false);
      if (p_.relative_values.rows) {
        const Scratch::Frame inner(kv.scratch);
        RelativeTile<T>(p_, p_.relative_values, d_v, place, kv.scratch).add_products(dout, ld, kv.tile);
      }
      p_.exact->store_rows(place.rows, place.cols, ones, kv.tile, kTile, du + c, stride_);
      round_weights(kv, block, place, c);
      if (p_.relative_values.rows) {
        const Scratch::Frame inner(kv.scratch);
        RelativeTile<T> tile(p_, p_.relative_values, d_v, place, kv.scratch);
        tile.add_to_vectors(tile.skew(kv.rounded), dout, ld, g_->d_relative_values.of(index_, h));
      }
      p_.kernels->gemm.transpose(place.rows, place.cols, kv.rounded, kTile, kv.flipped, kTile);
      multiply(*p_.kernels, place.cols, kv.flipped, kTile, dout_right, kv.dv + place.j0 * d_v, d_v, true);
      if (const uint64_t* keep = kv.dropout.keep(p_, seq_, h, block.i, place.rows, place.j0))
        for (int64_t r = 0; r < place.rows; ++r)
          for (int64_t j = 0; j < place.cols; ++j) {
            A& x = du[r * stride_ + c + j];
            x = keep[r] >> j & 1 ? p_.dropout_scale() * x : A(0);
          }
    });
  }

  // dL/dW in dw_ becomes dL/d(scores).
  void score_gradients(const Block& block, int64_t h) {
    for (int64_t r = 0; r < block.rows; ++r)
      p_.normalizer->backward(h, block.cols, row(w_, block, h, r), row(dw_, block, h, r),
                              g_->d_normalizer.of(index_, h));
    for (size_t e = p_.edits.size(); e-- > 0;) {
      if (p_.edits[e]->passes_gradients()) continue;
      each_tile(block, h, [&](int64_t c, const TilePlace& place) {
        A* edited = edited_[e] ? rows_of(edited_[e], block, h) + c : nullptr;
        p_.edits[e]->backward(ScoreTile<A>{place, stride_, edited, p_.exact}, rows_of(dw_, block, h) + c,
                              g_->d_edits[e].of(index_, h));
      });
    }
    // An edit's derivative at a score that nobody saw may be NaN.
    if (!p_.passes_gradients() &&
        !p_.exact->all_finite(block.rows, block.cols, rows_of(dw_, block, h), stride_))
      hide(block, h, dw_, A(0));
  }

  void pairing_gradients(KvHead<T>& kv, const Block& block, int64_t h) {
    const auto& kernels = *p_.kernels;
    const Scratch::Frame frame(kv.scratch);
    const int64_t width = p_.width, rows = block.rows;
    const T* q = p_.query(seq_, h, block.i);
    RightOperand<T> q_right;
    if (p_.kind == Pairing::Kind::kDot)
      q_right = right_operand(kernels, q, rows, width, p_.q_stride, kv.scratch);
    std::fill(kv.dq, kv.dq + rows * width, A(0));
    std::fill(kv.d_relative_q, kv.d_relative_q + rows * width, A(0));
    A ones[kTile];
    std::fill(ones, ones + rows, A(1));
    T* ds = kv.rounded;
    each_tile(block, h, [&](int64_t c, const TilePlace& place) {
      kernels.attention.store_rows(rows, place.cols, ones, rows_of(dx_, block, h) + c, stride_, ds, kTile);
      A* dk = kv.dk + place.j0 * width;
      if (p_.relative_keys.rows) {
        const Scratch::Frame inner(kv.scratch);
        RelativeTile<T> tile(p_, p_.relative_keys, width, place, kv.scratch);
        const T* skewed = tile.skew(ds);
        tile.add_to_rows(skewed, kv.d_relative_q);
        tile.add_to_vectors(skewed, p_.relative_query(seq_, h, block.i), p_.relative_keys.q_stride,
                            g_->d_relative_keys.of(index_, h));
      }
      if (p_.kind == Pairing::Kind::kTanhSum) {
        kernels.attention.additive_tile_backward(
            rows, place.cols, width, q, p_.q_stride, keys_of(kv, place).k, seq_.k_stride,
            p_.tanh_v + h * width, ds, kTile, kv.dq, width, dk, width, g_->d_tanh_v.of(index_, h));
      } else if (p_.kind == Pairing::Kind::kDot) {
        multiply(kernels, rows, ds, kTile, kv.k_right[place.j0 / kTile - first_tile_], kv.dq, width, true);
        kernels.gemm.transpose(rows, place.cols, ds, kTile, kv.flipped, kTile);
        multiply(kernels, place.cols, kv.flipped, kTile, q_right, dk, width, true);
      }
    });
    const int64_t at = ((seq_.q_begin + block.i) * p_.heads.n_heads + h) * width,
                  ld = p_.heads.n_heads * width;
    if (g_->dq) store(rows, width, p_.scale, kv.dq, g_->dq + at, ld);
    if (g_->d_relative_q) store(rows, width, p_.scale, kv.d_relative_q, g_->d_relative_q + at, ld);
  }

  // y = factor x, rounded; rows at most kTile.
  void store(int64_t rows, int64_t d, A factor, const A* x, T* y, int64_t ldy) const {
    A factors[kTile];
    std::fill(factors, factors + rows, factor);
    p_.kernels->attention.store_rows(rows, d, factors, x, d, y, ldy);
  }

  static constexpr A kInfinity = std::numeric_limits<A>::infinity();
  static constexpr int64_t kWorthAThread =
      1 << 14;                            // pairs in a block, in all heads: tens of microseconds a step
  static constexpr int64_t kMixed = 512;  // places mixed at a time: 16 heads' packed scores are 32 KiB

  const Problem<T>& p_;
  Problem<T> unedited_;  // edits come after mixing
  const int64_t index_;
  const Sequence<T>& seq_;
  const Gradients<T>* g_;
  const int64_t kv_begin_;
  std::vector<KvHead<T>> kv_heads_;
  const bool threaded_;
  int64_t first_tile_ = 0, n_tiles_ = 0, pairs_ = 0;
  Scratch scratch_;
  // Rows of each head worked on: x, w, u as above; some are the same memory where nothing is mixed between.
  int64_t stride_ = 0, head_stride_ = 0;
  A *x_ = nullptr, *w_ = nullptr, *u_ = nullptr, *dw_ = nullptr, *du_ = nullptr, *dx_ = nullptr;
  std::vector<A*> edited_;                                  // rows for each edit whose backward reads scores
  Sight* sight_ = nullptr;                                  // [heads, n_tiles]
  uint64_t* words_ = nullptr;                               // [heads, n_tiles, kTile]
  A* max_ = nullptr;                                        // [heads, n_tiles, kTile]
  const A *mix_scores_ = nullptr, *mix_weights_ = nullptr;  // transposed: [to, from]
  A *d_mix_scores_ = nullptr, *d_mix_weights_ = nullptr;    // [parts, from, to]
};

// Items for heads that talk are of all heads.
template <class T, class Each>
void each_block(const Problem<T>& p, const Item& item, Each&& each) {
  const int64_t group = p.heads.group(), step = p.talks() ? p.heads.n_heads : 1;
  for (int64_t h = item.kv_head * group; h < (p.talks() ? p.heads.n_heads : (item.kv_head + 1) * group);
       h += step)
    for (int64_t b = item.begin; b < item.end; ++b) each(b, h, h + step);
}

template <class T>
std::vector<Item> row_items(const Problem<T>& p, int64_t pieces) {
  return cut(
      p, [](const Sequence<T>& s) { return s.q_len; }, pieces, p.talks() ? 1 : p.heads.kv_heads());
}

}  // namespace

template <class T>
void row_blocks_forward(const Problem<T>& p, const Result<T>& result) {
  const int64_t n = static_cast<int64_t>(p.sequences.size()) * (p.talks() ? 1 : p.heads.kv_heads());
  const int64_t pieces = threads() == 1 ? 1 : ceil_div(4 * threads(), std::max<int64_t>(1, n));
  for_each_item(p, row_items(p, pieces), [&](const Item& item) {
    RowBlocks<T> rows(p, item, nullptr);
    each_block(p, item, [&](int64_t b, int64_t h, int64_t h_end) { rows.forward(result, b, h, h_end); });
    return rows.flops();
  });
}

template <class T>
void row_blocks_backward(const Problem<T>& p, const Gradients<T>& g) {
  const auto run = [&](const Item& item) {
    RowBlocks<T> rows(p, item, &g);
    each_block(p, item, [&](int64_t b, int64_t h, int64_t h_end) { rows.backward(b, h, h_end); });
    rows.store_gradients();
    return rows.flops();
  };
  const std::vector<Item> items = row_items(p, 1);
  if (p.talks() && static_cast<int64_t>(items.size()) < threads())
    for (const Item& item : items) count_flops(run(item));  // the threads share the heads of each
  else
    for_each_item(p, items, run);
}

template <class T>
void row_blocks_weights(const Problem<T>& p, const Sequence<T>& s, int64_t head, int64_t i, int64_t rows,
                        float* const* attn_weights) {
  Problem<T> part = p;
  part.sequences = {s};
  part.sequences[0].q_begin += i, part.sequences[0].past += i, part.sequences[0].q_len = rows;
  const Item item{
      .sequence = 0, .kv_head = p.talks() ? 0 : head / p.heads.group(), .begin = 0, .end = blocks_of(rows)};
  RowBlocks<T>(part, item, nullptr).weights(0, head, attn_weights);
}

template void row_blocks_forward<double>(const Problem<double>&, const Result<double>&);
template void row_blocks_forward<float>(const Problem<float>&, const Result<float>&);
template void row_blocks_forward<bfloat16>(const Problem<bfloat16>&, const Result<bfloat16>&);
template void row_blocks_backward<double>(const Problem<double>&, const Gradients<double>&);
template void row_blocks_backward<float>(const Problem<float>&, const Gradients<float>&);
template void row_blocks_backward<bfloat16>(const Problem<bfloat16>&, const Gradients<bfloat16>&);
template void row_blocks_weights<double>(const Problem<double>&, const Sequence<double>&, int64_t, int64_t,
                                         int64_t, float* const*);
template void row_blocks_weights<float>(const Problem<float>&, const Sequence<float>&, int64_t, int64_t,
                                        int64_t, float* const*);
template void row_blocks_weights<bfloat16>(const Problem<bfloat16>&, const Sequence<bfloat16>&, int64_t,
                                           int64_t, int64_t, float* const*);

}  // namespace qkv::paths
