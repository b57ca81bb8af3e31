#pragma once
// What attention does to a tile of scores (kernels/attention.h), by vectors of float along the keys. V comes
// from simd/vec_*.h; keep_bits, pick_bits and bits_of, which turn masks to bits and back, from the file that
// instantiates this.
//
// Lane l of a sum holds columns l, l + kLanes, ... in order, and columns beyond the end or masked add +0: so
// a row's sum has the same bits whether its masked columns are in the tile or not.

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "qkv/kernels/attention.h"
#include "qkv/kernels/simd/loops.h"
#include "qkv/kernels/simd/math.h"
#include "qkv/kernels/simd/philox.h"

namespace qkv::kernels::simd {

/// 2^x for x <= 127; below -149, -infinity included, exactly 0; NaN stays. Relative error 3e-6 where T is
/// bfloat16 (whose own rounding is 4e-3), else 2e-7.
///   x = n + f, |f| <= 1/2; 2^f is a near-minimax fit with 2^0 = 1, made like those of math.h.
template <class T, class V>
inline V exp2_below_127(V x) {
  x = max(V::set(-160.0f), x);
  const V n = round(x), f = x - n;
  if constexpr (std::is_same_v<T, bfloat16>)
    return scale_by_power(
        polynomial(f, 1.0f, 0.693124193386f, 0.240240986154f, 0.0559064247321f, 0.00958285293863f), n);
  else
    return scale_by_power(polynomial(f, 1.0f, 0.693146977607f, 0.240222420865f, 0.0555073372702f,
                                     0.00967151258013f, 0.0013264732656f),
                          n);
}

/// Narrow stores vectors as T (loops.h, avx512_bf16/narrow.h).
template <class V, class W, class Halves, class Narrow, class T>
struct Attention {
  static constexpr int64_t L = V::kLanes;
  static constexpr float kMasked = -std::numeric_limits<float>::infinity();
  static constexpr float kLog2E = 1.44269504f;

  // x where the word has the bit of its column, else 0, or -inf.
  static V drop(uint64_t word, int64_t c, V x) { return keep_bits(static_cast<uint32_t>(word >> c), x); }
  static V show(uint64_t word, int64_t c, V x) {
    return pick_bits(static_cast<uint32_t>(word >> c), x, V::set(kMasked));
  }

  // What a tile's optional words are: all combinations are instances of their own, so that the usual ones pay
  // nothing for the rest.
  template <class Tile, class Body>
  static void with_words(const Tile& t, Body&& body) {
    if (t.visible)
      t.keep ? body(std::true_type{}, std::true_type{}) : body(std::true_type{}, std::false_type{});
    else
      t.keep ? body(std::false_type{}, std::true_type{}) : body(std::false_type{}, std::false_type{});
  }

  // A row of N vectors, the last of them n lanes long.
  template <int N>
  struct Row {
    int64_t n;
    V load(const float* x, int v, float beyond) const {
      return v + 1 < N ? V::load(x + v * L) : select(V::first(n), V::load(x + v * L, n), V::set(beyond));
    }
    template <class P>
    void store(P* y, int v, V x) const {
      if (v + 1 < N)
        Narrow::store(y + v * L, x);
      else
        Narrow::store(y + v * L, x, n);
    }
    void store_exact(float* y, int v, V x) const { v + 1 < N ? x.store(y + v * L) : x.store(y + v * L, n); }
  };

