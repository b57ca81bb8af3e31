// The definition of attention: for each sequence and head the whole matrices of scores and weights, plain
// loops in A = accumulator_t<T>, sums in order, one rounding to T at the end. For reading, and for tests to
// compare with.

#include <algorithm>

#include "qkv/attention/paths/problem.h"
#include "qkv/base/parallel.h"

namespace qkv::paths {
namespace {

template <class T>
class Reference {
 public:
  using A = accumulator_t<T>;
  template <class U>
  using Counted =
      std::vector<U, CountedAllocator<U>>;  // what grows with q_len kv_len is seen by memory_use()
  Reference(const Problem<T>& p, const Sequence<T>& s, int64_t head)
      : p_(p),
        s_(s),
        h_(head),
        kv_head_(head / p.heads.group()),
        w_(s.q_len * s.kv_len),
        keep_(w_.size(), true),
        lse_(s.q_len) {
    score();
    edit();
    hide();
    for (int64_t i = 0; i < s_.q_len; ++i)
      lse_[i] = p_.normalizer->weights(h_, s_.kv_len, w_.data() + i * s_.kv_len);
    draw_dropout();
  }

  void forward(const Result<T>& result) const {
    for (int64_t i = 0; i < s_.q_len; ++i) {
      for (int64_t d = 0; d < p_.d_v(); ++d) {
        A sum = 0;  // a key of weight 0 adds nothing, whatever its value
        for (int64_t j = 0; j < s_.kv_len; ++j)
          if (at(i, j) != 0 && keep_[i * s_.kv_len + j]) sum += at(i, j) * value(i, j, d);
        result.out[out_row(i) + d] = T(p_.dropout_scale() * sum);
      }
      if (result.lse) result.lse[h_ * p_.n_q + s_.q_begin + i] = lse_[i];
    }
  }

  // Adds to dk, dv [kv_len, width or d_v] of the key/value head; writes dq. `index`: of the sequence.
  void backward(const Gradients<T>& g, int64_t index, std::vector<A>& dk, std::vector<A>& dv) const {
    const int64_t d_v = p_.d_v(), width = p_.width;
    Counted<A> ds(w_.size());
    std::vector<A> dq(width), d_relative_q(width);
    for (int64_t i = 0; i < s_.q_len; ++i) {
      const T* dout = g.dout + out_row(i);
      A* dw = ds.data() + i * s_.kv_len;  // out = sum_j p_j v_j with p = dropout(w); w = normalizer(scores).
      for (int64_t j = 0; j < s_.kv_len; ++j) {
        if (at(i, j) == 0 || !keep_[i * s_.kv_len + j]) continue;
        for (int64_t d = 0; d < d_v; ++d) {
          dw[j] += p_.dropout_scale() * A(dout[d]) * value(i, j, d);
          dv[j * d_v + d] += p_.dropout_scale() * at(i, j) * A(dout[d]);
          if (p_.relative_values.rows)
            g.d_relative_values.of(index, h_)[relative_index(p_.relative_values, i, j) * d_v + d] +=
                at(i, j) * A(dout[d]);
        }
      }
      p_.normalizer->backward(h_, s_.kv_len, w_.data() + i * s_.kv_len, dw, g.d_normalizer.of(index, h_));
    }
    for (size_t e = p_.edits.size(); e-- > 0;) {
      if (p_.edits[e]->passes_gradients()) continue;
      for_each_tile([&](const TilePlace& place, int64_t at) {
        p_.edits[e]->backward(
            ScoreTile<A>{place, s_.kv_len, const_cast<A*>(edited_[e].data()) + at, p_.exact}, ds.data() + at,
            g.d_edits[e].of(index, h_));
      });
    }
    for (int64_t i = 0; i < s_.q_len; ++i) {
      std::fill(dq.begin(), dq.end(), A(0));
      std::fill(d_relative_q.begin(), d_relative_q.end(), A(0));
      for (int64_t j = 0; j < s_.kv_len && p_.relative_keys.rows; ++j) {
        if (at(i, j) == 0) continue;
        const T *rq = p_.relative_query(s_, h_, i), *r = relative_row(p_.relative_keys, i, j);
        A* sums = g.d_relative_keys.of(index, h_) + relative_index(p_.relative_keys, i, j) * width;
        for (int64_t d = 0; d < width; ++d) {
          (g.d_relative_q ? d_relative_q : dq)[d] += p_.scale * ds[i * s_.kv_len + j] * A(r[d]);
          sums[d] += ds[i * s_.kv_len + j] * A(rq[d]);
        }
      }
      if (g.d_relative_q)
        for (int64_t d = 0; d < width; ++d)
          g.d_relative_q[((s_.q_begin + i) * p_.heads.n_heads + h_) * width + d] = T(d_relative_q[d]);
      for (int64_t j = 0; j < s_.kv_len; ++j)
        if (at(i, j) != 0) pairing_backward(i, j, ds[i * s_.kv_len + j], dq, dk, g.d_tanh_v.of(index, h_));
      if (g.dq)
        for (int64_t d = 0; d < width; ++d)
          g.dq[((s_.q_begin + i) * p_.heads.n_heads + h_) * width + d] = T(dq[d]);
    }
  }

