// The definition of attention: for each sequence and head the whole matrices of scores and weights, plain
// loops in A = accumulator_t<T>, sums in order, one rounding to T at the end. For reading, and for tests to
// compare with.

#include <algorithm>

#include "qkv/attention/paths/problem.h"
#include "qkv/base/parallel.h"

namespace qkv::paths {
namespace {

// Heads h_begin .. h_end - 1 of a sequence: one, or all where they talk. With X the scores of a head,
//
//   S_h = edit(sum_g X_g Pl_gh), masked      W_h = normalizer(S_h)      U_h = sum_g W_g Pw_gh
//   out_h = dropout(U_h) V_h                 (S = X edited and masked, U = W where heads do not talk)
template <class T>
class Reference {
 public:
  using A = accumulator_t<T>;
  Reference(const Problem<T>& p, const Sequence<T>& s, int64_t h_begin, int64_t h_end)
      : p_(p), s_(s), n_(s.q_len * s.kv_len), heads_(static_cast<size_t>(h_end - h_begin)) {
    for (size_t i = 0; i < heads_.size(); ++i) {
      heads_[i].h = h_begin + static_cast<int64_t>(i);
      heads_[i].w = score(heads_[i].h);
    }
    if (p_.mix_scores) {
      for (Head& head : heads_) head.x = head.w;
      mix(p_.mix_scores, &Head::x, &Head::w);
    }
    for (Head& head : heads_) {
      edit(head);
      hide(head);
      normalize(head);
      draw_dropout(head);
    }
    if (p_.mix_weights) {
      for (Head& head : heads_) head.u.resize(n_);
      mix(p_.mix_weights, &Head::w, &Head::u);
    }
  }

  void forward(const Result<T>& result) const {
    for (const Head& head : heads_)
      for (int64_t i = 0; i < s_.q_len; ++i) {
        for (int64_t d = 0; d < p_.d_v(); ++d) {
          A sum = 0;  // a key of weight 0 adds nothing, whatever its value
          for (int64_t j = 0; j < s_.kv_len; ++j)
            if (u(head, i, j) != 0 && keeps(head, i, j)) sum += u(head, i, j) * value(head.h, i, j, d);
          result.out[out_row(head.h, i) + d] = T(p_.dropout_scale() * sum);
        }
        if (!result.rows) continue;
        const auto row = result.rows.from(head.h * p_.n_q + s_.q_begin + i);
        *row.max = head.max[i], *row.share = head.share[i];
      }
  }

  // Adds to dk, dv [kv_len, width or d_v] of each key/value head; writes dq. `index`: of the sequence.
  void backward(const Gradients<T>& g, int64_t index, std::vector<std::vector<A>>& dk,
                std::vector<std::vector<A>>& dv) const {
    std::vector<Counted<A>> ds(heads_.size());  // dL/dU, then dW, dS, dX
    for (size_t n = 0; n < heads_.size(); ++n)
      ds[n] = value_gradients(g, index, heads_[n], dv[kv_head_of(heads_[n].h)]);
    if (p_.mix_weights) mix_backward(p_.mix_weights, &Head::w, ds, g.d_mix_weights.of(index, 0));
    for (size_t n = 0; n < heads_.size(); ++n) score_gradients(g, index, heads_[n], ds[n]);
    if (p_.mix_scores) mix_backward(p_.mix_scores, &Head::x, ds, g.d_mix_scores.of(index, 0));
    for (size_t n = 0; n < heads_.size(); ++n)
      pairing_gradients(g, index, heads_[n].h, ds[n], dk[kv_head_of(heads_[n].h)]);
  }

 private:
  template <class U>
  using Counted =
      std::vector<U, CountedAllocator<U>>;  // what grows with q_len kv_len is seen by memory_use()

  struct Head {
    int64_t h = 0;
    Counted<A> x, w, u;              // [q_len, kv_len]: as above; x and u only where they are mixed
    Counted<bool> keep;              // [q_len, kv_len], or empty: all
    std::vector<A> max, share;       // [q_len]: RowSoftmax's
    std::vector<Counted<A>> edited;  // [q_len, kv_len] for each edit: what it made of the scores
  };

