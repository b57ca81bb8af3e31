#pragma once
// RowKernels over vectors: one source for every family. avx2/rows.cc and avx512/rows.cc instantiate it with
// their Vec.
//
// double stays with ref: it is for references and gradient checks.

#include <cstdint>

#include "qkv/kernels/rows.h"
#include "qkv/kernels/simd/elementwise.h"
#include "qkv/kernels/simd/norms.h"
#include "qkv/kernels/simd/softmax.h"

namespace qkv::kernels::simd {

/// Rows that are picked by number, and sums down columns.
template <class V, class T>
struct Tables {
  [[gnu::flatten]] static void gather(int64_t rows, int64_t d, const float* table, const int32_t* ids,
                                      float scale, const float* plus, const int32_t* plus_rows,
                                      T* y) noexcept {
    for (int64_t r = 0; r < rows; ++r, y += d) {
      const float* from = table + int64_t{ids[r]} * d;
      if (plus) {
        const float* more = plus + int64_t{plus_rows[r]} * d;
        each<V, 4>(d, [&](int, int64_t i, auto at) {
          at.store(y + i, fma(V::set(scale), at.load(from + i), at.load(more + i)));
        });
      } else {
        each<V, 4>(d, [&](int, int64_t i, auto at) { at.store(y + i, V::set(scale) * at.load(from + i)); });
      }
    }
  }

  [[gnu::flatten]] static void scatter_add(int64_t rows, int64_t d, int64_t d_begin, int64_t d_end,
                                           const T* dy, const int32_t* ids, float scale,
                                           float* dtable) noexcept {
    for (int64_t r = 0; r < rows; ++r) {
      const T* from = dy + r * d + d_begin;
      float* to = dtable + int64_t{ids[r]} * d + d_begin;
      each<V, 4>(d_end - d_begin, [&](int, int64_t i, auto at) {
        at.store(to + i, fma(V::set(scale), at.load(from + i), at.load(to + i)));
      });
    }
  }

  // R rows a pass, so that `out` is read and written once for R of them; each column still meets its rows in
  // order.
  template <int R>
  static void add_rows(int64_t cols, const T* x, int64_t ld, float* out) {
    each<V, 1>(cols, [&](int, int64_t c, auto at) {
      V sum = at.load(out + c);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum = sum + at.load(x + r * ld + c);
      at.store(out + c, sum);
    });
  }
  [[gnu::flatten]] static void column_sum(int64_t rows, int64_t cols, const T* x, int64_t ld,
                                          float* out) noexcept {
    int64_t r = 0;
    for (; r + 8 <= rows; r += 8) add_rows<8>(cols, x + r * ld, ld, out);
    for (; r < rows; ++r) add_rows<1>(cols, x + r * ld, ld, out);
  }
};

template <class V, class W, class Halves, class T>
inline void put_rows(RowKernels<T>& k) {
  using N = Norms<V, T>;
  using S = Softmax<V, T>;
  using B = Tables<V, T>;
  using E = Elementwise<V, W, Halves, T>;
  k.layer_norm = N::layer_norm;
  k.layer_norm_backward = N::layer_norm_backward;
  k.rms_norm = N::rms_norm;
  k.rms_norm_backward = N::rms_norm_backward;
  k.softmax = S::softmax;
  k.softmax_backward = S::softmax_backward;
  k.cross_entropy = S::cross_entropy;
  k.gather = B::gather;
  k.scatter_add = B::scatter_add;
  k.column_sum = B::column_sum;
  k.dropout_add = E::dropout_add;
  k.add = E::add;
  k.scale = E::scale;
  k.multiply = E::multiply;
  k.activation = E::activation;
  k.activation_backward = E::activation_backward;
  k.from_acc = E::from_acc;
  k.to_acc = E::to_acc;
}

}  // namespace qkv::kernels::simd
