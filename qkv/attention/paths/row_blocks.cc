// Attention on whole rows of weights, 64 queries at a time. row_weights.h makes them: X, S, W, U and their
// mixings Pl and Pw are its. Then O_h = dropout(U_h) V_h. Backward computes X .. U of a block again, then
//
//   dV_h = dropout(U_h)^T dO_h      dU_h = dropout(dO_h V_h^T)
//   dW_h = sum_g Pw_hg dU_g         dPw_gh = sum_ij W_g dU_h
//   dX_h = sum_g Pl_hg dS_g         dPl_gh = sum_ij X_g dS_h
//   dQ_h = scale dX_h K_h           dK_h = scale dX_h^T Q_h
//
// Forward, a thread has whole blocks; backward, whole sequences and key/value heads, or parts of them
// (row_weights.h).

#include "qkv/attention/paths/row_weights.h"

namespace qkv::paths {
namespace {

// A tile's weights U after dropout, but for its scale, rounded to T [kTile, kTile]. Returns dropout's bits.
template <class T>
const uint64_t* dropped_weights(const Problem<T>& p, const RowWeights<T>& rows, const RowBlock& block,
                                const TilePlace& place, int64_t c, TileDropout& dropout, T* weights) {
  using A = accumulator_t<T>;
  store_rows(p.kernels->attention, place.rows, place.cols, A(1), rows.rows_of(rows.u, block, place.head) + c,
             rows.stride(), weights, kTile);
  const uint64_t* keep = dropout.keep(p, rows.sequence(), place.head, block.i, place.rows, place.j0);
  for (int64_t r = 0; keep && r < place.rows; ++r)
    for (int64_t j = 0; j < place.cols; ++j)
      if ((keep[r] >> j & 1) == 0) weights[r * kTile + j] = T(A(0));
  return keep;
}

// O from U, for one key/value head or all of them.
template <class T>
class RowOutputs {
 public:
  using A = accumulator_t<T>;
  RowOutputs(const Problem<T>& p, const Item& item) : p_(p), rows_(p, item, false), values_(rows_.parts()) {
    rows_.each_part([&](int64_t part) {
      Scratch& scratch = rows_.scratch(part);
      Values& v = values_[static_cast<size_t>(part)];
      v.tiles = scratch.take<RightOperand<T>>(rows_.n_tiles());
      rows_.each_key_tile([&](int64_t t, int64_t j0, int64_t cols) {
        v.tiles[t] = value_tile(p_, rows_.sequence(), rows_.kv_head(part), j0, cols, scratch);
      });
      v.weights = scratch.take<T>(kTile * kTile);
      v.o = scratch.take<A>(kTile * p_.d_v());
    });
  }

  // Block b of heads h_begin .. h_end - 1.
  void forward(const Result<T>& result, int64_t b, int64_t h_begin, int64_t h_end) {
    const RowBlock block = rows_.block_at(b, h_begin, h_end);
    rows_.weigh(block, result.rows);
    rows_.each_head(block, [&](int64_t part, int64_t h) { output(part, block, h, result.out); });
    const int64_t mixed = p_.heads.n_heads * ((p_.mix_scores != nullptr) + (p_.mix_weights != nullptr));
    flops += 2 * block.rows * block.cols * (h_end - h_begin) * (p_.width + p_.d_v() + mixed);
  }
  int64_t flops = 0;

 private:
  struct Values {
    TileDropout dropout;
    RightOperand<T>* tiles = nullptr;
    T* weights = nullptr;  // [kTile, kTile]
    A* o = nullptr;        // [kTile, d_v]
  };

  void output(int64_t part, const RowBlock& block, int64_t h, T* out) {
    Values& v = values_[static_cast<size_t>(part)];
    const Sequence<T>& seq = rows_.sequence();
    const int64_t d_v = p_.d_v(), ld = p_.heads.n_heads * d_v;
    bool first = true;
    rows_.each_tile(block, h, [&](int64_t c, const TilePlace& place) {
      dropped_weights(p_, rows_, block, place, c, v.dropout, v.weights);
      multiply(*p_.kernels, place.rows, v.weights, kTile, v.tiles[rows_.tile_index(place)], v.o, d_v, !first);
      add_relative_values(p_, place, v.weights, rows_.scratch(part), v.o);
      first = false;
    });
    if (first) std::fill(v.o, v.o + block.rows * d_v, A(0));
    store_rows(p_.kernels->attention, block.rows, d_v, p_.dropout_scale(), v.o, d_v,
               out + (seq.q_begin + block.i) * ld + h * d_v, ld);
  }

