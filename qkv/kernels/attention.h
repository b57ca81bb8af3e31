#pragma once
// What the attention paths do to one tile of scores, between the products (which are gemm.h's).
// A tile is [rows, cols] of A = accumulator_t<T>, rows `stride` apart: one query a row, one key a column.
// A masked score is -infinity. docs/math/attention.md derives the formulae.
//
// Every row's arithmetic depends on that row alone, and a masked column adds exactly 0 wherever it stands: so
// a row has the same bits whatever rows are in its tile and whether the keys it may not see are in it or not.

#include <cstdint>

#include "qkv/base/dtype.h"
#include "qkv/kernels/rows.h"

namespace qkv::kernels {

/// One step of the online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867). For each row r, x = scale
/// * s:
///   m' = max(max[r], max_c x[r][c]),  p[r][c] = exp(x[r][c] - m'),  correction[r] = exp(max[r] - m'),
///   sum[r] = sum[r] * correction[r] + sum_c p[r][c],  max[r] = m'.
/// where x is -inf for keys that are not visible. A row that has met no key yet has max = -inf and sum = 0;
/// while it stays so, p = 0 and correction = 1. A score that is NaN makes its row's p there and its sum NaN.
/// The sum is over the values before rounding to T and before dropout.
template <class T>
struct SoftmaxTile {
  using A = accumulator_t<T>;
  int64_t rows = 0, cols = 0;  // cols in 1 .. 64
  const A* s = nullptr;
  int64_t stride = 0;
  A scale = 1;                        // > 0
  const uint64_t* visible = nullptr;  // [rows], bit c: the query sees the key. Null: all
  const uint64_t* keep =
      nullptr;  // [rows], bit c: p[r][c] survives dropout, else it is stored as 0. Null: all
  A *max = nullptr, *sum = nullptr, *correction = nullptr;  // [rows]
  T* p = nullptr;                                           // [rows, cols], rows p_stride apart
  int64_t p_stride = 0;
};

/// What is kept of the softmax of rows: the largest score, and 1 / sum exp(score - max). So weights come
/// again as they were; from max + log(sum) in one number they would be off by its last place, which at scores
/// of 10^4 is 10^-3 and at 10^9 everything. A row that saw no key has -inf and 0.
template <class A>
struct RowSoftmax {
  A *max = nullptr, *share = nullptr;
  explicit operator bool() const { return max != nullptr; }
  RowSoftmax from(int64_t row) const { return {max + row, share + row}; }
};

/// The backward pass's tile, given RowSoftmax's numbers of whole rows and delta[r] = sum_d dout[r][d] *
/// out[r][d]. With k = 1 where keep has the bit, else 0:
///   w = exp(scale * s - max) * share,  p = k w,  ds = w * (k keep_scale dp - delta)
/// p and ds rounded to T; where w is 0 both are 0 whatever dp is, and where a score is -inf whatever max is.
template <class T>
struct SoftmaxTileBackward {
  using A = accumulator_t<T>;
  int64_t rows = 0, cols = 0;  // cols in 1 .. 64
  const A *s = nullptr,
          *dp = nullptr;  // rows `stride` apart; a row whose max is -inf has scores of -inf alone
  int64_t stride = 0;
  A scale = 1;
  const uint64_t *visible = nullptr, *keep = nullptr;
  A keep_scale = 1;
  const A *max = nullptr, *share = nullptr, *delta = nullptr;  // [rows]
  T *p = nullptr, *ds = nullptr;                               // rows p_stride apart
  int64_t p_stride = 0;
  /// Instead of ds: not rounded, rows `stride` apart. It may be dp's own memory.
  A* exact_ds = nullptr;
};

/// Weights that do not compete (Ramapuram et al. 2024, arXiv:2409.04431): with x = scale * s + shift,
///   w = 1 / (1 + exp(-x)),  p = k w
/// and, for the backward pass, ds = w (1 - w) k keep_scale dp; fields as above. Where a key is not visible
/// all are 0.
template <class T>
struct SigmoidTile {
  using A = accumulator_t<T>;
  int64_t rows = 0, cols = 0;  // cols in 1 .. 64
  const A *s = nullptr, *dp = nullptr;
  int64_t stride = 0;
  A scale = 1, shift = 0;
  const uint64_t *visible = nullptr, *keep = nullptr;
  A keep_scale = 1;
  T *p = nullptr, *ds = nullptr;
  int64_t p_stride = 0;
  A* exact_ds = nullptr;
};

/// What rows have gathered from some of their keys by the online softmax: o[r][0..d) = sum_c exp(x[r][c] -
/// max[r]) v[c], rows d apart. A row that has met no key has max = -inf, sum = 0 and o = 0. Weights that do
/// not compete have max = 0 throughout.
template <class A>
struct GatheredRows {
  A *max = nullptr, *sum = nullptr, *o = nullptr;
};

template <class T>
struct AttentionKernels {
  using A = accumulator_t<T>;

