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

  [[gnu::flatten]] static void layer_norm(int64_t rows, int64_t d, const T* x, const float* gamma,
                                          const float* beta, float eps, T* y, float* mean,
                                          float* rstd) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += d, y += d) {
      V sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
      each<V, 4>(d, [&](int k, int64_t i, auto at) { sum[k] = sum[k] + at.load(x + i); });
      const float m = reduce_add(total(sum)) / static_cast<float>(d);

      V squares[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
      each<V, 4>(d, [&](int k, int64_t i, auto at) {
        const V c = at.keep(at.load(x + i) - V::set(m));
        squares[k] = fma(c, c, squares[k]);
      });
      const float s = reciprocal_root(reduce_add(total(squares)), d, eps);

      each<V, 4>(d, [&](int, int64_t i, auto at) {
        const V xhat = (at.load(x + i) - V::set(m)) * V::set(s);
        at.store(y + i, fma(xhat, at.load(gamma + i), at.load(beta + i)));
      });
      mean[r] = m;
      rstd[r] = s;
    }
  }

  // dx = s (g - mean(g) - xhat mean(g xhat)). g is rounded before mean(g) is taken from it, as it was when it
  // entered the mean, or else the difference of a product and itself rounded would be left where they should
  // cancel. R rows at once, so that dgamma and dbeta are read and written once for R of them; each element of
  // these still receives its rows in ascending order.
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

  [[gnu::flatten]] static void rms_norm(int64_t rows, int64_t d, const T* x, const float* gamma, float eps,
                                        T* y, float* rstd) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += d, y += d) {
      V squares[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
      each<V, 4>(d, [&](int k, int64_t i, auto at) {
        const V xi = at.load(x + i);
        squares[k] = fma(xi, xi, squares[k]);
      });
      const float s = reciprocal_root(reduce_add(total(squares)), d, eps);
      each<V, 4>(d, [&](int, int64_t i, auto at) {
        at.store(y + i, at.load(x + i) * V::set(s) * at.load(gamma + i));
      });
      rstd[r] = s;
    }
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
