// The chunked form, backward (docs/math/mixers.md derives it). With w_i = f_i do_i, and for a normaliser e_i
// = -f_i do_i . o_i its gradient, both known beforehand:
//
//   dS (of the state after a chunk) runs from the last chunk to the first, as S runs from the first to the
//   last; the states are computed again and kept, one for each chunk. Within a chunk, with scores P = weights
//   * Q K^T:  dV = P^T W,  dP = weights * (W V^T + e),  dQ = dP K,  dK = dP^T Q; and through the state before
//   and after it:  dQ += W S^T + e z^T,  dV += K dS,  dK += V dS^T + dz,  dS += Q^T W,  dz += Q^T e.
//
// The gradient of a log decay needs no product of its own: scaling a decay by 1 + x scales every later query
// as it does every earlier key by the inverse, so it is the sum of q dq - k dk over the rows from it on. It
// is summed within a chunk, and what lies beyond is S . dS, so that roundings do not pile up along a text.

#include "qkv/attention/mixers/chunk.h"

namespace qkv::recurrence {
namespace {

template <class T>
class Backward {
 public:
  using A = accumulator_t<T>;

  Backward(const Problem<T>& p, const Gradients<T>& g, int64_t b, int64_t kv_head)
      : p_(p),
        g_(g),
        b_(b),
        kv_head_(kv_head),
        scratch_(Scratch::fresh()),
        decays_(p, kv_head, scratch_),
        s_(scratch_.take<A>(kChunk * kChunk)),
        dq_(scratch_.take<A>(kChunk * p.width)),
        dk_(scratch_.take<A>(kChunk * p.width)),
        db_(scratch_.take<A>(kChunk * p.width)),
        wide_(scratch_.take<A>(kChunk * p.width)),
        dv_(scratch_.take<A>(kChunk * p.d_v())),
        weights_(scratch_.take<T>(kChunk * kChunk)),
        dp_(scratch_.take<T>(kChunk * kChunk)),
        w_(scratch_.take<T>(kChunk * p.d_v())),
        keys_(scratch_.take<T>(kChunk * p.width)),
        queries_(scratch_.take<T>(kChunk * p.width)),
        flipped_(scratch_.take<T>(kChunk * std::max(p.width, kChunk))),
        d_state_(p, scratch_.take<A>(p.state_size())) {
    d_state_.clear();
  }

  void causal() {
    const int64_t length = p_.keys->length(b_), begin = p_.keys->begin(b_);
    const int64_t n = ceil_div(length, kChunk);
    // Before chunk c the state is states[c]; the first is nothing.
    auto* states = scratch_.take<A>(std::max<int64_t>(0, n) * p_.state_size());
    const auto state = [&](int64_t c) { return State<T>(p_, states + c * p_.state_size()); };
    if (n > 0) state(0).clear();
    for (int64_t c = 0; c + 1 < n; ++c) {
      state(c + 1).copy_from(state(c));
      absorb(begin + c * kChunk, kChunk, state(c + 1));
    }
    for (int64_t c = n - 1; c >= 0; --c) {
      const Scratch::Frame frame(scratch_);
      const bool newer = c + 1 < n;
      chunk(begin + c * kChunk, std::min(kChunk, length - c * kChunk), state(c), c > 0, newer,
            newer ? state(c + 1) : State<T>());
    }
  }

  /// Every query sees every key: nothing but the one state is between them.
  void everything() {
    const State<T> state(p_, scratch_.take<A>(p_.state_size()));
    state.clear();
    const int64_t q_len = p_.queries->length(b_), kv_len = p_.keys->length(b_);
    for (int64_t c = 0; c < kv_len; c += kChunk) {
      const Scratch::Frame frame(scratch_);
      absorb(p_.keys->begin(b_) + c, std::min(kChunk, kv_len - c), state);
    }
    const void* s_flipped = packed_flipped(state);
    for (int64_t h = first_head(); h < end_head(); ++h)
      for (int64_t c = 0; c < q_len; c += kChunk) {
        const Scratch::Frame frame(scratch_);
        const int64_t row = p_.queries->begin(b_) + c, rows = std::min(kChunk, q_len - c);
        const T* q = p_.query(row, h);
        load_gradient(row, rows, h);
        to_state(rows, s_flipped, state, dq_);
        from_queries(rows, q, p_.q_stride);
        store(rows, p_.width, dq_, g_.dq + (row * p_.heads.n_heads + h) * p_.width,
              p_.heads.n_heads * p_.width);
      }
    const void *ds = packed(d_state_), *ds_flipped = packed_flipped(d_state_);
    for (int64_t c = 0; c < kv_len; c += kChunk) {
      const int64_t row = p_.keys->begin(b_) + c, rows = std::min(kChunk, kv_len - c);
      from_state(row, rows, p_.key(row, kv_head_), p_.k_stride, ds, ds_flipped, dk_);
      store_keys(row, rows);
    }
  }

