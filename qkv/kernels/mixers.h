#pragma once
// What the chunked form of linear recurrences (docs/math/mixers.md) does between its products, which are
// gemm.h's. Decays a are numbers in [0, 1]; only products of them are ever taken, so one that underflows is
// a zero and nothing is divided by it.

#include <cstdint>

#include "qkv/base/dtype.h"

namespace qkv::kernels {

/// p[r][c] = weight[r][c] (s[r][c] + bias[r]), rounded to T, and 0 wherever the weight is 0, whatever s is:
/// a key that is not seen may be NaN. sum[r] += sum_c of p before rounding.
template <class T>
struct WeighTile {
  using A = accumulator_t<T>;
  int64_t rows = 0, cols = 0;
  const A *s = nullptr, *weight = nullptr;  // rows `stride` apart
  int64_t stride = 0;
  const A* bias = nullptr;  // [rows], or none
  T* p = nullptr;           // rows p_stride apart
  int64_t p_stride = 0;
  A* sum = nullptr;  // [rows], or none
};

/// Rows times the decays that lie between them and a border, feature by feature: y_r = f_r x_r with
///   f_r = a_0 a_1 ... a_r               the border is before the rows: how a query sees what is older
///   f_r = a_{r+1} ... a_{rows-1}        `to_end`: it is after them: how a key is seen by what is younger
template <class T>
struct DecayRows {
  using A = accumulator_t<T>;
  int64_t rows = 0, d = 0;
  bool to_end = false;
  const A* a = nullptr;
  int64_t lda = 0;
  const T* x = nullptr;
  int64_t ldx = 0;
  T* y = nullptr;
  int64_t ldy = 0;
  A* total = nullptr;  // [d]: a_0 ... a_{rows-1}, or none
};

/// dx_r += f_r dy_r, with f as above; and db_r += y_r dy_r (to_end: -=), the gradient of the log of f_r.
template <class T>
struct DecayRowsBackward {
  using A = accumulator_t<T>;
  int64_t rows = 0, d = 0;
  bool to_end = false;
  const A* a = nullptr;
  int64_t lda = 0;
  const T* y = nullptr;
  int64_t ldy = 0;
  const A* dy = nullptr;
  int64_t lddy = 0;
  A *dx = nullptr, *db = nullptr;  // db may be none
  int64_t lddx = 0, lddb = 0;
};

/// Pairs too near each other for a border between them: for c <= r,
///   s[r][c] = sum_d q_r k_c a_{c+1} ... a_r
/// Above the diagonal s is not written. work: d numbers.
template <class T>
struct DecayedScores {
  using A = accumulator_t<T>;
  int64_t rows = 0, d = 0;
  const T *q = nullptr, *k = nullptr;
  int64_t ldq = 0, ldk = 0;
  const A* a = nullptr;
  int64_t lda = 0;
  A *s = nullptr, *work = nullptr;
  int64_t stride = 0;
};

/// Given ds (c <= r): dq_r += ds k_c a_{c+1} ... a_r, dk_c += ds q_r a_{c+1} ... a_r, and, where db is given,
/// db_r += and db_c -= the pair's part of q_r dq_r, feature by feature. d rows are ldd apart.
template <class T>
struct DecayedScoresBackward {
  using A = accumulator_t<T>;
  int64_t rows = 0, d = 0;
  const T *q = nullptr, *k = nullptr;
  int64_t ldq = 0, ldk = 0;
  const A* a = nullptr;
  int64_t lda = 0;
  const T* ds = nullptr;
  int64_t stride = 0;
  A *dq = nullptr, *dk = nullptr, *db = nullptr;
  int64_t ldd = 0;
};

/// One token of a recurrence: S = diag(a) S + k v^T, then out_h = q_h S for each of `heads` queries.
/// S [d, d_v] is contiguous, out [heads, d_v] too. a_step 0: one decay for all features.
template <class T>
struct MixerStep {
  using A = accumulator_t<T>;
  int64_t d = 0, d_v = 0, heads = 1;
  const A* a = nullptr;  // [d], [1] with a_step 0, or none: 1
  int64_t a_step = 1;
  const T *k = nullptr, *v = nullptr, *q = nullptr;
  int64_t ldq = 0;
  A *s = nullptr, *out = nullptr;
};

template <class T>
struct MixerKernels {
  using A = accumulator_t<T>;

  /// y[r][c] = exp(x[r][c] - shift[r]), rounded to T. shift may be none.
  void (*exp_rows)(int64_t rows, int64_t d, const A* x, int64_t ldx, const A* shift, T* y,
                   int64_t ldy) noexcept = nullptr;
  void (*weigh)(const WeighTile<T>&) noexcept = nullptr;
  void (*decay_rows)(const DecayRows<T>&) noexcept = nullptr;
  void (*decay_rows_backward)(const DecayRowsBackward<T>&) noexcept = nullptr;
  void (*decayed_scores)(const DecayedScores<T>&) noexcept = nullptr;
  void (*decayed_scores_backward)(const DecayedScoresBackward<T>&) noexcept = nullptr;
  void (*step)(const MixerStep<T>&) noexcept = nullptr;
};

}  // namespace qkv::kernels