 private:
  // use(place, offset of its first score) for all tiles of at most 64 x 64.
  template <class Use>
  void for_each_tile(Use&& use) const {
    for (int64_t i = 0; i < s_.q_len; i += 64)
      for (int64_t j = 0; j < s_.kv_len; j += 64)
        use(TilePlace{.batch = s_.index,
                      .head = h_,
                      .i0 = s_.past + i,
                      .j0 = j,
                      .rows = std::min<int64_t>(64, s_.q_len - i),
                      .cols = std::min<int64_t>(64, s_.kv_len - j)},
            i * s_.kv_len + j);
  }

  A& at(int64_t i, int64_t j) { return w_[i * s_.kv_len + j]; }
  A at(int64_t i, int64_t j) const { return w_[i * s_.kv_len + j]; }
  int64_t relative_index(const Relative<T>& relative, int64_t i, int64_t j) const {
    return relative.row_of(j - (s_.past + i));
  }
  const T* relative_row(const Relative<T>& relative, int64_t i, int64_t j) const {
    return relative.rows + relative_index(relative, i, j) * relative.row_stride + h_ * relative.head_stride;
  }
  A value(int64_t i, int64_t j, int64_t d) const {
    const A v = A(p_.value(s_, kv_head_, j)[d]);
    return p_.relative_values.rows ? v + A(relative_row(p_.relative_values, i, j)[d]) : v;
  }
  int64_t out_row(int64_t i) const { return ((s_.q_begin + i) * p_.heads.n_heads + h_) * p_.d_v(); }

  void score() {
    for (int64_t i = 0; i < s_.q_len; ++i)
      for (int64_t j = 0; j < s_.kv_len; ++j) {
        const T *q = p_.query(s_, h_, i), *k = p_.key(s_, kv_head_, j);
        A sum = 0;
        if (p_.kind == Pairing::Kind::kDot)
          for (int64_t d = 0; d < p_.width; ++d) sum += A(q[d]) * A(k[d]);
        if (p_.kind == Pairing::Kind::kTanhSum)
          for (int64_t d = 0; d < p_.width; ++d)
            sum += p_.tanh_v[h_ * p_.width + d] * std::tanh(A(q[d]) + A(k[d]));
        if (p_.relative_keys.rows) {
          const T *rq = p_.relative_query(s_, h_, i), *r = relative_row(p_.relative_keys, i, j);
          for (int64_t d = 0; d < p_.width; ++d) sum += A(rq[d]) * A(r[d]);
        }
        at(i, j) = p_.scale * sum;
      }
  }

  void edit() {
    for (const Edit* e : p_.edits) {
      for_each_tile([&](const TilePlace& place, int64_t at) {
        e->apply(ScoreTile<A>{place, s_.kv_len, w_.data() + at, p_.exact});
      });
      edited_.push_back(w_);
    }
  }

  void hide() {
    TileMask mask;
    for_each_tile([&](const TilePlace& place, int64_t at) {
      const Sight sight = mask.look(p_.masks, place);
      for (int64_t r = 0; r < place.rows; ++r)
        for (int64_t c = 0; c < place.cols; ++c)
          if (sight == Sight::kNone || !mask.shows(r, c))
            w_[at + r * s_.kv_len + c] = -std::numeric_limits<A>::infinity();
    });
  }

