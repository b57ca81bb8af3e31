#pragma once
// Pieces that the blocked forward and backward passes and the probe share: tiles of keys, and products whose
// right operand may hold values that some rows must not see.

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "qkv/attention/paths/cached_rows.h"
#include "qkv/attention/paths/problem.h"
#include "qkv/attention/paths/scratch.h"

namespace qkv::paths {

// What a row gathers from keys 0 .. kSplit - 1, kSplit .. 2 kSplit - 1, ... is summed split by split and the
// splits merged in order, on every path: so a decode step may give splits to different threads and still has
// the prompt's bits.
constexpr int64_t kSplit = 1024;

/// Rows of activations as the right operand B [rows, cols] of products A B, where A holds exact zeros at
/// masked places. A NaN or infinity in B must reach only those rows whose A is not zero there: 0 * NaN would
/// carry it to all.
template <class T>
struct RightOperand {
  const T* x = nullptr;  // the rows themselves
  int64_t rows = 0, cols = 0, ld = 0;
  const void* packed =
      nullptr;           // with zeros in place of what is not finite. Null: as it lies, and taken for finite
  kernels::Ahead ahead;  // of one as it lies
  bool finite = true;
};

/// Few rows times B [k, n] as it lies; strides and the rest as in kernels/gemm.h.
template <class T>
void multiply_unpacked(const kernels::KernelsFor<T>& kernels, int64_t m, int64_t n, int64_t k, const T* a,
                       int64_t lda, const T* b, int64_t row_stride, int64_t col_stride,
                       const kernels::Ahead& ahead, accumulator_t<T>* c, int64_t ldc, bool accumulate) {
  kernels.gemm.run_unpacked({.m = m,
                             .n = n,
                             .k = k,
                             .a = a,
                             .lda = lda,
                             .b = b,
                             .row_stride = row_stride,
                             .col_stride = col_stride,
                             .ahead = ahead,
                             .c = c,
                             .ldc = ldc,
                             .accumulate = accumulate});
}

/// x [k, n], of T or of its accumulator's type, as the right operand of products of T.
template <class T, class X>
const void* pack(const kernels::GemmKernels<T>& gemm, const X* x, int64_t k, int64_t n, int64_t row_stride,
                 int64_t col_stride, Scratch& scratch) {
  void* dst = scratch.take<std::byte>(gemm.packed_bytes(k, n));
  gemm.pack_b({.k = k,
               .n = n,
               .src = x,
               .src_is_t = std::is_same_v<X, T>,
               .row_stride = row_stride,
               .col_stride = col_stride,
               .dst = dst,
               .n_begin = 0,
               .n_end = n});
  return dst;
}

/// x [rows, cols] as B [rows, cols].
template <class T>
RightOperand<T> right_operand(const kernels::KernelsFor<T>& kernels, const T* x, int64_t rows, int64_t cols,
                              int64_t ld, Scratch& scratch) {
  RightOperand<T> b{.x = x, .rows = rows, .cols = cols, .ld = ld};
  b.finite = kernels.attention.all_finite(rows, cols, x, ld);
  if (b.finite) {
    b.packed = pack(kernels.gemm, x, rows, cols, ld, 1, scratch);
    return b;
  }
  using A = accumulator_t<T>;
  T* clean = scratch.take<T>(rows * cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      clean[r * cols + c] = std::isfinite(A(x[r * ld + c])) ? x[r * ld + c] : T(A(0));
  b.packed = pack(kernels.gemm, clean, rows, cols, cols, 1, scratch);
  return b;
}

/// x [rows, cols] as B = x^T [cols, rows]. What is not finite stays in its own column of the product, so
/// needs no care.
template <class T>
const void* transposed_operand(const kernels::KernelsFor<T>& kernels, const T* x, int64_t rows, int64_t cols,
                               int64_t ld, Scratch& scratch) {
  return pack(kernels.gemm, x, cols, rows, 1, ld, scratch);
}

/// c [m, n] (+)= a [m, k] b, b packed and finite. Rows of c are ldc apart.
template <class T>
void multiply(const kernels::KernelsFor<T>& kernels, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda,
              const void* b, accumulator_t<T>* c, int64_t ldc, bool accumulate) {
  kernels.gemm.run({.m = m,
                    .n = n,
                    .k = k,
                    .a = a,
                    .lda = lda,
                    .b = b,
                    .n_begin = 0,
                    .n_end = n,
                    .ldc = ldc,
                    .c_acc = c,
                    .accumulate = accumulate});
}

/// c [m, b.cols] (+)= a [m, b.rows] b, where a zero of a meets whatever b holds and gives zero.
template <class T>
void multiply(const kernels::KernelsFor<T>& kernels, int64_t m, const T* a, int64_t lda,
              const RightOperand<T>& b, accumulator_t<T>* c, int64_t ldc, bool accumulate) {
  using A = accumulator_t<T>;
  if (!b.packed)
    return multiply_unpacked(kernels, m, b.cols, b.rows, a, lda, b.x, b.ld, 1, b.ahead, c, ldc, accumulate);
  multiply(kernels, m, b.cols, b.rows, a, lda, b.packed, c, ldc, accumulate);
  if (b.finite) return;
  for (int64_t i = 0; i < b.rows; ++i)
    for (int64_t d = 0; d < b.cols; ++d) {
      const A x = A(b.x[i * b.ld + d]);
      if (std::isfinite(x)) continue;
      for (int64_t r = 0; r < m; ++r)
        if (A(a[r * lda + i]) != 0) c[r * ldc + d] += A(a[r * lda + i]) * x;
    }
}

/// y [rows, cols] = factor x, rounded; rows at most kTile.
template <class Kernels, class A, class U>
void store_rows(const Kernels& kernels, int64_t rows, int64_t cols, A factor, const A* x, int64_t ldx, U* y,
                int64_t ldy) {
  A factors[kTile];
  std::fill(factors, factors + rows, factor);
  kernels.store_rows(rows, cols, factors, x, ldx, y, ldy);
}

/// A tile of keys and values of one key/value head.
template <class T>
struct KeyTile {
  int64_t j0 = 0, cols = 0;
  const T* k = nullptr;  // [cols, width], rows k_stride apart
  int64_t k_stride = 0;
  const void* k_packed = nullptr;  // K^T, for kDot. Null: k is read as it lies
  kernels::Ahead ahead;
};

template <class T>
KeyTile<T> key_tile(const Problem<T>& p, const Sequence<T>& s, int64_t kv_head, int64_t j0, int64_t cols,
                    Scratch& scratch) {
  const TileRows<T> k = key_rows(p, s, kv_head, j0, cols, scratch);
  KeyTile<T> tile{.j0 = j0, .cols = cols, .k = k.x, .k_stride = k.ld};
  if (p.kind == Pairing::Kind::kDot)
    tile.k_packed = transposed_operand(*p.kernels, tile.k, cols, p.width, tile.k_stride, scratch);
  return tile;
}

/// Its values.
template <class T>
RightOperand<T> value_tile(const Problem<T>& p, const Sequence<T>& s, int64_t kv_head, int64_t j0,
                           int64_t cols, Scratch& scratch) {
  const TileRows<T> v = value_rows(p, s, kv_head, j0, cols, scratch);
  return right_operand(*p.kernels, v.x, cols, p.d_v(), v.ld, scratch);
}

}  // namespace qkv::paths
