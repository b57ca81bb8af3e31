#pragma once
// What the blocked attention path does to one tile of scores, between the products (which are gemm.h's).
// A tile is [rows, cols] of A = accumulator_t<T>, rows `stride` apart: one query a row, one key a column.
// A masked score is -infinity. See docs/math/attention.md for the derivation.

#include <cstdint>

#include "qkv/base/dtype.h"

namespace qkv::kernels {

template <class T>
struct AttentionKernels {
  using A = accumulator_t<T>;

  /// One step of the online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867) for each row r:
  ///   m' = max(max[r], max_c s[r][c]),  p[r][c] = exp(s[r][c] - m'),  correction[r] = exp(max[r] - m'),
  ///   sum[r] = sum[r] * correction[r] + sum_c p[r][c],  max[r] = m'.
  /// A row that has met no key yet has max = -inf and sum = 0; while it stays so, p = 0 and correction = 1.
  /// p [rows, cols] of T, rows p_stride apart; columns cols .. p_cols - 1 of p are set to zero (the padding of the next
  /// product). The sum is over the values before rounding to T. Each row's arithmetic depends on that row alone.
  void (*softmax_tile)(int64_t rows, int64_t cols, const A* s, int64_t stride, A* max, A* sum, A* correction, T* p,
                       int64_t p_stride, int64_t p_cols) noexcept = nullptr;

  /// The backward pass's tile, given lse[r] = max + log(sum) of the whole row (-inf: the row saw no key) and
  /// delta[r] = sum_d dout[r][d] * out[r][d]:
  ///   p[r][c] = exp(s[r][c] - lse[r]),  ds[r][c] = p[r][c] * (dp[r][c] - delta[r])
  /// both rounded to T; rows where lse is -inf give zeros. dp is [rows, cols] of A, rows `stride` apart. Columns cols ..
  /// p_cols - 1 of p and ds are zeroed.
  void (*softmax_tile_backward)(int64_t rows, int64_t cols, const A* s, const A* dp, int64_t stride, const A* lse,
                                const A* delta, T* p, T* ds, int64_t p_stride, int64_t p_cols) noexcept = nullptr;

  /// x[r][0..d) *= factor[r]; rows ld apart. A factor of 1 leaves the row untouched.
  void (*scale_rows)(int64_t rows, int64_t d, const A* factor, A* x, int64_t ld) noexcept = nullptr;

  /// The additive score (Bahdanau et al. 2015, arXiv:1409.0473, section A.1.2): s[r][c] = sum_d v[d] tanh(q[r][d] + k[c][d]).
  void (*additive_tile)(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq, const T* k, int64_t ldk, const A* v,
                        A* s, int64_t stride) noexcept = nullptr;
  /// Given ds: with t = tanh(q[r][d] + k[c][d]),
  ///   dv[d] += sum_rc ds t,  dq[r][d] += sum_c ds v[d] (1 - t^2),  dk[c][d] += sum_r ds v[d] (1 - t^2).
  void (*additive_tile_backward)(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq, const T* k, int64_t ldk,
                                 const A* v, const A* ds, int64_t stride, A* dq, int64_t lddq, A* dk, int64_t lddk,
                                 A* dv) noexcept = nullptr;
};

}  // namespace qkv::kernels