  int64_t flops = 0;

 private:
  int64_t first_head() const { return kv_head_ * p_.heads.group(); }
  int64_t end_head() const { return first_head() + p_.heads.group(); }
  int64_t state_flops(int64_t rows) const { return 2 * rows * p_.width * p_.d_v(); }

  const void* packed(const State<T>& s) const {
    return pack(p_.kernels->gemm, s.s(), p_.width, p_.d_v(), p_.d_v(), 1, scratch_);
  }
  const void* packed_flipped(const State<T>& s) const {
    return pack(p_.kernels->gemm, s.s(), p_.d_v(), p_.width, 1, p_.d_v(), scratch_);
  }
  RightOperand<T> right(const T* x, int64_t rows, int64_t cols, int64_t ld) const {
    return right_operand(*p_.kernels, x, rows, cols, ld, scratch_);
  }

  void absorb(int64_t row, int64_t rows, const State<T>& state) {
    const Scratch::Frame frame(scratch_);
    decays_.look(row, rows);
    int64_t ld = p_.k_stride;
    const T* k = decays_.keys_to_end(rows, p_.key(row, kv_head_), ld, keys_);
    if (decays_.any()) state.decay(decays_.total());
    state.absorb(rows, k, ld, right(p_.value(row, kv_head_), rows, p_.d_v(), p_.v_stride), flipped_);
    flops += state_flops(rows);
  }

  // w_ = f do and e_, of query rows row .. of head h.
  void load_gradient(int64_t row, int64_t rows, int64_t h) {
    const int64_t ld = p_.heads.n_heads * p_.d_v(), at = row * ld + h * p_.d_v();
    const A* f = g_.factor + h * p_.queries->n_tokens() + row;
    for (int64_t r = 0; r < rows; ++r)
      p_.kernels->rows.scale(p_.d_v(), f[r], g_.dout + at + r * ld, w_ + r * p_.d_v());
    std::fill(e_, e_ + rows, A(0));
    if (!p_.normalised) return;
    p_.kernels->attention.row_dots(rows, p_.d_v(), w_, p_.d_v(), g_.out + at, ld, e_);
    for (int64_t r = 0; r < rows; ++r) e_[r] = -e_[r];
  }

  // x = W S^T + e z^T: what queries get from a state.
  void to_state(int64_t rows, const void* s_flipped, const State<T>& state, A* x) {
    paths::multiply(*p_.kernels, rows, p_.width, p_.d_v(), w_, p_.d_v(), s_flipped, x, p_.width, false);
    flops += state_flops(rows);
    if (!p_.normalised) return;
    const A* z = state.z();
    for (int64_t r = 0; r < rows; ++r, x += p_.width)
#pragma omp simd
      for (int64_t d = 0; d < p_.width; ++d) x[d] += e_[r] * z[d];
  }

  // dS += Q^T W, dz += Q^T e, with queries decayed from the chunk's beginning.
  void from_queries(int64_t rows, const T* q, int64_t ld) {
    p_.kernels->gemm.transpose(rows, p_.width, q, ld, flipped_, kChunk);
    paths::multiply(*p_.kernels, p_.width, flipped_, kChunk, right(w_, rows, p_.d_v(), p_.d_v()),
                    d_state_.s(), p_.d_v(), /*accumulate=*/true);
    flops += state_flops(rows);
    if (!p_.normalised) return;
    A* dz = d_state_.z();
    for (int64_t r = 0; r < rows; ++r, q += ld)
#pragma omp simd
      for (int64_t d = 0; d < p_.width; ++d) dz[d] += e_[r] * A(q[d]);
  }

