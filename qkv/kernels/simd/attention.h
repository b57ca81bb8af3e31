#pragma once
// What attention does to a tile of scores (kernels/attention.h), by vectors of float along the keys. V comes
// from simd/vec_*.h; keep_bits and bits_of, which turn masks to bits and back, from the file that instantiates
// this.
//
// Lane l of a sum holds columns l, l + kLanes, ... in order, and columns beyond the end or masked add +0: so
// a row's sum has the same bits whether its masked columns are in the tile or not.

#include <cstdint>
#include <limits>

#include "qkv/kernels/attention.h"
#include "qkv/kernels/simd/loops.h"
#include "qkv/kernels/simd/math.h"
#include "qkv/kernels/simd/philox.h"

namespace qkv::kernels::simd {

template <class V, class W, class Halves, class T>
struct Attention {
  static constexpr int64_t L = V::kLanes;
  static constexpr float kMasked = -std::numeric_limits<float>::infinity();

  // x where the dropout word has the bit of its column, else 0.
  static V drop(uint64_t word, int64_t c, V x) {
    return keep_bits(static_cast<uint32_t>(word >> c), x);
  }

  template <bool kDropout>
  static void softmax_row(const SoftmaxTile<T>& t, int64_t r) {
    const float* s = t.s + r * t.stride;
    T* p = t.p + r * t.p_stride;
    const V scale = V::set(t.scale);
    V best = V::set(kMasked);
    each<V, 1>(t.cols, [&](int, int64_t c, auto at) {
      best = max(at.or_else(at.load(s + c) * scale, kMasked), best);
    });
    const float before = t.max[r], top = reduce_max(best), now = top > before ? top : before;
    // -inf - -inf is NaN: a row that has seen no key is measured from 0 instead, where exp(-inf) is 0.
    const float base = now == kMasked ? 0 : now;
    const V shift = V::set(base);
    V sum = V::zero();
    const uint64_t word = kDropout ? t.keep[r] : 0;
    each<V, 1>(t.cols, [&](int, int64_t c, auto at) {
      const V e = exp_below_88(at.load(s + c) * scale - shift);
      sum = sum + at.keep(e);
      at.store(p + c, kDropout ? drop(word, c, e) : e);
    });
    const float correction = now == before ? 1.0f : first_lane(exp_below_88(V::set(before - base)));
    t.correction[r] = correction;
    t.sum[r] = t.sum[r] * correction + reduce_add(sum);
    t.max[r] = now;
  }

  [[gnu::flatten]] static void softmax_tile(const SoftmaxTile<T>& t) noexcept {
    if (t.keep)
      for (int64_t r = 0; r < t.rows; ++r) softmax_row<true>(t, r);
    else
      for (int64_t r = 0; r < t.rows; ++r) softmax_row<false>(t, r);
  }

  template <bool kDropout>
  static void softmax_row_backward(const SoftmaxTileBackward<T>& t, int64_t r) {
    const float *s = t.s + r * t.stride, *dp = t.dp + r * t.stride;
    T *p = t.p + r * t.p_stride, *ds = t.ds + r * t.p_stride;
    if (t.lse[r] == kMasked) {
      each<V, 1>(t.cols, [&](int, int64_t c, auto at) {
        at.store(p + c, V::zero());
        at.store(ds + c, V::zero());
      });
      return;
    }
    const V scale = V::set(t.scale), lse = V::set(t.lse[r]), delta = V::set(t.delta[r]),
            keep_scale = V::set(t.keep_scale);
    const uint64_t word = kDropout ? t.keep[r] : 0;
    each<V, 1>(t.cols, [&](int, int64_t c, auto at) {
      const V w = exp_below_88(at.load(s + c) * scale - lse);
      const V scaled = at.load(dp + c) * keep_scale, d = kDropout ? drop(word, c, scaled) : scaled;
      at.store(p + c, kDropout ? drop(word, c, w) : w);
      at.store(ds + c, select(w == V::zero(), V::zero(), w * (d - delta)));
    });
  }

  [[gnu::flatten]] static void softmax_tile_backward(const SoftmaxTileBackward<T>& t) noexcept {
    if (t.keep)
      for (int64_t r = 0; r < t.rows; ++r) softmax_row_backward<true>(t, r);
    else
      for (int64_t r = 0; r < t.rows; ++r) softmax_row_backward<false>(t, r);
  }

