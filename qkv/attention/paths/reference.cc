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
  Reference(const Problem<T>& p, const Sequence<T>& s, int64_t head)
      : p_(p),
        s_(s),
        h_(head),
        kv_head_(head / p.heads.group()),
        w_(s.q_len * s.kv_len),
        keep_(w_.size(), true),
        lse_(s.q_len) {
    score();
    normalize();
    draw_dropout();
  }

  void forward(const Result<T>& result) const {
    for (int64_t i = 0; i < s_.q_len; ++i) {
      for (int64_t d = 0; d < p_.d_v(); ++d) {
        A sum = 0;  // a key of weight 0 adds nothing, whatever its value
        for (int64_t j = 0; j < s_.kv_len; ++j)
          if (at(i, j) != 0 && keep_[i * s_.kv_len + j]) sum += at(i, j) * A(p_.value(s_, kv_head_, j)[d]);
        result.out[out_row(i) + d] = T(p_.dropout_scale() * sum);
      }
      if (result.lse) result.lse[h_ * p_.n_q + s_.q_begin + i] = lse_[i];
    }
  }

  // Adds to dk, dv [kv_len, width or d_v] of the key/value head; writes dq.
  void backward(const Gradients<T>& g, std::vector<A>& dk, std::vector<A>& dv, A* d_tanh_v) const {
    const int64_t d_v = p_.d_v(), width = p_.width;
    std::vector<A> dw(s_.kv_len), dq(width);
    for (int64_t i = 0; i < s_.q_len; ++i) {
      const T* dout = g.dout + out_row(i);
      // out = sum_j p_j v_j with p = dropout(w); w = softmax(scores).
      A dot = 0;  // sum_j w_j dw_j
      for (int64_t j = 0; j < s_.kv_len; ++j) {
        dw[j] = 0;
        if (at(i, j) == 0 || !keep_[i * s_.kv_len + j]) continue;
        for (int64_t d = 0; d < d_v; ++d) {
          dw[j] += p_.dropout_scale() * A(dout[d]) * A(p_.value(s_, kv_head_, j)[d]);
          dv[j * d_v + d] += p_.dropout_scale() * at(i, j) * A(dout[d]);
        }
        dot += at(i, j) * dw[j];
      }
      std::fill(dq.begin(), dq.end(), A(0));
      for (int64_t j = 0; j < s_.kv_len; ++j)
        if (at(i, j) != 0) pairing_backward(i, j, at(i, j) * (dw[j] - dot), dq, dk, d_tanh_v);
      if (g.dq)
        for (int64_t d = 0; d < width; ++d)
          g.dq[((s_.q_begin + i) * p_.heads.n_heads + h_) * width + d] = T(dq[d]);
    }
  }

 private:
  A& at(int64_t i, int64_t j) { return w_[i * s_.kv_len + j]; }
  A at(int64_t i, int64_t j) const { return w_[i * s_.kv_len + j]; }
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
        at(i, j) = p_.scale * sum;
      }
    for (const RulePtr& rule : p_.rules)
      rule->apply(ScoreTile<A>{.batch = s_.index,
                               .head = h_,
                               .i0 = s_.past,
                               .j0 = 0,
                               .rows = s_.q_len,
                               .cols = s_.kv_len,
                               .stride = s_.kv_len,
                               .scores = w_.data()});
  }

  // Softmax of each row; a row of -inf alone gives zeros.
  void normalize() {
    constexpr A kNone = -std::numeric_limits<A>::infinity();
    for (int64_t i = 0; i < s_.q_len; ++i) {
      A max = kNone, sum = 0;
      for (int64_t j = 0; j < s_.kv_len; ++j) max = std::max(max, at(i, j));
      for (int64_t j = 0; j < s_.kv_len; ++j)
        sum += at(i, j) = at(i, j) == kNone ? A(0) : std::exp(at(i, j) - max);
      for (int64_t j = 0; j < s_.kv_len; ++j)
        if (sum != 0) at(i, j) /= sum;
      lse_[i] = sum == 0 ? kNone : max + std::log(sum);
    }
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
        d_tanh_v[h_ * p_.width + d] += ds * t;
        dq[d] += dx;
        dk_j[d] += dx;
      }
  }

  const Problem<T>& p_;
  const Sequence<T>& s_;
  const int64_t h_, kv_head_;
  std::vector<A> w_;        // [q_len, kv_len]: scores, then weights before dropout
  std::vector<bool> keep_;  // [q_len, kv_len]
  std::vector<A> lse_;      // [q_len]
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
      Reference<T>(p, s, h).backward(g, dk, dv,
                                     g.d_tanh_v ? g.d_tanh_v + index * p.heads.n_heads * width : nullptr);
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