  // dv_ = K dS, dk = V dS^T + dz: what keys, decayed to the chunk's end, get from the state after it.
  void from_state(int64_t row, int64_t rows, const T* k, int64_t ld, const void* ds, const void* ds_flipped,
                  A* dk) {
    paths::multiply(*p_.kernels, rows, p_.d_v(), p_.width, k, ld, ds, dv_, p_.d_v(), false);
    paths::multiply(*p_.kernels, rows, p_.width, p_.d_v(), p_.value(row, kv_head_), p_.v_stride, ds_flipped,
                    dk, p_.width, false);
    flops += 2 * state_flops(rows);
    if (!p_.normalised) return;
    for (int64_t r = 0; r < rows; ++r)
      p_.exact->rows.add(p_.width, dk + r * p_.width, d_state_.z(), dk + r * p_.width);
  }

  // x_r, decayed from the chunk's beginning or to its end as y was, adds to dx; and y dx to db_.
  void decay_back(int64_t rows, bool to_end, const T* y, const A* dy, A* dx) {
    p_.kernels->mixers.decay_rows_backward({.rows = rows,
                                            .d = p_.width,
                                            .to_end = to_end,
                                            .a = decays_.of(0),
                                            .lda = decays_.lda(),
                                            .y = y,
                                            .ldy = p_.width,
                                            .dy = dy,
                                            .lddy = p_.width,
                                            .dx = dx,
                                            .db = wants_decay() ? db_ : nullptr,
                                            .lddx = p_.width,
                                            .lddb = p_.width});
  }

  bool wants_decay() const { return g_.d_log_decay != nullptr; }

  void chunk(int64_t row, int64_t rows, const State<T>& before, bool older, bool newer,
             const State<T>& after) {
    const int64_t n = rows * p_.width, d_v = p_.d_v();
    const T *k = p_.key(row, kv_head_), *v = p_.value(row, kv_head_);
    decays_.look(row, rows);
    std::fill(dk_, dk_ + n, A(0));
    std::fill(dv_, dv_ + rows * d_v, A(0));
    std::fill(db_, db_ + n, A(0));
    A* beyond = scratch_.take<A>(p_.width);  // what later chunks say about this one's decays
    std::fill(beyond, beyond + p_.width, A(0));

    if (newer) {
      const Scratch::Frame frame(scratch_);
      int64_t ld = p_.k_stride;
      const T* k_end = decays_.keys_to_end(rows, k, ld, keys_);
      const bool plain = !decays_.any();
      from_state(row, rows, k_end, ld, packed(d_state_), packed_flipped(d_state_), plain ? dk_ : wide_);
      if (wants_decay()) state_product(after, beyond);
      if (p_.by_feature()) {
        decay_back(rows, /*to_end=*/true, k_end, wide_, dk_);
      } else if (!plain) {
        p_.exact->attention.scale_rows(rows, p_.width, decays_.to_end(), wide_, p_.width);
        std::copy(wide_, wide_ + n, dk_);
      }
      if (!plain) d_state_.decay(decays_.total());
    }

    const void* v_flipped = paths::transposed_operand(*p_.kernels, v, rows, d_v, p_.v_stride, scratch_);
    const void* s_flipped = older ? packed_flipped(before) : nullptr;
    const void* k_flipped =
        p_.by_feature() ? nullptr
                        : paths::transposed_operand(*p_.kernels, k, rows, p_.width, p_.k_stride, scratch_);
    const RightOperand<T> k_right =
        p_.by_feature() ? RightOperand<T>{} : right(k, rows, p_.width, p_.k_stride);
    for (int64_t h = first_head(); h < end_head(); ++h) {
      const Scratch::Frame frame(scratch_);
      const T* q = p_.query(row, h);
      load_gradient(row, rows, h);
      scores(rows, q, k, k_flipped, v_flipped);
      add_flipped(rows, weights_, right(w_, rows, d_v, d_v), dv_);
      if (p_.by_feature()) {
        std::fill(dq_, dq_ + n, A(0));
        pairs_by_feature(rows, q, k);
      } else {
        paths::multiply(*p_.kernels, rows, dp_, kChunk, k_right, dq_, p_.width, false);
        add_flipped(rows, dp_, right(q, rows, p_.width, p_.q_stride), dk_);
      }
      flops += 2 * rows * rows * (3 * p_.width + 2 * d_v);

      if (older) {
        int64_t ld = p_.q_stride;
        const T* q_begin = decays_.queries_from_begin(rows, q, ld, queries_);
        to_state(rows, s_flipped, before, wide_);
        if (p_.by_feature()) {
          decay_back(rows, /*to_end=*/false, q_begin, wide_, dq_);
        } else {
          if (decays_.any())
            p_.exact->attention.scale_rows(rows, p_.width, decays_.from_begin(), wide_, p_.width);
          p_.exact->rows.add(n, dq_, wide_, dq_);
        }
        from_queries(rows, q_begin, ld);
      }
      store(rows, p_.width, dq_, g_.dq + (row * p_.heads.n_heads + h) * p_.width,
            p_.heads.n_heads * p_.width);
      if (wants_decay() && !p_.by_feature()) add_products(rows, q, p_.q_stride, dq_, A(1));
    }
    if (wants_decay() && !p_.by_feature()) add_products(rows, k, p_.k_stride, dk_, A(-1));
    store_keys(row, rows);
    if (wants_decay()) store_decays(row, rows, beyond);
  }