  void normalize(Head& head) const {
    const bool softmax = p_.normalizer->blockwise() == Normalizer::Blockwise::kSoftmax;
    head.max.assign(s_.q_len, A(0)), head.share.assign(s_.q_len, A(1));
    for (int64_t i = 0; i < s_.q_len; ++i) {
      A* row = head.w.data() + at(i, 0);
      if (softmax) {
        A& max = head.max[i] = p_.sink ? p_.sink[head.h] : -std::numeric_limits<A>::infinity();
        for (int64_t j = 0; j < s_.kv_len; ++j) max = std::max(max, row[j]);
      }
      const A sum = p_.normalizer->weights(head.h, s_.kv_len, row);
      if (softmax) head.share[i] = sum == 0 ? A(0) : 1 / sum;
    }
  }

  // use(place, offset of its first score) for all tiles of at most 64 x 64.
  template <class Use>
  void for_each_tile(int64_t h, Use&& use) const {
    for (int64_t i = 0; i < s_.q_len; i += 64)
      for (int64_t j = 0; j < s_.kv_len; j += 64)
        use(TilePlace{.batch = s_.index,
                      .head = h,
                      .i0 = s_.past + i,
                      .j0 = j,
                      .rows = std::min<int64_t>(64, s_.q_len - i),
                      .cols = std::min<int64_t>(64, s_.kv_len - j)},
            i * s_.kv_len + j);
  }

  int64_t at(int64_t i, int64_t j) const { return i * s_.kv_len + j; }
  A u(const Head& head, int64_t i, int64_t j) const { return (p_.mix_weights ? head.u : head.w)[at(i, j)]; }
  bool keeps(const Head& head, int64_t i, int64_t j) const {
    return head.keep.empty() || head.keep[at(i, j)];
  }
  int64_t kv_head_of(int64_t h) const { return h / p_.heads.group(); }
  int64_t relative_index(const Relative<T>& relative, int64_t i, int64_t j) const {
    return relative.row_of(j - (s_.past + i));
  }
  const T* relative_row(const Relative<T>& relative, int64_t h, int64_t i, int64_t j) const {
    return relative.rows + relative_index(relative, i, j) * relative.row_stride + h * relative.head_stride;
  }
  A value(int64_t h, int64_t i, int64_t j, int64_t d) const {
    const A v = A(p_.value(s_, kv_head_of(h), j)[d]);
    return p_.relative_values.rows ? v + A(relative_row(p_.relative_values, h, i, j)[d]) : v;
  }
  int64_t out_row(int64_t h, int64_t i) const { return ((s_.q_begin + i) * p_.heads.n_heads + h) * p_.d_v(); }

  Counted<A> score(int64_t h) const {
    Counted<A> x(n_);
    for (int64_t i = 0; i < s_.q_len; ++i)
      for (int64_t j = 0; j < s_.kv_len; ++j) {
        const T *q = p_.query(s_, h, i), *k = p_.key(s_, kv_head_of(h), j);
        A sum = 0;
        if (p_.kind == Pairing::Kind::kDot)
          for (int64_t d = 0; d < p_.width; ++d) sum += A(q[d]) * A(k[d]);
        if (p_.kind == Pairing::Kind::kTanhSum)
          for (int64_t d = 0; d < p_.width; ++d)
            sum += p_.tanh_v[h * p_.width + d] * std::tanh(A(q[d]) + A(k[d]));
        if (p_.relative_keys.rows) {
          const T *rq = p_.relative_query(s_, h, i), *r = relative_row(p_.relative_keys, h, i, j);
          for (int64_t d = 0; d < p_.width; ++d) sum += A(rq[d]) * A(r[d]);
        }
        x[at(i, j)] = p_.scale * sum;
      }
    return x;
  }

  // to_h = sum_g mixing[g, h] from_g
  void mix(const A* mixing, Counted<A> Head::*from, Counted<A> Head::*to) {
    for (Head& head : heads_)
      for (int64_t n = 0; n < n_; ++n) {
        A sum = 0;
        for (const Head& other : heads_)
          sum += mixing[other.h * p_.heads.n_heads + head.h] * (other.*from)[n];
        (head.*to)[n] = sum;
      }
  }

  // dy_h of each head becomes dx_g = sum_h mixing[g, h] dy_h; d_mixing[g, h] += x_g dy_h. Nothing flows where
  // it would meet only zeros, whatever else is there.
  void mix_backward(const A* mixing, Counted<A> Head::*x, std::vector<Counted<A>>& dy, A* d_mixing) const {
    const int64_t heads = p_.heads.n_heads;
    std::vector<A> dx(heads);
    for (int64_t n = 0; n < n_; ++n) {
      const auto zero = [&](const auto& number) {
        for (int64_t h = 0; h < heads; ++h)
          if (number(h) != 0) return false;
        return true;
      };
      const bool silent =
          zero([&](int64_t h) { return dy[h][n]; }) || zero([&](int64_t h) { return (heads_[h].*x)[n]; });
      for (int64_t g = 0; g < heads; ++g) {
        dx[g] = 0;
        for (int64_t h = 0; h < heads && !silent; ++h) {
          dx[g] += mixing[g * heads + h] * dy[h][n];
          if (d_mixing) d_mixing[g * heads + h] += (heads_[g].*x)[n] * dy[h][n];
        }
      }
      for (int64_t g = 0; g < heads; ++g) dy[g][n] = dx[g];
    }
  }

