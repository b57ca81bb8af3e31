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

  [[gnu::flatten]] static void sgd(int64_t n, const Sgd& o, const float* g, float* w, float* m) noexcept {
    const V lr = V::set(o.lr), momentum = V::set(o.momentum), decay = V::set(o.decay),
            grad_scale = V::set(o.grad_scale);
    // w - lr (own g' + past m), whichever of the two forms; chosen outside the loop.
    const V own = V::set(o.nesterov ? 1.0f : 0.0f), past = V::set(o.nesterov ? o.momentum : 1.0f);
    if (m == nullptr) {
      each<V, 4>(n, [&](int, int64_t i, auto at) {
        const V wi = at.load(w + i);
        at.store(w + i, fnma(lr, fma(decay, wi, grad_scale * at.load(g + i)), wi));
      });
    } else {
      each<V, 4>(n, [&](int, int64_t i, auto at) {
        const V wi = at.load(w + i), gi = fma(decay, wi, grad_scale * at.load(g + i));
        const V mi = fma(momentum, at.load(m + i), gi);
        at.store(m + i, mi);
        at.store(w + i, fnma(lr, fma(past, mi, own * gi), wi));
      });
    }
  }

  [[gnu::flatten]] static void lion(int64_t n, const Lion& o, const float* g, float* w, float* m) noexcept {
    const V beta1 = V::set(o.beta1), rest1 = V::set(1 - o.beta1), beta2 = V::set(o.beta2),
            rest2 = V::set(1 - o.beta2);
    const V grad_scale = V::set(o.grad_scale), decay = V::set(o.lr * o.decay), zero = V::zero();
    const V up = V::set(o.lr), down = V::set(-o.lr);
    each<V, 4>(n, [&](int, int64_t i, auto at) {
      const V gi = grad_scale * at.load(g + i), wi = at.load(w + i), mi = at.load(m + i);
      const V c = fma(beta1, mi, rest1 * gi);
      const V move = select(zero < c, up, select(c < zero, down, zero));
      at.store(w + i, wi - fma(decay, wi, move));
      at.store(m + i, fma(beta2, mi, rest2 * gi));
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

  [[gnu::flatten]] static void approach(int64_t n, float share, const float* x, float* y) noexcept {
    each<V, 4>(n, [&](int, int64_t i, auto at) {
      const V yi = at.load(y + i);
      at.store(y + i, fma(V::set(share), at.load(x + i) - yi, yi));
    });
  }

  static void put(OptimizerKernels& k) {
    k.adamw = adamw;
    k.sgd = sgd;
    k.lion = lion;
    k.sum_squares = sum_squares;
    k.axpy = axpy;
    k.approach = approach;
  }
};

}  // namespace qkv::kernels::simd