  // weights_ = P and dp_ = dL/d(Q K^T), of one head.
  void scores(int64_t rows, const T* q, const T* k, const void* k_flipped, const void* v_flipped) {
    chunk_scores(p_, decays_, rows, q, k, k_flipped, s_, scratch_);
    kernels::WeighTile<T> tile{.rows = rows,
                               .cols = rows,
                               .s = s_,
                               .weight = decays_.weights(),
                               .stride = kChunk,
                               .p = weights_,
                               .p_stride = kChunk};
    p_.kernels->mixers.weigh(tile);
    paths::multiply(*p_.kernels, rows, rows, p_.d_v(), w_, p_.d_v(), v_flipped, s_, kChunk, false);
    tile.bias = e_;
    tile.p = dp_;
    p_.kernels->mixers.weigh(tile);
  }

  // y += P^T X.
  void add_flipped(int64_t rows, const T* p, const RightOperand<T>& x, A* y) {
    p_.kernels->gemm.transpose(rows, rows, p, kChunk, flipped_, kChunk);
    paths::multiply(*p_.kernels, rows, flipped_, kChunk, x, y, x.cols, /*accumulate=*/true);
  }

  // dq_, dk_ and db_ of the pairs in a chunk, given dp_.
  void pairs_by_feature(int64_t rows, const T* q, const T* k) {
    for_each_border(rows, [&](const Border& b) {
      const Scratch::Frame frame(scratch_);
      const int64_t n_queries = b.end - b.mid, n_keys = b.mid - b.begin;
      const BorderRows<T> sides = at_border(p_, decays_, b, q, k, scratch_);
      const T* ds = dp_ + b.mid * kChunk + b.begin;
      kernels::DecayRowsBackward<T> back{.d = p_.width,
                                         .lda = decays_.lda(),
                                         .ldy = p_.width,
                                         .dy = wide_,
                                         .lddy = p_.width,
                                         .lddx = p_.width,
                                         .lddb = p_.width};
      paths::multiply(*p_.kernels, n_queries, ds, kChunk, right(sides.keys, n_keys, p_.width, p_.width),
                      wide_, p_.width, false);
      back.rows = n_queries;
      back.a = decays_.of(b.mid);
      back.y = sides.queries;
      back.dx = dq_ + b.mid * p_.width;
      back.db = wants_decay() ? db_ + b.mid * p_.width : nullptr;
      p_.kernels->mixers.decay_rows_backward(back);

      p_.kernels->gemm.transpose(n_queries, n_keys, ds, kChunk, flipped_, kChunk);
      paths::multiply(*p_.kernels, n_keys, flipped_, kChunk,
                      right(sides.queries, n_queries, p_.width, p_.width), wide_, p_.width, false);
      back.rows = n_keys;
      back.to_end = true;
      back.a = decays_.of(b.begin);
      back.y = sides.keys;
      back.dx = dk_ + b.begin * p_.width;
      back.db = wants_decay() ? db_ + b.begin * p_.width : nullptr;
      p_.kernels->mixers.decay_rows_backward(back);
    });
    for (int64_t r = 0; r < rows; r += kBlock)
      p_.kernels->mixers.decayed_scores_backward({.rows = std::min(kBlock, rows - r),
                                                  .d = p_.width,
                                                  .q = q + r * p_.q_stride,
                                                  .k = k + r * p_.k_stride,
                                                  .ldq = p_.q_stride,
                                                  .ldk = p_.k_stride,
                                                  .a = decays_.of(r),
                                                  .lda = decays_.lda(),
                                                  .ds = dp_ + r * kChunk + r,
                                                  .stride = kChunk,
                                                  .dq = dq_ + r * p_.width,
                                                  .dk = dk_ + r * p_.width,
                                                  .db = wants_decay() ? db_ + r * p_.width : nullptr,
                                                  .ldd = p_.width});
  }