  void edit(Head& head) const {
    for (const Edit* e : p_.edits) {
      for_each_tile(head.h, [&](const TilePlace& place, int64_t first) {
        e->apply(ScoreTile<A>{place, s_.kv_len, head.w.data() + first, p_.exact});
      });
      head.edited.push_back(head.w);
    }
  }

  void hide(Head& head) const {
    TileMask mask;
    for_each_tile(head.h, [&](const TilePlace& place, int64_t first) {
      const Sight sight = mask.look(p_.masks, place);
      for (int64_t r = 0; r < place.rows; ++r)
        for (int64_t c = 0; c < place.cols; ++c)
          if (sight == Sight::kNone || !mask.shows(r, c))
            head.w[first + r * s_.kv_len + c] = -std::numeric_limits<A>::infinity();
    });
  }

  // A dropout group (kernels/rows.h) is two neighbouring query rows of the batch by 64 keys, in one head.
  void draw_dropout(Head& head) const {
    if (p_.dropout.threshold == 0) return;
    head.keep.resize(n_);
    for (int64_t i = 0; i < s_.q_len; ++i)
      for (int64_t j = 0; j < s_.kv_len; j += 64) {
        const int64_t row = s_.q_begin + i;
        const uint64_t group =
            static_cast<uint64_t>(row / 2 * p_.heads.n_heads + head.h) << 24 | static_cast<uint64_t>(j / 64);
        uint64_t words[2];
        p_.kernels->attention.dropout_keep(1, group, 0, p_.dropout, words);
        for (int64_t c = 0; c < std::min<int64_t>(64, s_.kv_len - j); ++c)
          head.keep[at(i, j + c)] = (words[row % 2] >> c & 1) != 0;
      }
  }

  // out = sum_j p_j v_j with p = dropout(u). dv gets its sum; returns dL/du.
  Counted<A> value_gradients(const Gradients<T>& g, int64_t index, const Head& head,
                             std::vector<A>& dv) const {
    const int64_t d_v = p_.d_v();
    Counted<A> du(n_);
    for (int64_t i = 0; i < s_.q_len; ++i) {
      const T* dout = g.dout + out_row(head.h, i);
      for (int64_t j = 0; j < s_.kv_len; ++j) {
        const bool counts = p_.mix_weights || head.w[at(i, j)] != 0;
        if (!counts || !keeps(head, i, j)) continue;
        const A weight = u(head, i, j);
        for (int64_t d = 0; d < d_v; ++d) {
          du[at(i, j)] += p_.dropout_scale() * A(dout[d]) * value(head.h, i, j, d);
          if (weight == 0) continue;
          dv[j * d_v + d] += p_.dropout_scale() * weight * A(dout[d]);
          if (A* sums = g.d_relative_values.of(index, head.h))
            sums[relative_index(p_.relative_values, i, j) * d_v + d] += weight * A(dout[d]);
        }
      }
    }
    return du;
  }

  // dL/dw becomes dL/d(scores).
  void score_gradients(const Gradients<T>& g, int64_t index, const Head& head, Counted<A>& ds) const {
    for (int64_t i = 0; i < s_.q_len; ++i)
      p_.normalizer->backward(head.h, s_.kv_len, head.w.data() + i * s_.kv_len, ds.data() + i * s_.kv_len,
                              g.d_normalizer.of(index, head.h));
    for (size_t e = p_.edits.size(); e-- > 0;) {
      if (p_.edits[e]->passes_gradients()) continue;
      for_each_tile(head.h, [&](const TilePlace& place, int64_t first) {
        p_.edits[e]->backward(
            ScoreTile<A>{place, s_.kv_len, const_cast<A*>(head.edited[e].data()) + first, p_.exact},
            ds.data() + first, g.d_edits[e].of(index, head.h));
      });
    }
  }

