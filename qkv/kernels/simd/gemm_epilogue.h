#pragma once
// What happens to a tile of finished sums on its way to C: bias, copy before the activation, activation,
// residual, rounding; or, on the way back, the derivative of the activation. The sums lie in L1 as float,
// rows `ld` apart, readable to the end of the last vector.

#include <cstdint>

#include "qkv/kernels/gemm.h"
#include "qkv/kernels/simd/math.h"

namespace qkv::kernels::simd {

/// Narrow::store(bfloat16*, Vec[, n]) rounds, Narrow::store(float*, Vec[, n]) just stores (loops.h).
/// kBack: C = sums f'(derivative_at), else what runs forward.
template <class Vec, class Narrow, class F, bool kBack, class T>
void finish_as(const Gemm<T>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
               int64_t cols) noexcept {
  constexpr int64_t kLanes = Vec::kLanes;
  const float* const bias = g.bias ? g.bias + col0 : nullptr;
  const int64_t ldc = g.ldc, first = row0 * ldc + col0;
  T* c = g.c ? g.c + first : nullptr;
  T* pre = g.pre ? g.pre + first : nullptr;
  float* c_acc = g.c_acc ? g.c_acc + first : nullptr;
  // Read beside C: one of them at most.
  const T* beside = kBack ? g.derivative_at + first : g.residual ? g.residual + first : nullptr;
  // `n` is nothing for a whole vector, else the number of columns left.
  const auto vector = [&](int64_t j, auto... n) __attribute__((always_inline)) {
    Vec x = Vec::load(sums + j), y;
    if constexpr (kBack) {
      y = x * F::slope(Vec::load(beside + j, n...));
    } else {
      if (bias) x = x + Vec::load(bias + j, n...);
      if (pre) Narrow::store(pre + j, x, n...);
      y = F::value(x);
      if (beside) y = y + Vec::load(beside + j, n...);
    }
    if (c)
      Narrow::store(c + j, y, n...);
    else
      y.store(c_acc + j, n...);
  };
  for (int64_t i = 0; i < rows; ++i) {
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) vector(j);
    if (j < cols) vector(j, cols - j);
    sums += ld;
    if (c) c += ldc;
    if (pre) pre += ldc;
    if (c_acc) c_acc += ldc;
    if (beside) beside += ldc;
  }
}

/// c_acc += sums.
template <class Vec, class T>
void add_up(const Gemm<T>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
            int64_t cols) noexcept {
  float* c = g.c_acc + row0 * g.ldc + col0;
  for (int64_t i = 0; i < rows; ++i, c += g.ldc, sums += ld) {
    int64_t j = 0;
    for (; j + Vec::kLanes <= cols; j += Vec::kLanes) (Vec::load(c + j) + Vec::load(sums + j)).store(c + j);
    if (j < cols) (Vec::load(c + j, cols - j) + Vec::load(sums + j)).store(c + j, cols - j);
  }
}

template <class Vec, class Narrow, class T>
void finish(const Gemm<T>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
            int64_t cols) noexcept {
  if (g.accumulate) return add_up<Vec>(g, sums, ld, row0, rows, col0, cols);
  with_activation(g.activation, [&]<class F>(F) {
    g.derivative_at ? finish_as<Vec, Narrow, F, true>(g, sums, ld, row0, rows, col0, cols)
                    : finish_as<Vec, Narrow, F, false>(g, sums, ld, row0, rows, col0, cols);
  });
}

}  // namespace qkv::kernels::simd
