#pragma once
// The mixers' kernels (kernels/mixers.h) by vectors of float along the features. V comes from simd/vec_*.h,
// Narrow stores vectors as T (loops.h, avx512_bf16/narrow.h).

#include "qkv/kernels/mixers.h"
#include "qkv/kernels/simd/loops.h"
#include "qkv/kernels/simd/math.h"

namespace qkv::kernels::simd {

template <class V, class Narrow, class T>
struct Mixers {
  static void narrow(T* p, V x, Whole<V>) { Narrow::store(p, x); }
  static void narrow(T* p, V x, Part<V> at) { Narrow::store(p, x, at.n); }

  [[gnu::flatten]] static void exp_rows(int64_t rows, int64_t d, const float* x, int64_t ldx,
                                        const float* shift, T* y, int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
      const V down = V::set(shift ? shift[r] : 0.0f);
      each<V, 1>(d, [&](int, int64_t i, auto at) { narrow(y + i, exp(at.load(x + i) - down), at); });
    }
  }

  [[gnu::flatten]] static void weigh(const WeighTile<T>& t) noexcept {
    for (int64_t r = 0; r < t.rows; ++r) {
      const V bias = V::set(t.bias ? t.bias[r] : 0.0f);
      const float *s = t.s + r * t.stride, *weight = t.weight + r * t.stride;
      T* p = t.p + r * t.p_stride;
      V sum = V::zero();
      each<V, 1>(t.cols, [&](int, int64_t i, auto at) {
        const V w = at.load(weight + i);
        const V x = select(w == V::zero(), V::zero(), w * (at.load(s + i) + bias));
        narrow(p + i, x, at);
        sum = sum + x;  // lanes beyond the end have weight 0
      });
      if (t.sum) t.sum[r] += reduce_add(sum);
    }
  }

  // body(r, factor) for each row.
  template <class Tile, class At, class Body>
  static V walk(const Tile& t, int64_t i, At at, Body&& body) {
    V factor = V::set(1.0f);
    if (t.to_end)
      for (int64_t r = t.rows - 1; r >= 0; --r) {
        body(r, factor);
        factor = factor * at.load(t.a + r * t.lda + i);
      }
    else
      for (int64_t r = 0; r < t.rows; ++r) {
        factor = factor * at.load(t.a + r * t.lda + i);
        body(r, factor);
      }
    return factor;
  }

  [[gnu::flatten]] static void decay_rows(const DecayRows<T>& t) noexcept {
    each<V, 1>(t.d, [&](int, int64_t i, auto at) {
      const V total = walk(t, i, at, [&](int64_t r, V factor) {
        narrow(t.y + r * t.ldy + i, at.load(t.x + r * t.ldx + i) * factor, at);
      });
      if (t.total) at.store(t.total + i, total);
    });
  }

  [[gnu::flatten]] static void decay_rows_backward(const DecayRowsBackward<T>& t) noexcept {
    const V sign = V::set(t.to_end ? -1.0f : 1.0f);
    each<V, 1>(t.d, [&](int, int64_t i, auto at) {
      (void)walk(t, i, at, [&](int64_t r, V factor) {
        const V dy = at.load(t.dy + r * t.lddy + i);
        float* dx = t.dx + r * t.lddx + i;
        at.store(dx, fma(factor, dy, at.load(dx)));
        if (!t.db) return;
        float* db = t.db + r * t.lddb + i;
        at.store(db, fma(sign * at.load(t.y + r * t.ldy + i), dy, at.load(db)));
      });
    });
  }

  [[gnu::flatten]] static void decayed_scores(const DecayedScores<T>& t) noexcept {
    for (int64_t c = 0; c < t.rows; ++c) {
      V own = V::zero();
      each<V, 1>(t.d, [&](int, int64_t i, auto at) {
        const V key = at.load(t.k + c * t.ldk + i);
        at.store(t.work + i, key);
        own = fma(at.load(t.q + c * t.ldq + i), key, own);
      });
      t.s[c * t.stride + c] = reduce_add(own);
      for (int64_t r = c + 1; r < t.rows; ++r) {
        V sum = V::zero();
        each<V, 1>(t.d, [&](int, int64_t i, auto at) {
          const V key = at.load(t.work + i) * at.load(t.a + r * t.lda + i);
          at.store(t.work + i, key);
          sum = fma(at.load(t.q + r * t.ldq + i), key, sum);
        });
        t.s[r * t.stride + c] = reduce_add(sum);
      }
    }
  }

  // Nothing crosses features here: a vector of them at a time.
  [[gnu::flatten]] static void decayed_scores_backward(const DecayedScoresBackward<T>& t) noexcept {
    each<V, 1>(t.d, [&](int, int64_t i, auto at) {
      const auto ds = [&](int64_t r, int64_t c) {
        return V::set(static_cast<float>(t.ds[r * t.stride + c]));
      };
      const auto q = [&](int64_t r) { return at.load(t.q + r * t.ldq + i); };
      const auto a = [&](int64_t r) { return at.load(t.a + r * t.lda + i); };
      const auto add = [&](float* to, V x) { at.store(to, at.load(to) + x); };
      for (int64_t c = 0; c < t.rows; ++c) {
        const V k = at.load(t.k + c * t.ldk + i), own = ds(c, c);
        V key = k;
        add(t.dq + c * t.ldd + i, own * k);
        for (int64_t r = c + 1; r < t.rows; ++r) {
          key = key * a(r);
          const V part = ds(r, c) * key;
          add(t.dq + r * t.ldd + i, part);
          if (t.db) add(t.db + r * t.ldd + i, q(r) * part);
        }
        V query = V::zero();
        for (int64_t r = t.rows - 1; r > c; --r) query = fma(ds(r, c), q(r), query) * a(r);
        add(t.dk + c * t.ldd + i, fma(own, q(c), query));
        if (t.db) add(t.db + c * t.ldd + i, V::zero() - k * query);
      }
    });
  }

  // A vector of values at a time: its outputs stay in registers while S streams by once for each query.
  [[gnu::flatten]] static void step(const MixerStep<T>& t) noexcept {
    each<V, 1>(t.d_v, [&](int, int64_t i, auto at) {
      const V v = at.load(t.v + i);
      for (int64_t h = 0; h < t.heads; ++h) {
        const T* q = t.q + h * t.ldq;
        V out = V::zero();
        for (int64_t d = 0; d < t.d; ++d) {
          float* s = t.s + d * t.d_v + i;
          V x = at.load(s);
          if (h == 0) {
            const V more = V::set(static_cast<float>(t.k[d])) * v;
            x = t.a ? fma(V::set(t.a[d * t.a_step]), x, more) : x + more;
            at.store(s, x);
          }
          out = fma(V::set(static_cast<float>(q[d])), x, out);
        }
        at.store(t.out + h * t.d_v + i, out);
      }
    });
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

}  // namespace qkv::kernels::simd