  const Problem<T>& p_;
  RowWeights<T> rows_;
  std::vector<Values> values_;
};

template <class T>
class RowGradients {
 public:
  using A = accumulator_t<T>;
  RowGradients(const Problem<T>& p, const Item& item, const Gradients<T>& g)
      : p_(p), g_(g), index_(item.sequence), rows_(p, item, true), parts_(rows_.parts()) {
    rows_.each_part([&](int64_t part) { prepare(parts_[static_cast<size_t>(part)], part); });
    dw_ = rows_.take_rows();
    du_ = p.mix_weights ? rows_.take_rows() : dw_;
    dx_ = p.mix_scores ? rows_.take_rows() : dw_;
  }

  // Block b of heads h_begin .. h_end - 1.
  void backward(int64_t b, int64_t h_begin, int64_t h_end) {
    const RowBlock block = rows_.block_at(b, h_begin, h_end);
    rows_.weigh(block, {});
    rows_.each_head(block, [&](int64_t part, int64_t h) { value_gradients(part, block, h); });
    if (p_.mix_weights) {
      silence(block, du_, rows_.w);
      mixing_gradient(block, rows_.w, du_, &Part::d_mix_weights);
      rows_.mix(block, p_.mix_weights, du_, dw_);
    }
    rows_.each_head(block, [&](int64_t, int64_t h) { score_gradients(block, h); });
    if (p_.mix_scores) {
      silence(block, rows_.x, dw_);
      mixing_gradient(block, rows_.x, dw_, &Part::d_mix_scores);
      rows_.mix(block, p_.mix_scores, dw_, dx_);
    }
    rows_.each_head(block, [&](int64_t part, int64_t h) { pairing_gradients(part, block, h); });
    const int64_t mixed = p_.heads.n_heads * ((p_.mix_scores != nullptr) + (p_.mix_weights != nullptr));
    flops += 2 * block.rows * block.cols * (h_end - h_begin) * (3 * p_.width + 2 * p_.d_v() + 3 * mixed);
  }

  // The sums over all blocks.
  void store() {
    const Sequence<T>& seq = rows_.sequence();
    rows_.each_part([&](int64_t n) {
      const Part& part = parts_[static_cast<size_t>(n)];
      const int64_t heads = p_.heads.kv_heads();
      for (int64_t j = 0; j < seq.kv_len; j += kTile) {
        const int64_t count = std::min(kTile, seq.kv_len - j),
                      at = (seq.kv_begin + j) * heads + rows_.kv_head(n);
        if (g_.dk)
          store_rows(p_.kernels->attention, count, p_.width, p_.scale, part.dk + j * p_.width, p_.width,
                     g_.dk + at * p_.width, heads * p_.width);
        store_rows(p_.kernels->attention, count, p_.d_v(), p_.dropout_scale(), part.dv + j * p_.d_v(),
                   p_.d_v(), g_.dv + at * p_.d_v(), heads * p_.d_v());
      }
    });
    const int64_t n = p_.heads.n_heads * p_.heads.n_heads;
    for (const Part& part : parts_) {
      for (int64_t i = 0; part.d_mix_scores && i < n; ++i)
        g_.d_mix_scores.of(index_, 0)[i] += part.d_mix_scores[i];
      for (int64_t i = 0; part.d_mix_weights && i < n; ++i)
        g_.d_mix_weights.of(index_, 0)[i] += part.d_mix_weights[i];
    }
  }
  int64_t flops = 0;

 private:
  // Of one key/value head, or of the rows that its thread mixes.
  struct Part {
    TileDropout dropout;
    RightOperand<T>* k_right = nullptr;                   // K of each tile
    const void** v_flipped = nullptr;                     // V^T
    A *dk = nullptr, *dv = nullptr;                       // [kv_len, width], [kv_len, d_v]
    A* tile = nullptr;                                    // [kTile, kTile]
    A *dq = nullptr, *d_relative_q = nullptr;             // [kTile, width]
    T *rounded = nullptr, *flipped = nullptr;             // [kTile, kTile]
    A *d_mix_scores = nullptr, *d_mix_weights = nullptr;  // [n_heads, n_heads] by (from, to)
  };

