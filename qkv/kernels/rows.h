#pragma once
// Row-wise and elementwise kernels. x, y, dx, dy are [rows, d], contiguous, unless strides are given. All
// sums run in A = accumulator_t<T>, in an order that depends on d (or on the rows handed in, for sums over
// rows) alone.

#include <cstdint>

#include "qkv/base/dtype.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/gemm.h"

namespace qkv::kernels {

/// Which elements dropout keeps. Element i belongs to group g = i / 128; with e = i % 128 its 16 random bits
/// are half e % 2 (0 = low) of word e / 32 of random_block(key, 16 g + (e % 32) / 2); it is kept when they
/// are
/// >= threshold = round(p * 65536), and kept values are scaled by 65536 / (65536 - threshold), so that the
/// expectation is exact. (The layout lets 16 Philox blocks fill 128 places without a shuffle.) threshold must
/// be < 65536.
struct Dropout {
  RandomKey key;
  uint32_t threshold = 0;
  static uint32_t threshold_of(double p) { return static_cast<uint32_t>(p * 65536.0 + 0.5); }
  double scale() const { return 65536.0 / (65536.0 - threshold); }
};

template <class T>
struct RowKernels {
  using A = accumulator_t<T>;

  /// y = (x - mean) * rstd * gamma + beta, mean and variance (biased) over d, rstd = 1 / sqrt(var + eps).
  /// mean, rstd [rows] are kept for the backward pass. Ba et al. 2016, arXiv:1607.06450. Two passes over x:
  /// the variance is of (x - mean), not E[x^2] - mean^2.
  void (*layer_norm)(int64_t rows, int64_t d, const T* x, const A* gamma, const A* beta, A eps, T* y, A* mean,
                     A* rstd) noexcept = nullptr;
  /// dx, and dgamma [d] += sum over rows of dy * xhat, dbeta [d] += sum over rows of dy.
  void (*layer_norm_backward)(int64_t rows, int64_t d, const T* dy, const T* x, const A* gamma, const A* mean,
                              const A* rstd, T* dx, A* dgamma, A* dbeta) noexcept = nullptr;

  /// y = x * rstd * gamma, rstd = 1 / sqrt(mean(x^2) + eps). Zhang and Sennrich 2019, arXiv:1910.07467.
  void (*rms_norm)(int64_t rows, int64_t d, const T* x, const A* gamma, A eps, T* y,
                   A* rstd) noexcept = nullptr;
  void (*rms_norm_backward)(int64_t rows, int64_t d, const T* dy, const T* x, const A* gamma, const A* rstd,
                            T* dx, A* dgamma) noexcept = nullptr;

  /// y = softmax over each row of d; a row of -inf only gives zeros. x == y allowed.
  void (*softmax)(int64_t rows, int64_t d, const T* x, T* y) noexcept = nullptr;
  /// dx = y * (dy - sum(dy * y)).
  void (*softmax_backward)(int64_t rows, int64_t d, const T* dy, const T* y, T* dx) noexcept = nullptr;

  /// Cross-entropy with label smoothing of one row of logits [n] against class `target` (Szegedy et al.
  /// 2016):
  ///   q_c = (1 - smoothing) [c == target] + smoothing / n,  loss = -sum_c q_c log softmax(logits)_c
  /// returns loss; *nll = -log softmax(logits)_target; and where dlogits is given
  ///   dlogits_c = scale * (softmax(logits)_c - q_c).
  A (*cross_entropy)
  (int64_t n, const A* logits, int64_t target, A smoothing, A scale, T* dlogits, A* nll) noexcept = nullptr;

  /// y[r] = scale * table[ids[r]] (+ plus[plus_rows[r]] where plus is given). Rows d long; ids are checked by
  /// the caller.
  void (*gather)(int64_t rows, int64_t d, const A* table, const int32_t* ids, A scale, const A* plus,
                 const int32_t* plus_rows, T* y) noexcept = nullptr;
  /// dtable[ids[r]][c] += scale * dy[r][c] for d_begin <= c < d_end, r ascending: threads split d, so the
  /// sum's order is fixed.
  void (*scatter_add)(int64_t rows, int64_t d, int64_t d_begin, int64_t d_end, const T* dy,
                      const int32_t* ids, A scale, A* dtable) noexcept = nullptr;

  /// y_i = (residual_i or 0) + dropout(x)_i, for the n elements whose place numbers are first, first + 1,
  /// ...; first a multiple of 128. Its own backward: apply it to dy. threshold 0 keeps all. y may be x or
  /// residual.
  void (*dropout_add)(int64_t n, int64_t first, const T* x, const T* residual, const Dropout& dropout,
                      T* y) noexcept = nullptr;
  void (*add)(int64_t n, const T* a, const T* b, T* y) noexcept = nullptr;       // y = a + b; y may be a or b
  void (*scale)(int64_t n, A factor, const T* x, T* y) noexcept = nullptr;       // y = factor * x
  void (*multiply)(int64_t n, const T* a, const T* b, T* y) noexcept = nullptr;  // y = a * b

  void (*activation)(int64_t n, Activation f, const T* x, T* y) noexcept = nullptr;
  /// dx = dy * f'(pre). For relu and tanh `pre` may be the output instead: it determines f' as well; tanh
  /// wants the output.
  void (*activation_backward)(int64_t n, Activation f, const T* dy, const T* pre, T* dx) noexcept = nullptr;

  /// out[c] += sum over rows of x[r * ld + c], rows ascending.
  void (*column_sum)(int64_t rows, int64_t cols, const T* x, int64_t ld, A* out) noexcept = nullptr;

  void (*from_acc)(int64_t n, const A* x, T* y) noexcept = nullptr;  // rounds to T
  void (*to_acc)(int64_t n, const T* x, A* y) noexcept = nullptr;
};

}  // namespace qkv::kernels