  // out_d = (S dS^T)_dd + z_d dz_d.
  void state_product(const State<T>& s, A* out) const {
    p_.exact->attention.row_dots(p_.width, p_.d_v(), s.s(), p_.d_v(), d_state_.s(), p_.d_v(), out);
    if (p_.normalised)
      for (int64_t d = 0; d < p_.width; ++d) out[d] += s.z()[d] * d_state_.z()[d];
  }

  // db_ += sign x dx: for decays that all features share.
  void add_products(int64_t rows, const T* x, int64_t ld, const A* dx, A sign) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t d = 0; d < p_.width; ++d)
        db_[r * p_.width + d] += sign * A(x[r * ld + d]) * dx[r * p_.width + d];
  }

  // The gradient of the log of a row's decay: db_ of all rows from it on, and what lies beyond the chunk.
  void store_decays(int64_t row, int64_t rows, A* sum) {
    for (int64_t r = rows - 1; r >= 0; --r) {
      p_.exact->rows.add(p_.width, sum, db_ + r * p_.width, sum);
      T* to = g_.d_log_decay + ((row + r) * p_.heads.kv_heads() + kv_head_) * p_.decay_width;
      if (p_.by_feature()) {
        p_.kernels->rows.from_acc(p_.width, sum, to);
      } else {
        A all = 0;
        for (int64_t d = 0; d < p_.width; ++d) all += sum[d];
        *to = T(all);
      }
    }
  }

  void store(int64_t rows, int64_t d, const A* x, T* y, int64_t ldy) const {
    for (int64_t r = 0; r < rows; ++r) p_.kernels->rows.from_acc(d, x + r * d, y + r * ldy);
  }
  void store_keys(int64_t row, int64_t rows) const {
    const int64_t at = row * p_.heads.kv_heads() + kv_head_, heads = p_.heads.kv_heads();
    store(rows, p_.width, dk_, g_.dk + at * p_.width, heads * p_.width);
    store(rows, p_.d_v(), dv_, g_.dv + at * p_.d_v(), heads * p_.d_v());
  }

  const Problem<T>& p_;
  const Gradients<T>& g_;
  const int64_t b_, kv_head_;
  Scratch& scratch_;
  ChunkDecays<T> decays_;
  A *s_, *dq_, *dk_, *db_, *wide_, *dv_;
  A e_[kChunk] = {};
  T *weights_, *dp_, *w_, *keys_, *queries_, *flipped_;
  State<T> d_state_;  // the gradient of the state after the chunk in hand
};

}  // namespace

template <class T>
int64_t chunked_backward(const Problem<T>& p, int64_t b, int64_t kv_head, const Gradients<T>& gradients) {
  Backward<T> backward(p, gradients, b, kv_head);
  if (p.causal)
    backward.causal();
  else
    backward.everything();
  return backward.flops;
}

template int64_t chunked_backward<double>(const Problem<double>&, int64_t, int64_t, const Gradients<double>&);
template int64_t chunked_backward<float>(const Problem<float>&, int64_t, int64_t, const Gradients<float>&);
template int64_t chunked_backward<bfloat16>(const Problem<bfloat16>&, int64_t, int64_t,
                                            const Gradients<bfloat16>&);

}  // namespace qkv::recurrence