  void prepare(Part& part, int64_t n) {
    const Sequence<T>& seq = rows_.sequence();
    Scratch& scratch = rows_.scratch(n);
    part.k_right = scratch.take<RightOperand<T>>(rows_.n_tiles());
    part.v_flipped = scratch.take<const void*>(rows_.n_tiles());
    rows_.each_key_tile([&](int64_t t, int64_t j0, int64_t cols) {
      const int64_t kv_head = rows_.kv_head(n);
      part.v_flipped[t] =
          transposed_operand(*p_.kernels, p_.value(seq, kv_head, j0), cols, p_.d_v(), seq.v_stride, scratch);
      if (p_.kind == Pairing::Kind::kDot)
        part.k_right[t] =
            right_operand(*p_.kernels, p_.key(seq, kv_head, j0), cols, p_.width, seq.k_stride, scratch);
    });
    part.tile = scratch.take<A>(kTile * kTile);
    part.rounded = scratch.take<T>(kTile * kTile);
    part.flipped = scratch.take<T>(kTile * kTile);
    part.dq = scratch.take<A>(kTile * p_.width);
    part.d_relative_q = g_.d_relative_q ? scratch.take<A>(kTile * p_.width) : part.dq;
    part.dk = zeros(scratch, seq.kv_len * p_.width);
    part.dv = zeros(scratch, seq.kv_len * p_.d_v());
    const int64_t heads = p_.heads.n_heads;
    if (p_.mix_scores) part.d_mix_scores = zeros(scratch, heads * heads);
    if (p_.mix_weights) part.d_mix_weights = zeros(scratch, heads * heads);
  }
  static A* zeros(Scratch& scratch, int64_t n) {
    A* x = scratch.take<A>(n);
    std::fill(x, x + n, A(0));
    return x;
  }

  void silence(const RowBlock& block, A* x, const A* y) {
    rows_.each_row(block, [&](int64_t, int64_t r) {
      const int64_t at = r * rows_.stride();
      silence_row(*p_.exact, rows_.head_rows(block), x + at, y + at);
    });
  }
  void mixing_gradient(const RowBlock& block, const A* x, const A* dy, A* Part::*sums) {
    rows_.each_row(block, [&](int64_t n, int64_t r) {
      const int64_t at = r * rows_.stride();
      add_mixing_gradient(*p_.exact_gemm, rows_.head_rows(block), x + at, dy + at,
                          parts_[static_cast<size_t>(n)].*sums, rows_.scratch(n));
    });
  }

  void value_gradients(int64_t n, const RowBlock& block, int64_t h) {
    Part& part = parts_[static_cast<size_t>(n)];
    const Sequence<T>& seq = rows_.sequence();
    Scratch& scratch = rows_.scratch(n);
    const Scratch::Frame frame(scratch);
    const int64_t d_v = p_.d_v(), ld = p_.heads.n_heads * d_v, stride = rows_.stride();
    const T* dout = g_.dout + (seq.q_begin + block.i) * ld + h * d_v;
    const RightOperand<T> dout_right = right_operand(*p_.kernels, dout, block.rows, d_v, ld, scratch);
    A* du = rows_.rows_of(du_, block, h);
    if (p_.talks()) std::fill(du, du + block.rows * stride, A(0));  // mixing reads all tiles
    rows_.each_tile(block, h, [&](int64_t c, const TilePlace& place) {
      const void* v_flipped = part.v_flipped[rows_.tile_index(place)];
      multiply(*p_.kernels, place.rows, place.cols, d_v, dout, ld, v_flipped, part.tile, kTile, false);
      const uint64_t* keep = dropped_weights(p_, rows_, block, place, c, part.dropout, part.rounded);
      if (p_.relative_values.rows) {
        const Scratch::Frame inner(scratch);
        RelativeTile<T> relative(p_, p_.relative_values, d_v, place, scratch);
        relative.add_products(dout, ld, part.tile);
        relative.add_to_vectors(relative.skew(part.rounded), dout, ld, g_.d_relative_values.of(index_, h));
      }
      store_rows(*p_.exact, place.rows, place.cols, A(1), part.tile, kTile, du + c, stride);
      p_.kernels->gemm.transpose(place.rows, place.cols, part.rounded, kTile, part.flipped, kTile);
      multiply(*p_.kernels, place.cols, part.flipped, kTile, dout_right, part.dv + place.j0 * d_v, d_v, true);
      for (int64_t r = 0; keep && r < place.rows; ++r)
        for (int64_t j = 0; j < place.cols; ++j) {
          A& one = du[r * stride + c + j];
          one = keep[r] >> j & 1 ? p_.dropout_scale() * one : A(0);
        }
    });
  }

  // dL/dW in dw_ becomes dL/d(scores).
  void score_gradients(const RowBlock& block, int64_t h) {
    for (int64_t r = 0; r < block.rows; ++r) {
      const A* w = rows_.row(rows_.w, block, h, r);
      A* dw = rows_.row(dw_, block, h, r);
      // Hidden keys' values may be NaN, and tiles that nobody sees were never written.
      for (int64_t j = 0; j < block.cols; ++j) dw[j] = w[j] == 0 ? A(0) : dw[j];
      p_.normalizer->backward(h, block.cols, w, dw, g_.d_normalizer.of(index_, h));
    }
    A* ds = rows_.rows_of(dw_, block, h);
    for (size_t e = p_.edits.size(); e-- > 0;) {
      if (p_.edits[e]->passes_gradients()) continue;
      rows_.each_tile(block, h, [&](int64_t c, const TilePlace& place) {
        A* edited = rows_.edited(e, block, h);
        p_.edits[e]->backward(ScoreTile<A>{place, rows_.stride(), edited ? edited + c : nullptr, p_.exact},
                              ds + c, g_.d_edits[e].of(index_, h));
      });
    }
    // An edit's derivative at a score that nobody saw may be NaN.
    if (!p_.passes_gradients() && !p_.exact->all_finite(block.rows, block.cols, ds, rows_.stride()))
      rows_.hide(block, h, dw_, A(0));
  }

