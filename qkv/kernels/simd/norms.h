#pragma once
// Layer norm and RMS norm. A row stays in L1 between its passes; the arithmetic is float whatever T is.

#include <cstdint>

#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

template <class V, class T>
struct Norms {
  // 1 / sqrt(s / d + eps)
  static float reciprocal_root(float s, int64_t d, float eps) {
    const float mean = s / static_cast<float>(d) + eps;
    return 1.0f / first_lane(sqrt(V::set(mean)));
  }

  // Rows taken at once: while one row waits for its sum to come together the others keep the units busy. As
  // many as leave their accumulators in registers (32 with AVX-512, 16 with AVX2). No row's arithmetic
  // depends on it.
  static constexpr int kRows = V::kLanes >= 16 ? 4 : 2;

  template <int R>
  static void layer_norm_block(int64_t d, const T* x, const float* gamma, const float* beta, float eps, T* y,
                               float* mean, float* rstd) {
    V sum[R][2], squares[R][2];
    float m[R], s[R];
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = squares[r][0] = squares[r][1] = V::zero();
    each<V, 2>(d, [&](int k, int64_t i, auto at) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r][k] = sum[r][k] + at.load(x + r * d + i);
    });
    for (int r = 0; r < R; ++r) m[r] = reduce_add(sum[r][0] + sum[r][1]) / static_cast<float>(d);

    each<V, 2>(d, [&](int k, int64_t i, auto at) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const V c = at.keep(at.load(x + r * d + i) - V::set(m[r]));
        squares[r][k] = fma(c, c, squares[r][k]);
      }
    });
    for (int r = 0; r < R; ++r) s[r] = reciprocal_root(reduce_add(squares[r][0] + squares[r][1]), d, eps);

    each<V, 1>(d, [&](int, int64_t i, auto at) {
      const V w = at.load(gamma + i), b = at.load(beta + i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        at.store(y + r * d + i, fma((at.load(x + r * d + i) - V::set(m[r])) * V::set(s[r]), w, b));
    });
    for (int r = 0; r < R; ++r) mean[r] = m[r], rstd[r] = s[r];
  }

  [[gnu::flatten]] static void layer_norm(int64_t rows, int64_t d, const T* x, const float* gamma,
                                          const float* beta, float eps, T* y, float* mean,
                                          float* rstd) noexcept {
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows)
      layer_norm_block<kRows>(d, x + r * d, gamma, beta, eps, y + r * d, mean + r, rstd + r);
    for (; r < rows; ++r) layer_norm_block<1>(d, x + r * d, gamma, beta, eps, y + r * d, mean + r, rstd + r);
  }

  // dx = s (g - mean(g) - xhat mean(g xhat)). g is rounded before mean(g) is taken from it, as it was when it
  // entered the mean, or else the difference of a product and itself rounded would be left where they should
  // cancel.
  //
  // dgamma and dbeta are read and written once for R rows; each element of these still receives its rows in
  // ascending order. The sums are taken row by row: four rows at once, as in the forward pass, cost 20 % more
  // (0.160 for 0.133 ns an element, float, d 256, AVX-512).
  template <int R>
  static void layer_norm_backward_block(int64_t d, const T* dy, const T* x, const float* gamma,
                                        const float* mean, const float* rstd, T* dx, float* dgamma,
                                        float* dbeta) {
    float mean_g[R], mean_gx[R];
    for (int r = 0; r < R; ++r) {
      V g[4] = {V::zero(), V::zero(), V::zero(), V::zero()},
        gx[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
      each<V, 4>(d, [&](int k, int64_t i, auto at) {
        const V gi = at.load(dy + r * d + i) * at.load(gamma + i);
        g[k] = g[k] + gi;
        gx[k] = fma(gi, (at.load(x + r * d + i) - V::set(mean[r])) * V::set(rstd[r]), gx[k]);
      });
      mean_g[r] = reduce_add(total(g)) / static_cast<float>(d);
      mean_gx[r] = reduce_add(total(gx)) / static_cast<float>(d);
    }
    each<V, 1>(d, [&](int, int64_t i, auto at) {
      const V w = at.load(gamma + i);
      V wide = at.load(dgamma + i), flat = at.load(dbeta + i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const V gy = at.load(dy + r * d + i), s = V::set(rstd[r]);
        const V xhat = (at.load(x + r * d + i) - V::set(mean[r])) * s;
        wide = fma(gy, xhat, wide);
        flat = flat + gy;
        at.store(dx + r * d + i, s * fnma(xhat, V::set(mean_gx[r]), gy * w - V::set(mean_g[r])));
      }
      at.store(dgamma + i, wide);
      at.store(dbeta + i, flat);
    });
  }

  [[gnu::flatten]] static void layer_norm_backward(int64_t rows, int64_t d, const T* dy, const T* x,
                                                   const float* gamma, const float* mean, const float* rstd,
                                                   T* dx, float* dgamma, float* dbeta) noexcept {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
      layer_norm_backward_block<4>(d, dy + r * d, x + r * d, gamma, mean + r, rstd + r, dx + r * d, dgamma,
                                   dbeta);
    for (; r < rows; ++r)
      layer_norm_backward_block<1>(d, dy + r * d, x + r * d, gamma, mean + r, rstd + r, dx + r * d, dgamma,
                                   dbeta);
  }

  template <int R>
  static void rms_norm_block(int64_t d, const T* x, const float* gamma, float eps, T* y, float* rstd) {
    V squares[R][2];
    float s[R];
    for (int r = 0; r < R; ++r) squares[r][0] = squares[r][1] = V::zero();
    each<V, 2>(d, [&](int k, int64_t i, auto at) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const V xi = at.load(x + r * d + i);
        squares[r][k] = fma(xi, xi, squares[r][k]);
      }
    });
    for (int r = 0; r < R; ++r) s[r] = reciprocal_root(reduce_add(squares[r][0] + squares[r][1]), d, eps);
    each<V, 1>(d, [&](int, int64_t i, auto at) {
      const V w = at.load(gamma + i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) at.store(y + r * d + i, at.load(x + r * d + i) * V::set(s[r]) * w);
    });
    for (int r = 0; r < R; ++r) rstd[r] = s[r];
  }

  [[gnu::flatten]] static void rms_norm(int64_t rows, int64_t d, const T* x, const float* gamma, float eps,
                                        T* y, float* rstd) noexcept {
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows)
      rms_norm_block<kRows>(d, x + r * d, gamma, eps, y + r * d, rstd + r);
    for (; r < rows; ++r) rms_norm_block<1>(d, x + r * d, gamma, eps, y + r * d, rstd + r);
  }

  template <int R>
  static void rms_norm_backward_block(int64_t d, const T* dy, const T* x, const float* gamma,
                                      const float* rstd, T* dx, float* dgamma) {
    float mean_gx[R];
    for (int r = 0; r < R; ++r) {
      V gx[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
      each<V, 4>(d, [&](int k, int64_t i, auto at) {
        gx[k] = fma(at.load(dy + r * d + i) * at.load(gamma + i), at.load(x + r * d + i) * V::set(rstd[r]),
                    gx[k]);
      });
      mean_gx[r] = reduce_add(total(gx)) / static_cast<float>(d);
    }
    each<V, 1>(d, [&](int, int64_t i, auto at) {
      const V w = at.load(gamma + i);
      V wide = at.load(dgamma + i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const V gy = at.load(dy + r * d + i), s = V::set(rstd[r]);
        const V xhat = at.load(x + r * d + i) * s;
        wide = fma(gy, xhat, wide);
        at.store(dx + r * d + i, s * fnma(xhat, V::set(mean_gx[r]), gy * w));
      }
      at.store(dgamma + i, wide);
    });
  }

  [[gnu::flatten]] static void rms_norm_backward(int64_t rows, int64_t d, const T* dy, const T* x,
                                                 const float* gamma, const float* rstd, T* dx,
                                                 float* dgamma) noexcept {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
      rms_norm_backward_block<4>(d, dy + r * d, x + r * d, gamma, rstd + r, dx + r * d, dgamma);
    for (; r < rows; ++r)
      rms_norm_backward_block<1>(d, dy + r * d, x + r * d, gamma, rstd + r, dx + r * d, dgamma);
  }
};

}  // namespace qkv::kernels::simd