  // exp(scale s - max) = 2^(scale log2(e) s - log2(e) max): one multiply-subtract. What the second term
  // rounds is common to a row and to all its tiles, so it cancels between weights and sum: up to kFar, where
  // it is 10^-4. Beyond, the difference comes first, of rounded scores, as one would write it: at 2^31 the
  // rounding would be all there is, and masks of the largest float there is are common.
  static constexpr float kFar = 1024;
  static bool far(float max) { return max > kFar || (max < -kFar && max != kMasked); }
  // log2 of what turns weights measured from `low` into such from `high`.
  static float log2_ratio(float low, float high) {
    return far(low) || far(high) ? (low - high) * kLog2E : low * kLog2E - high * kLog2E;
  }
  // body(exponent) with the exponent of 2 that a score has in a row.
  template <class Body>
  [[gnu::always_inline]] static void with_exponent(float scale, float max, Body&& body) {
    if (far(max)) [[unlikely]] {
      const V by = V::set(scale), from = V::set(max), log2e = V::set(kLog2E);
      body([=](V s) { return (s * by - from) * log2e; });
    } else {
      // -inf - -inf is NaN: a row that has seen no key is measured from 0 instead, where exp(-inf) is 0.
      const V factor = V::set(scale * kLog2E), shift = V::set(max == kMasked ? 0 : max * kLog2E);
      body([=](V s) { return fms(s, factor, shift); });
    }
  }

  template <int N, bool kHides, bool kDropout>
  static void softmax_rows(const SoftmaxTile<T>& t) {
    const Row<N> row{t.cols - (N - 1) * L};
    for (int64_t r = 0; r < t.rows; ++r) {
      V x[N];
      V best = V::set(kMasked);
#pragma GCC unroll 8
      for (int v = 0; v < N; ++v) {
        x[v] = row.load(t.s + r * t.stride, v, kMasked);
        if constexpr (kHides) x[v] = show(t.visible[r], v * L, x[v]);
        best = max(x[v], best);
      }
      const float before = t.max[r], top = t.scale * reduce_max(best), now = top > before ? top : before;
      const uint64_t word = kDropout ? t.keep[r] : 0;
      V sum = V::zero();
      with_exponent(
          t.scale, now, [&](auto exponent) __attribute__((always_inline)) {
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) {
              const V e = exp2_below_127<T>(exponent(x[v]));
              sum = sum + e;
              row.store(t.p + r * t.p_stride, v, kDropout ? drop(word, v * L, e) : e);
            }
          });
      float correction = 1;
      if (now != before) correction = first_lane(exp2_below_127<T>(V::set(log2_ratio(before, now))));
      t.correction[r] = correction;
      t.sum[r] = t.sum[r] * correction + reduce_add(sum);
      t.max[r] = now;
    }
  }