  void pairing_gradients(int64_t n, const RowBlock& block, int64_t h) {
    Part& part = parts_[static_cast<size_t>(n)];
    const Sequence<T>& seq = rows_.sequence();
    Scratch& scratch = rows_.scratch(n);
    const auto& kernels = *p_.kernels;
    const Scratch::Frame frame(scratch);
    const int64_t width = p_.width, rows = block.rows;
    const T* q = p_.query(seq, h, block.i);
    RightOperand<T> q_right;
    if (p_.kind == Pairing::Kind::kDot)
      q_right = right_operand(kernels, q, rows, width, p_.q_stride, scratch);
    std::fill(part.dq, part.dq + rows * width, A(0));
    std::fill(part.d_relative_q, part.d_relative_q + rows * width, A(0));
    T* ds = part.rounded;
    rows_.each_tile(block, h, [&](int64_t c, const TilePlace& place) {
      store_rows(kernels.attention, rows, place.cols, A(1), rows_.rows_of(dx_, block, h) + c, rows_.stride(),
                 ds, kTile);
      A* dk = part.dk + place.j0 * width;
      if (p_.relative_keys.rows) {
        const Scratch::Frame inner(scratch);
        RelativeTile<T> relative(p_, p_.relative_keys, width, place, scratch);
        const T* skewed = relative.skew(ds);
        relative.add_to_rows(skewed, part.d_relative_q);
        relative.add_to_vectors(skewed, p_.relative_query(seq, h, block.i), p_.relative_keys.q_stride,
                                g_.d_relative_keys.of(index_, h));
      }
      if (p_.kind == Pairing::Kind::kTanhSum) {
        const KeyTile<T>& keys = rows_.keys(n, place);
        kernels.attention.additive_tile_backward(rows, place.cols, width, q, p_.q_stride, keys.k,
                                                 keys.k_stride, p_.tanh_v + h * width, ds, kTile, part.dq,
                                                 width, dk, width, g_.d_tanh_v.of(index_, h));
      } else if (p_.kind == Pairing::Kind::kDot) {
        multiply(kernels, rows, ds, kTile, part.k_right[rows_.tile_index(place)], part.dq, width, true);
        kernels.gemm.transpose(rows, place.cols, ds, kTile, part.flipped, kTile);
        multiply(kernels, place.cols, part.flipped, kTile, q_right, dk, width, true);
      }
    });
    const int64_t at = ((seq.q_begin + block.i) * p_.heads.n_heads + h) * width,
                  ld = p_.heads.n_heads * width;
    if (g_.dq) store_rows(kernels.attention, rows, width, p_.scale, part.dq, width, g_.dq + at, ld);
    if (g_.d_relative_q)
      store_rows(kernels.attention, rows, width, p_.scale, part.d_relative_q, width, g_.d_relative_q + at,
                 ld);
  }

  const Problem<T>& p_;
  const Gradients<T>& g_;
  const int64_t index_;
  RowWeights<T> rows_;
  std::vector<Part> parts_;
  // Rows like those of rows_; some are the same memory where nothing is mixed between.
  A *dw_ = nullptr, *du_ = nullptr, *dx_ = nullptr;
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
    RowOutputs<T> outputs(p, item);
    each_block(p, item, [&](int64_t b, int64_t h, int64_t h_end) { outputs.forward(result, b, h, h_end); });
    return outputs.flops;
  });
}

template <class T>
void row_blocks_backward(const Problem<T>& p, const Gradients<T>& g) {
  const auto run = [&](const Item& item) {
    RowGradients<T> gradients(p, item, g);
    each_block(p, item, [&](int64_t b, int64_t h, int64_t h_end) { gradients.backward(b, h, h_end); });
    gradients.store();
    return gradients.flops;
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
  RowWeights<T> weights(part, item, false);
  const RowBlock block =
      p.talks() ? weights.block_at(0, 0, p.heads.n_heads) : weights.block_at(0, head, head + 1);
  weights.weigh(block, {});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < block.cols; ++c)
      attn_weights[r][block.j0 + c] = static_cast<float>(weights.row(weights.u, block, head, r)[c]);
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