  void (*softmax_tile)(const SoftmaxTile<T>&) noexcept = nullptr;
  void (*softmax_tile_backward)(const SoftmaxTileBackward<T>&) noexcept = nullptr;

  void (*sigmoid_tile)(const SigmoidTile<T>&) noexcept = nullptr;
  void (*sigmoid_tile_backward)(const SigmoidTile<T>&) noexcept = nullptr;

  /// s[r][c] += bias[c - r] for c - r from -(rows - 1) to cols - 1: what depends on the distance alone.
  void (*add_diagonals)(int64_t rows, int64_t cols, const A* bias, A* s, int64_t stride) noexcept = nullptr;
  /// sums[c - r] += ds[r][c], rows in order.
  void (*sum_diagonals)(int64_t rows, int64_t cols, const A* ds, int64_t stride, A* sums) noexcept = nullptr;
  /// s' = cap * tanh(s / cap) in place; and ds *= 1 - (s' / cap)^2, given s'. A ds of 0, as a hidden pair's
  /// is, stays 0 even where s' is NaN.
  void (*soft_cap)(int64_t rows, int64_t cols, A cap, A* s, int64_t stride) noexcept = nullptr;
  void (*soft_cap_backward)(int64_t rows, int64_t cols, A cap, const A* s, A* ds,
                            int64_t stride) noexcept = nullptr;

  /// Adds what the rows have gathered from other keys: with m' = max(max, from.max), a = exp(max - m') and
  /// b = exp(from.max - m'), which are exactly 1 where the maxima are equal,
  ///   sum = a sum + b from.sum,  o = a o + b from.o,  max = m'.
  void (*merge_rows)(int64_t rows, int64_t d, const GatheredRows<A>& from,
                     const GatheredRows<A>& into) noexcept = nullptr;
  /// x[r][0..d) *= factor[r]; rows ld apart. A factor of 1 leaves the row untouched.
  void (*scale_rows)(int64_t rows, int64_t d, const A* factor, A* x, int64_t ld) noexcept = nullptr;
  /// y[r][0..d) = x[r][0..d) * factor[r], rounded to T.
  void (*store_rows)(int64_t rows, int64_t d, const A* factor, const A* x, int64_t ldx, T* y,
                     int64_t ldy) noexcept = nullptr;
  /// y[r][0..d) = scale[r * lds] * x[r][0..d), rounded to T: rows stored as whole numbers.
  void (*dequantise_rows)(int64_t rows, int64_t d, const int8_t* x, int64_t ldx, const float* scale,
                          int64_t lds, T* y, int64_t ldy) noexcept = nullptr;
  /// y[r][0..d) = x[r][0..d).
  void (*widen_rows)(int64_t rows, int64_t d, const bfloat16* x, int64_t ldx, T* y,
                     int64_t ldy) noexcept = nullptr;
  /// out[r] = sum_d x[r][d] * y[r][d].
  void (*row_dots)(int64_t rows, int64_t d, const T* x, int64_t ldx, const T* y, int64_t ldy,
                   A* out) noexcept = nullptr;
  /// Whether no element of x [rows, cols] is infinite or NaN: such a value must not reach a row that does not
  /// see it, and 0 * NaN would carry it there.
  bool (*all_finite)(int64_t rows, int64_t cols, const T* x, int64_t ld) noexcept = nullptr;

  /// Which places of dropout groups first, first + step, ... (rows.h) are kept: group i of n fills keep[2 i]
  /// (places 0 .. 63, bit c for place c) and keep[2 i + 1] (places 64 .. 127).
  void (*dropout_keep)(int64_t n, uint64_t first, uint64_t step, const Dropout&,
                       uint64_t* keep) noexcept = nullptr;

  /// The additive score (Bahdanau et al. 2015, arXiv:1409.0473, section A.1.2): s[r][c] = sum_d v[d]
  /// tanh(q[r][d] + k[c][d]).
  void (*additive_tile)(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq, const T* k,
                        int64_t ldk, const A* v, A* s, int64_t stride) noexcept = nullptr;
  /// Given ds [rows, cols]: with t = tanh(q[r][d] + k[c][d]),
  ///   dv[d] += sum_rc ds t,  dq[r][d] += sum_c ds v[d] (1 - t^2),  dk[c][d] += sum_r ds v[d] (1 - t^2).
  /// Pairs (r, c) whose ds is 0 add nothing.
  void (*additive_tile_backward)(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq, const T* k,
                                 int64_t ldk, const A* v, const T* ds, int64_t stride, A* dq, int64_t lddq,
                                 A* dk, int64_t lddk, A* dv) noexcept = nullptr;
};

}  // namespace qkv::kernels