  template <int N, bool kHides, bool kDropout, bool kExact>
  static void softmax_rows_backward(const SoftmaxTileBackward<T>& t) {
    const Row<N> row{t.cols - (N - 1) * L};
    const V keep_scale = V::set(t.keep_scale);
    for (int64_t r = 0; r < t.rows; ++r) {
      const V share = V::set(t.share[r]), delta = V::set(t.delta[r]);
      const uint64_t word = kDropout ? t.keep[r] : 0;
      with_exponent(
          t.scale, t.max[r], [&](auto exponent) __attribute__((always_inline)) {
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) {
              V s = row.load(t.s + r * t.stride, v, kMasked);
              if constexpr (kHides) s = show(t.visible[r], v * L, s);
              // What is hidden has weight 0 even where max or share is NaN.
              const V w = select(s == V::set(kMasked), V::zero(), exp2_below_127<T>(exponent(s)) * share);
              const V scaled = row.load(t.dp + r * t.stride, v, 0) * keep_scale,
                      d = kDropout ? drop(word, v * L, scaled) : scaled;
              row.store(t.p + r * t.p_stride, v, kDropout ? drop(word, v * L, w) : w);
              const V ds = select(w == V::zero(), V::zero(), w * (d - delta));
              if constexpr (kExact)
                row.store_exact(t.exact_ds + r * t.stride, v, ds);
              else
                row.store(t.ds + r * t.p_stride, v, ds);
            }
          });
    }
  }

  // 1 / (1 + 2^(-log2(e) x)); what lies below 2^-126, -inf first of all, gives exactly 0.
  template <int N, bool kHides, bool kDropout, bool kBackward>
  static void sigmoid_rows(const SigmoidTile<T>& t) {
    const Row<N> row{t.cols - (N - 1) * L};
    const V factor = V::set(-t.scale * kLog2E), shift = V::set(t.shift * kLog2E), one = V::set(1.0f),
            keep_scale = V::set(t.keep_scale);
    for (int64_t r = 0; r < t.rows; ++r) {
      const uint64_t word = kDropout ? t.keep[r] : 0;
#pragma GCC unroll 8
      for (int v = 0; v < N; ++v) {
        const V s = row.load(t.s + r * t.stride, v, kMasked);
        const V x = fms(s, factor, shift);
        V w = one / (one + exp2_below_127<T>(min(V::set(126.0f), x)));  // min keeps its second NaN
        w = select(V::set(126.0f) <= x, V::zero(), w);
        if constexpr (kHides) w = drop(t.visible[r], v * L, w);
        row.store(t.p + r * t.p_stride, v, kDropout ? drop(word, v * L, w) : w);
        if constexpr (kBackward) {
          const V dp = row.load(t.dp + r * t.stride, v, 0) * keep_scale,
                  dw = kDropout ? drop(word, v * L, dp) : dp;
          const V ds = select(w == V::zero(), V::zero(), w * fnma(w, dw, dw));
          if (t.exact_ds)
            row.store_exact(t.exact_ds + r * t.stride, v, ds);
          else
            row.store(t.ds + r * t.p_stride, v, ds);
        }
      }
    }
  }

  // body(N) with N the number of vectors that hold 1 .. 64 columns.
  template <class Body>
  static void with_vectors(int64_t cols, Body&& body) {
    [&]<int... N>(std::integer_sequence<int, N...>) {
      const int64_t n = (cols + L - 1) / L;
      (void)((n == N + 1 && (body(std::integral_constant<int, N + 1>{}), true)) || ...);
    }
    (std::make_integer_sequence<int, 64 / L>{});
  }

  [[gnu::flatten]] static void softmax_tile(const SoftmaxTile<T>& t) noexcept {
    with_words(t, [&](auto hides, auto drops) {
      with_vectors(t.cols, [&](auto n) { softmax_rows<n(), hides(), drops()>(t); });
    });
  }
  [[gnu::flatten]] static void softmax_tile_backward(const SoftmaxTileBackward<T>& t) noexcept {
    with_words(t, [&](auto hides, auto drops) {
      with_vectors(t.cols, [&](auto n) {
        t.exact_ds ? softmax_rows_backward<n(), hides(), drops(), true>(t)
                   : softmax_rows_backward<n(), hides(), drops(), false>(t);
      });
    });
  }
  [[gnu::flatten]] static void sigmoid_tile(const SigmoidTile<T>& t) noexcept {
    with_words(t, [&](auto hides, auto drops) {
      with_vectors(t.cols, [&](auto n) { sigmoid_rows<n(), hides(), drops(), false>(t); });
    });
  }
  [[gnu::flatten]] static void sigmoid_tile_backward(const SigmoidTile<T>& t) noexcept {
    with_words(t, [&](auto hides, auto drops) {
      with_vectors(t.cols, [&](auto n) { sigmoid_rows<n(), hides(), drops(), true>(t); });
    });
  }

  [[gnu::flatten]] static void add_diagonals(int64_t rows, int64_t cols, const float* bias, float* s,
                                             int64_t stride) noexcept {
    for (int64_t r = 0; r < rows; ++r, s += stride)
      each<V, 1>(cols,
                 [&](int, int64_t c, auto at) { at.store(s + c, at.load(s + c) + at.load(bias + c - r)); });
  }
  [[gnu::flatten]] static void sum_diagonals(int64_t rows, int64_t cols, const float* ds, int64_t stride,
                                             float* sums) noexcept {
    for (int64_t r = 0; r < rows; ++r, ds += stride)
      each<V, 1>(cols, [&](int, int64_t c, auto at) {
        at.store(sums + c - r, at.load(sums + c - r) + at.load(ds + c));
      });
  }

  [[gnu::flatten]] static void soft_cap(int64_t rows, int64_t cols, float cap, float* s,
                                        int64_t stride) noexcept {
    const V up = V::set(cap), down = V::set(1 / cap);
    for (int64_t r = 0; r < rows; ++r, s += stride)
      each<V, 1>(cols, [&](int, int64_t c, auto at) { at.store(s + c, up * tanh(at.load(s + c) * down)); });
  }
  [[gnu::flatten]] static void soft_cap_backward(int64_t rows, int64_t cols, float cap, const float* s,
                                                 float* ds, int64_t stride) noexcept {
    const V down = V::set(1 / cap);
    for (int64_t r = 0; r < rows; ++r, s += stride, ds += stride)
      each<V, 1>(cols, [&](int, int64_t c, auto at) {
        const V share = at.load(s + c) * down, d = at.load(ds + c);
        at.store(ds + c, select(d == V::zero(), d, fnma(share * share, d, d)));
      });
  }

  [[gnu::flatten]] static void merge_rows(int64_t rows, int64_t d, const GatheredRows<float>& from,
                                          const GatheredRows<float>& into) noexcept {
    for (int64_t r = 0; r < rows; ++r) {
      const float one = into.max[r], other = from.max[r], high = one < other ? other : one,
                  low = one < other ? one : other;
      const float less = one == other ? 1 : first_lane(exp2_below_127<T>(V::set(log2_ratio(low, high))));
      const float a = one == high ? 1 : less, b = other == high ? 1 : less;
      into.sum[r] = a * into.sum[r] + b * from.sum[r];
      into.max[r] = high;
      const V keep = V::set(a), add = V::set(b);
      each<V, 1>(d, [&](int, int64_t i, auto at) {
        float* o = into.o + r * d + i;
        at.store(o, fma(add, at.load(from.o + r * d + i), keep * at.load(o)));
      });
    }
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
      int64_t i = 0;
      for (; i + L <= d; i += L) Narrow::store(y + i, V::load(x + i) * f);
      if (i < d) Narrow::store(y + i, V::load(x + i, d - i) * f, d - i);
    }
  }

  // Whole vectors and the rest of a row, as T.
  template <class From>
  static void convert_row(int64_t d, const From* x, V factor, T* y) {
    int64_t i = 0;
    for (; i + L <= d; i += L) Narrow::store(y + i, V::load(x + i) * factor);
    if (i < d) Narrow::store(y + i, V::load(x + i, d - i) * factor, d - i);
  }
  [[gnu::flatten]] static void dequantise_rows(int64_t rows, int64_t d, const int8_t* x, int64_t ldx,
                                               const float* scale, int64_t lds, T* y, int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r) convert_row(d, x + r * ldx, V::set(scale[r * lds]), y + r * ldy);
  }
  [[gnu::flatten]] static void widen_rows(int64_t rows, int64_t d, const bfloat16* x, int64_t ldx, T* y,
                                          int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r) convert_row(d, x + r * ldx, V::set(1), y + r * ldy);
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
    // 0 * x is 0, or NaN where x is not finite; a sum with a NaN in it stays one. Four rows at a time: sums
    // wait for each other.
    V sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * ld)
      each<V, 1>(cols, [&](int, int64_t i, auto at) {
#pragma GCC unroll 4
        for (int64_t k = 0; k < 4; ++k) sum[k] = fma(at.load(x + k * ld + i), V::zero(), sum[k]);
      });
    for (; r < rows; ++r, x += ld)
      each<V, 1>(cols, [&](int, int64_t i, auto at) { sum[0] = fma(at.load(x + i), V::zero(), sum[0]); });
    return reduce_add(total(sum)) == 0;
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
            .sigmoid_tile = sigmoid_tile,
            .sigmoid_tile_backward = sigmoid_tile_backward,
            .add_diagonals = add_diagonals,
            .sum_diagonals = sum_diagonals,
            .soft_cap = soft_cap,
            .soft_cap_backward = soft_cap_backward,
            .merge_rows = merge_rows,
            .scale_rows = scale_rows,
            .store_rows = store_rows,
            .dequantise_rows = dequantise_rows,
            .widen_rows = widen_rows,
            .row_dots = row_dots,
            .all_finite = all_finite,
            .dropout_keep = dropout_keep,
            .additive_tile = additive_tile,
            .additive_tile_backward = additive_tile_backward};
  }
};

}  // namespace qkv::kernels::simd