  // A pair without a gradient gives none, whatever its query and key.
  void pairing_gradients(const Gradients<T>& g, int64_t index, int64_t h, const Counted<A>& ds,
                         std::vector<A>& dk) const {
    const int64_t width = p_.width;
    std::vector<A> dq(width), d_relative_q(width);
    for (int64_t i = 0; i < s_.q_len; ++i) {
      std::fill(dq.begin(), dq.end(), A(0));
      std::fill(d_relative_q.begin(), d_relative_q.end(), A(0));
      for (int64_t j = 0; j < s_.kv_len; ++j) {
        const A one = ds[at(i, j)];
        if (one == 0) continue;
        if (p_.relative_keys.rows)
          relative_gradients(i, j, h, one, g.d_relative_q ? d_relative_q : dq,
                             g.d_relative_keys.of(index, h));
        pair_gradients(i, j, h, one, dq, dk, g.d_tanh_v.of(index, h));
      }
      const int64_t row = ((s_.q_begin + i) * p_.heads.n_heads + h) * width;
      for (int64_t d = 0; d < width; ++d) {
        if (g.dq) g.dq[row + d] = T(dq[d]);
        if (g.d_relative_q) g.d_relative_q[row + d] = T(d_relative_q[d]);
      }
    }
  }

  void relative_gradients(int64_t i, int64_t j, int64_t h, A ds, std::vector<A>& dq, A* sums) const {
    const T *rq = p_.relative_query(s_, h, i), *r = relative_row(p_.relative_keys, h, i, j);
    const int64_t first = relative_index(p_.relative_keys, i, j) * p_.width;
    for (int64_t d = 0; d < p_.width; ++d) {
      dq[d] += p_.scale * ds * A(r[d]);
      if (sums) sums[first + d] += ds * A(rq[d]);
    }
  }

  void pair_gradients(int64_t i, int64_t j, int64_t h, A ds, std::vector<A>& dq, std::vector<A>& dk,
                      A* d_tanh_v) const {
    const T *q = p_.query(s_, h, i), *k = p_.key(s_, kv_head_of(h), j);
    A* dk_j = dk.data() + j * p_.width;
    if (p_.kind == Pairing::Kind::kDot)
      for (int64_t d = 0; d < p_.width; ++d) {
        dq[d] += p_.scale * ds * A(k[d]);
        dk_j[d] += p_.scale * ds * A(q[d]);
      }
    if (p_.kind == Pairing::Kind::kTanhSum)
      for (int64_t d = 0; d < p_.width; ++d) {
        const A t = std::tanh(A(q[d]) + A(k[d])), dx = ds * p_.tanh_v[h * p_.width + d] * (1 - t * t);
        d_tanh_v[d] += ds * t;
        dq[d] += dx;
        dk_j[d] += dx;
      }
  }

  const Problem<T>& p_;
  const Sequence<T>& s_;
  const int64_t n_;  // pairs
  std::vector<Head> heads_;
};

}  // namespace

template <class T>
void reference_forward(const Problem<T>& p, const Result<T>& result) {
  const int64_t n_heads = p.heads.n_heads, together = p.talks() ? n_heads : 1, items = n_heads / together;
  parallel_items(static_cast<int64_t>(p.sequences.size()) * items, [&](int64_t item) {
    const int64_t h = item % items * together;
    Reference<T>(p, p.sequences[item / items], h, h + together).forward(result);
  });
}

template <class T>
void reference_backward(const Problem<T>& p, const Gradients<T>& g) {
  using A = accumulator_t<T>;
  const int64_t n_heads = p.heads.n_heads, kv_heads = p.heads.kv_heads(), width = p.width, d_v = p.d_v();
  parallel_items(static_cast<int64_t>(p.sequences.size()), [&](int64_t index) {
    const Sequence<T>& s = p.sequences[index];
    std::vector<std::vector<A>> dk(kv_heads, std::vector<A>(s.kv_len * width)),
        dv(kv_heads, std::vector<A>(s.kv_len * d_v));
    const int64_t together = p.talks() ? n_heads : 1;
    for (int64_t h = 0; h < n_heads; h += together)
      Reference<T>(p, s, h, h + together).backward(g, index, dk, dv);
    for (int64_t kv_head = 0; kv_head < kv_heads; ++kv_head)
      for (int64_t j = 0; j < s.kv_len; ++j) {
        const int64_t row = (s.kv_begin + j) * kv_heads + kv_head;
        if (g.dk)
          for (int64_t d = 0; d < width; ++d) g.dk[row * width + d] = T(dk[kv_head][j * width + d]);
        for (int64_t d = 0; d < d_v; ++d) g.dv[row * d_v + d] = T(dv[kv_head][j * d_v + d]);
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