  [[gnu::flatten]] static void scale_rows(int64_t rows, int64_t d, const float* factor, float* x,
                                          int64_t ld) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += ld) {
      if (factor[r] == 1) continue;
      const V f = V::set(factor[r]);
      each<V, 1>(d, [&](int, int64_t i, auto at) { at.store(x + i, at.load(x + i) * f); });
    }
  }

  [[gnu::flatten]] static void store_rows(int64_t rows, int64_t d, const float* factor, const float* x,
                                          int64_t ldx, T* y, int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
      const V f = V::set(factor[r]);
      each<V, 1>(d, [&](int, int64_t i, auto at) { at.store(y + i, at.load(x + i) * f); });
    }
  }

  [[gnu::flatten]] static void row_dots(int64_t rows, int64_t d, const T* x, int64_t ldx, const T* y,
                                        int64_t ldy, float* out) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
      V sum = V::zero();
      each<V, 1>(d, [&](int, int64_t i, auto at) { sum = fma(at.load(x + i), at.load(y + i), sum); });
      out[r] = reduce_add(sum);
    }
  }

  [[gnu::flatten]] static bool all_finite(int64_t rows, int64_t cols, const T* x, int64_t ld) noexcept {
    // 0 * x is 0, or NaN where x is not finite; a sum with a NaN in it stays one.
    V sum = V::zero();
    for (int64_t r = 0; r < rows; ++r, x += ld)
      each<V, 1>(cols, [&](int, int64_t i, auto at) { sum = fma(at.load(x + i), V::zero(), sum); });
    return reduce_add(sum) == 0;
  }

  [[gnu::flatten]] static void dropout_keep(int64_t n, uint64_t first, uint64_t step, const Dropout& dropout,
                                            uint64_t* keep) noexcept {
    const PhiloxKeys keys(dropout.key);
    constexpr int kMasks = 64 / L;
    for (int64_t i = 0; i < n; ++i) {
      const KeptPlaces<V, W, Halves> places(keys, first + static_cast<uint64_t>(i) * step, dropout.threshold);
      for (int half = 0; half < 2; ++half) {
        uint64_t word = 0;
#pragma GCC unroll 8
        for (int j = 0; j < kMasks; ++j)
          word |= static_cast<uint64_t>(bits_of(places.keep(half * kMasks + j))) << (j * L);
        keep[2 * i + half] = word;
      }
    }
  }

  // Lanes are features here: each (query, key) pair is a dot product with v.
  [[gnu::flatten]] static void additive_tile(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq,
                                             const T* k, int64_t ldk, const float* v, float* s,
                                             int64_t stride) noexcept {
    for (int64_t r = 0; r < rows; ++r, q += ldq, s += stride)
      for (int64_t c = 0; c < cols; ++c) {
        V sum = V::zero();
        each<V, 1>(d, [&](int, int64_t i, auto at) {
          sum = fma(at.load(v + i), tanh(at.load(q + i) + at.load(k + c * ldk + i)), sum);
        });
        s[c] = reduce_add(sum);
      }
  }

  [[gnu::flatten]] static void additive_tile_backward(int64_t rows, int64_t cols, int64_t d, const T* q,
                                                      int64_t ldq, const T* k, int64_t ldk, const float* v,
                                                      const T* ds, int64_t stride, float* dq, int64_t lddq,
                                                      float* dk, int64_t lddk, float* dv) noexcept {
    // A vector of features at a time, so that its parts of dv and of a row's dq stay in registers.
    each<V, 1>(d, [&](int, int64_t i, auto at) {
      const V v_i = at.load(v + i);
      V dv_i = at.load(dv + i);
      for (int64_t r = 0; r < rows; ++r) {
        const V q_i = at.load(q + r * ldq + i);
        V dq_i = at.load(dq + r * lddq + i);
        for (int64_t c = 0; c < cols; ++c) {
          const float g = static_cast<float>(ds[r * stride + c]);
          if (g == 0) continue;
          const V gain = V::set(g), t = tanh(q_i + at.load(k + c * ldk + i));
          const V dx = gain * v_i * fnma(t, t, V::set(1.0f));
          dv_i = fma(gain, t, dv_i);
          dq_i = dq_i + dx;
          at.store(dk + c * lddk + i, at.load(dk + c * lddk + i) + dx);
        }
        at.store(dq + r * lddq + i, dq_i);
      }
      at.store(dv + i, dv_i);
    });
  }

  static AttentionKernels<T> all() {
    return {.softmax_tile = softmax_tile,
            .softmax_tile_backward = softmax_tile_backward,
            .scale_rows = scale_rows,
            .store_rows = store_rows,
            .row_dots = row_dots,
            .all_finite = all_finite,
            .dropout_keep = dropout_keep,
            .additive_tile = additive_tile,
            .additive_tile_backward = additive_tile_backward};
  }
};

}  // namespace qkv::kernels::simd
