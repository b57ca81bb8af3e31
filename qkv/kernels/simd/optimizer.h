#pragma once
// OptimizerKernels over vectors: one pass each, limited by memory.

#include <cstdint>

#include "qkv/kernels/optimizer.h"
#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

template <class V, class Squares>
struct Optimizer {
  // The bias corrections become factors, so that an element costs one root and one quotient.
  [[gnu::flatten]] static void adamw(int64_t n, const AdamW& o, const float* g, float* w, float* m,
                                     float* v) noexcept {
    const V beta1 = V::set(o.beta1), rest1 = V::set(1 - o.beta1), beta2 = V::set(o.beta2),
            rest2 = V::set(1 - o.beta2);
    const V grad_scale = V::set(o.grad_scale), eps = V::set(o.eps), step = V::set(o.lr / o.bias1);
    const V unbias2 = V::set(1 / o.bias2), decay = V::set(o.lr * o.decay);
    each<V, 2>(n, [&](int, int64_t i, auto at) {
      const V gi = grad_scale * at.load(g + i), wi = at.load(w + i);
      const V mi = fma(beta1, at.load(m + i), rest1 * gi);
      const V vi = fma(beta2, at.load(v + i), rest2 * gi * gi);
      at.store(m + i, mi);
      at.store(v + i, vi);
      at.store(w + i, wi - fma(decay, wi, step * mi / (sqrt(vi * unbias2) + eps)));
    });
  }

  [[gnu::flatten]] static double sum_squares(int64_t n, const float* x) noexcept {
    Squares sum[4];
    each<V, 4>(n, [&](int k, int64_t i, auto at) { sum[k].add_square(at.load(x + i)); });
    return (sum[0].total() + sum[1].total()) + (sum[2].total() + sum[3].total());
  }

  [[gnu::flatten]] static void axpy(int64_t n, float factor, const float* x, float* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) {
      at.store(y + i, fma(V::set(factor), at.load(x + i), at.load(y + i)));
    });
  }

  static void put(OptimizerKernels& k) {
    k.adamw = adamw;
    k.sum_squares = sum_squares;
    k.axpy = axpy;
  }
};

}  // namespace qkv::kernels::simd