  // A dropout group (kernels/rows.h) is two neighbouring query rows of the batch by 64 keys, in one head.
  void draw_dropout() {
    if (p_.dropout.threshold == 0) return;
    for (int64_t i = 0; i < s_.q_len; ++i)
      for (int64_t j = 0; j < s_.kv_len; j += 64) {
        const int64_t row = s_.q_begin + i;
        const uint64_t group =
            static_cast<uint64_t>(row / 2 * p_.heads.n_heads + h_) << 24 | static_cast<uint64_t>(j / 64);
        uint64_t words[2];
        p_.kernels->attention.dropout_keep(1, group, 0, p_.dropout, words);
        for (int64_t c = 0; c < std::min<int64_t>(64, s_.kv_len - j); ++c)
          keep_[i * s_.kv_len + j + c] = (words[row % 2] >> c & 1) != 0;
      }
  }

  void pairing_backward(int64_t i, int64_t j, A ds, std::vector<A>& dq, std::vector<A>& dk,
                        A* d_tanh_v) const {
    const T *q = p_.query(s_, h_, i), *k = p_.key(s_, kv_head_, j);
    A* dk_j = dk.data() + j * p_.width;
    if (p_.kind == Pairing::Kind::kDot)
      for (int64_t d = 0; d < p_.width; ++d) {
        dq[d] += p_.scale * ds * A(k[d]);
        dk_j[d] += p_.scale * ds * A(q[d]);
      }
    if (p_.kind == Pairing::Kind::kTanhSum)
      for (int64_t d = 0; d < p_.width; ++d) {
        const A t = std::tanh(A(q[d]) + A(k[d])), dx = ds * p_.tanh_v[h_ * p_.width + d] * (1 - t * t);
        d_tanh_v[d] += ds * t;
        dq[d] += dx;
        dk_j[d] += dx;
      }
  }

  const Problem<T>& p_;
  const Sequence<T>& s_;
  const int64_t h_, kv_head_;
  Counted<A> w_;                    // [q_len, kv_len]: scores, then weights before dropout
  Counted<bool> keep_;              // [q_len, kv_len]
  std::vector<A> lse_;              // [q_len]
  std::vector<Counted<A>> edited_;  // [q_len, kv_len] for each edit: what it made of the scores
};

}  // namespace

template <class T>
void reference_forward(const Problem<T>& p, const Result<T>& result) {
  const int64_t n_heads = p.heads.n_heads;
  parallel_items(static_cast<int64_t>(p.sequences.size()) * n_heads,
                 [&](int64_t i) { Reference<T>(p, p.sequences[i / n_heads], i % n_heads).forward(result); });
}

template <class T>
void reference_backward(const Problem<T>& p, const Gradients<T>& g) {
  using A = accumulator_t<T>;
  const int64_t kv_heads = p.heads.kv_heads(), group = p.heads.group(), width = p.width, d_v = p.d_v();
  parallel_items(static_cast<int64_t>(p.sequences.size()) * kv_heads, [&](int64_t item) {
    const int64_t index = item / kv_heads, kv_head = item % kv_heads;
    const Sequence<T>& s = p.sequences[index];
    std::vector<A> dk(s.kv_len * width), dv(s.kv_len * d_v);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h)
      Reference<T>(p, s, h).backward(g, index, dk, dv);
    for (int64_t j = 0; j < s.kv_len; ++j) {
      const int64_t row = (s.kv_begin + j) * kv_heads + kv_head;
      if (g.dk)
        for (int64_t d = 0; d < width; ++d) g.dk[row * width + d] = T(dk[j * width + d]);
      for (int64_t d = 0; d < d_v; ++d) g.dv[row * d_v + d] = T(dv[j * d_v + d]);
    }
  });
}

template void reference_forward<double>(const Problem<double>&, const Result<double>&);
template void reference_forward<float>(const Problem<float>&, const Result<float>&);
template void reference_forward<bfloat16>(const Problem<bfloat16>&, const Result<bfloat16>&);
template void reference_backward<double>(const Problem<double>&, const Gradients<double>&);
template void reference_backward<float>(const Problem<float>&, const Gradients<float>&);
template void reference_backward<bfloat16>(const Problem<bfloat16>&, const Gradients<bfloat16>&);

}  // namespace qkv::paths
