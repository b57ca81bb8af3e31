#pragma once
// Elementwise kernels: dropout, sums and products, activations, conversions.

#include <cstdint>

#include "qkv/kernels/rows.h"
#include "qkv/kernels/simd/loops.h"
#include "qkv/kernels/simd/math.h"
#include "qkv/kernels/simd/philox.h"

namespace qkv::kernels::simd {

template <class V, class W, class Halves, class T>
struct Elementwise {
  // kWith: there is a residual. Product and sum are rounded one by one, as ref does, for equal bits.
  template <bool kWith>
  static void dropout_loop(int64_t n, int64_t first, const T* x, const T* residual, const Dropout& dropout,
                           T* y) {
    constexpr int64_t L = V::kLanes;
    const PhiloxKeys keys(dropout.key);
    const V scale = V::set(static_cast<float>(65536.0 / (65536.0 - dropout.threshold)));
    for (int64_t i = 0; i < n; i += 128) {
      const KeptPlaces<V, W, Halves> places(keys, static_cast<uint64_t>(first + i) / 128, dropout.threshold);
      const auto one = [&](int j, auto at) {
        const int64_t o = i + j * L;
        V v = keep(places.keep(j), at.load(x + o) * scale);
        if constexpr (kWith) v = at.load(residual + o) + v;
        at.store(y + o, v);
      };
      if (i + 128 <= n) {
#pragma GCC unroll 16
        for (int j = 0; j < 128 / L; ++j) one(j, Whole<V>{});
      } else {
        for (int j = 0; i + j * L < n; ++j) {
          if (i + (j + 1) * L <= n)
            one(j, Whole<V>{});
          else
            one(j, Part<V>{n - i - j * L});
        }
      }
    }
  }

  [[gnu::flatten]] static void dropout_add(int64_t n, int64_t first, const T* x, const T* residual,
                                           const Dropout& dropout, T* y) noexcept {
    if (dropout.threshold == 0) {  // keeps all, whatever the bits are
      if (residual)
        each<V, 4>(n,
                   [&](int, int64_t i, auto at) { at.store(y + i, at.load(residual + i) + at.load(x + i)); });
      else
        each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, at.load(x + i)); });
    } else if (residual) {
      dropout_loop<true>(n, first, x, residual, dropout, y);
    } else {
      dropout_loop<false>(n, first, x, residual, dropout, y);
    }
  }

  [[gnu::flatten]] static void add(int64_t n, const T* a, const T* b, T* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, at.load(a + i) + at.load(b + i)); });
  }
  [[gnu::flatten]] static void scale(int64_t n, float factor, const T* x, T* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, V::set(factor) * at.load(x + i)); });
  }
  [[gnu::flatten]] static void multiply(int64_t n, const T* a, const T* b, T* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, at.load(a + i) * at.load(b + i)); });
  }

  [[gnu::flatten]] static void activation(int64_t n, Activation f, const T* x, T* y) noexcept {
    with_activation(f, [&]<class F>(F) {
      each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, F::value(at.load(x + i))); });
    });
  }
  [[gnu::flatten]] static void activation_backward(int64_t n, Activation f, const T* dy, const T* pre,
                                                   T* dx) noexcept {
    with_activation(f, [&]<class F>(F) {
      each<V, 4>(n, [&](int, int64_t i, auto at) {
        at.store(dx + i, at.load(dy + i) * F::slope(at.load(pre + i)));
      });
    });
  }

  [[gnu::flatten]] static void from_acc(int64_t n, const float* x, T* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, at.load(x + i)); });
  }
  [[gnu::flatten]] static void to_acc(int64_t n, const T* x, float* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) { at.store(y + i, at.load(x + i)); });
  }
};

}  // namespace qkv::kernels::simd
