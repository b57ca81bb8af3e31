// The definition of the mixers' kernels, for every T: plain loops, sums in order.

#include "qkv/kernels/mixers.h"

#include <cmath>

#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

template <class T>
struct Mixers {
  using A = accumulator_t<T>;

  static void exp_rows(int64_t rows, int64_t d, const A* x, int64_t ldx, const A* shift, T* y,
                       int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < d; ++c)
        y[r * ldy + c] = T(std::exp(x[r * ldx + c] - (shift ? shift[r] : A(0))));
  }

  static void weigh(const WeighTile<T>& t) noexcept {
    for (int64_t r = 0; r < t.rows; ++r) {
      const A bias = t.bias ? t.bias[r] : A(0);
      A sum = 0;
      for (int64_t c = 0; c < t.cols; ++c) {
        const A weight = t.weight[r * t.stride + c];
        const A p = weight == 0 ? A(0) : weight * (t.s[r * t.stride + c] + bias);
        t.p[r * t.p_stride + c] = T(p);
        sum += p;
      }
      if (t.sum) t.sum[r] += sum;
    }
  }

  // f(r, factor) for each row, in the order in which factors grow.
  template <class Tile, class F>
  static A walk(const Tile& t, int64_t c, F&& f) {
    A factor = 1;
    if (t.to_end)
      for (int64_t r = t.rows - 1; r >= 0; --r) {
        f(r, factor);
        factor *= t.a[r * t.lda + c];
      }
    else
      for (int64_t r = 0; r < t.rows; ++r) {
        factor *= t.a[r * t.lda + c];
        f(r, factor);
      }
    return factor;
  }

  static void decay_rows(const DecayRows<T>& t) noexcept {
    for (int64_t c = 0; c < t.d; ++c) {
      const A total =
          walk(t, c, [&](int64_t r, A factor) { t.y[r * t.ldy + c] = T(A(t.x[r * t.ldx + c]) * factor); });
      if (t.total) t.total[c] = total;
    }
  }

  static void decay_rows_backward(const DecayRowsBackward<T>& t) noexcept {
    for (int64_t c = 0; c < t.d; ++c)
      (void)walk(t, c, [&](int64_t r, A factor) {
        const A dy = t.dy[r * t.lddy + c], part = A(t.y[r * t.ldy + c]) * dy;
        t.dx[r * t.lddx + c] += factor * dy;
        if (t.db) t.db[r * t.lddb + c] += t.to_end ? -part : part;
      });
  }

  static void decayed_scores(const DecayedScores<T>& t) noexcept {
    for (int64_t c = 0; c < t.rows; ++c) {
      for (int64_t d = 0; d < t.d; ++d) t.work[d] = A(t.k[c * t.ldk + d]);
      for (int64_t r = c; r < t.rows; ++r) {
        A sum = 0;
        for (int64_t d = 0; d < t.d; ++d) {
          if (r > c) t.work[d] *= t.a[r * t.lda + d];
          sum += A(t.q[r * t.ldq + d]) * t.work[d];
        }
        t.s[r * t.stride + c] = sum;
      }
    }
  }

  static void decayed_scores_backward(const DecayedScoresBackward<T>& t) noexcept {
    for (int64_t d = 0; d < t.d; ++d)
      for (int64_t c = 0; c < t.rows; ++c) {
        const A k = A(t.k[c * t.ldk + d]), own = A(t.ds[c * t.stride + c]);
        A key = k;
        t.dq[c * t.ldd + d] += own * k;
        for (int64_t r = c + 1; r < t.rows; ++r) {
          key *= t.a[r * t.lda + d];
          const A part = A(t.ds[r * t.stride + c]) * key;
          t.dq[r * t.ldd + d] += part;
          if (t.db) t.db[r * t.ldd + d] += A(t.q[r * t.ldq + d]) * part;
        }
        A query = 0;  // sum_{r > c} ds q_r a_{c+1} ... a_r, from the outside in
        for (int64_t r = t.rows - 1; r > c; --r)
          query = (query + A(t.ds[r * t.stride + c]) * A(t.q[r * t.ldq + d])) * t.a[r * t.lda + d];
        t.dk[c * t.ldd + d] += query + own * A(t.q[c * t.ldq + d]);
        if (t.db) t.db[c * t.ldd + d] -= k * query;
      }
  }

  static void step(const MixerStep<T>& t) noexcept {
    for (int64_t i = 0; i < t.heads * t.d_v; ++i) t.out[i] = 0;
    for (int64_t d = 0; d < t.d; ++d) {
      A* s = t.s + d * t.d_v;
      const A a = t.a ? t.a[d * t.a_step] : A(1), k = A(t.k[d]);
      for (int64_t c = 0; c < t.d_v; ++c) s[c] = a * s[c] + k * A(t.v[c]);
      for (int64_t h = 0; h < t.heads; ++h)
        for (int64_t c = 0; c < t.d_v; ++c) t.out[h * t.d_v + c] += A(t.q[h * t.ldq + d]) * s[c];
    }
  }

  static MixerKernels<T> all() {
    return {.exp_rows = exp_rows,
            .weigh = weigh,
            .decay_rows = decay_rows,
            .decay_rows_backward = decay_rows_backward,
            .decayed_scores = decayed_scores,
            .decayed_scores_backward = decayed_scores_backward,
            .step = step};
  }
};

}  // namespace

void extend_mixers_ref(Table& table);

void extend_mixers_ref(Table& table) {
  table.f64.mixers = Mixers<double>::all();
  table.f32.mixers = Mixers<float>::all();
  table.bf16.mixers = Mixers<bfloat16>::all();
}

}  // namespace qkv::kernels
