#pragma once
// What happens to a tile of finished sums on its way to C: bias, copy before the activation, activation,
// rounding. The sums lie in L1 as float, rows `ld` apart, readable to the end of the last vector.

#include <cstdint>

#include "qkv/kernels/gemm.h"
#include "qkv/kernels/simd/math.h"

namespace qkv::kernels {

/// Vec as in simd/; Narrow::store(bfloat16*, Vec[, n]) rounds, Narrow::store(float*, Vec[, n]) just stores.
template <class Vec, class Narrow, class F, class T>
void finish_as(const Gemm<T>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
               int64_t cols) noexcept {
  constexpr int64_t kLanes = Vec::kLanes;
  for (int64_t i = 0; i < rows; ++i) {
    const float* x_row = sums + i * ld;
    const int64_t at = (row0 + i) * g.ldc + col0;
    for (int64_t j = 0; j < cols; j += kLanes) {
      const int64_t n = cols - j;
      Vec x = Vec::load(x_row + j);
      if (n >= kLanes) {
        if (g.accumulate) {
          (Vec::load(g.c_acc + at + j) + x).store(g.c_acc + at + j);
          continue;
        }
        if (g.bias) x = x + Vec::load(g.bias + col0 + j);
        if (g.pre) Narrow::store(g.pre + at + j, x);
        const Vec y = F::value(x);
        if (g.c)
          Narrow::store(g.c + at + j, y);
        else
          y.store(g.c_acc + at + j);
      } else {
        if (g.accumulate) {
          (Vec::load(g.c_acc + at + j, n) + x).store(g.c_acc + at + j, n);
          continue;
        }
        if (g.bias) x = x + Vec::load(g.bias + col0 + j, n);
        if (g.pre) Narrow::store(g.pre + at + j, x, n);
        const Vec y = F::value(x);
        if (g.c)
          Narrow::store(g.c + at + j, y, n);
        else
          y.store(g.c_acc + at + j, n);
      }
    }
  }
}

struct NarrowByVec {
  template <class Vec, class T>
  static void store(T* p, Vec x) {
    x.store(p);
  }
  template <class Vec, class T>
  static void store(T* p, Vec x, int64_t n) {
    x.store(p, n);
  }
};

template <class Vec, class Narrow, class T>
void finish(const Gemm<T>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
            int64_t cols) noexcept {
  const auto as = [&]<class F>(F) { finish_as<Vec, Narrow, F>(g, sums, ld, row0, rows, col0, cols); };
  switch (g.activation) {
    case Activation::kNone:
      return as(simd::Identity{});
    case Activation::kRelu:
      return as(simd::Relu{});
    case Activation::kGelu:
      return as(simd::Gelu{});
    case Activation::kGeluTanh:
      return as(simd::GeluTanh{});
    case Activation::kSilu:
      return as(simd::Silu{});
    case Activation::kTanh:
      return as(simd::Tanh{});
  }
}

}  // namespace qkv::kernels
