#pragma once
// Dense products of 8-bit integers, for running models: Y ~ act(X W^T + bias) with
//
//   w_jk ~ t_j W_jk            W in -127 .. 127
//   x_ik ~ s_i (X_ik - z_i)    X and z in -128 .. 127
//   y_ij = act(s_i t_j sum_k (X_ik - z_i) W_jk + bias_j) + residual_ij
//
// Each output feature j has a scale t_j = max_k |w_jk| / 127, found once. Each token i has a scale s_i and a
// zero point z_i, found as it comes, with which the 256 steps reach from its least number to its largest, and
// 0 is exact: a row that a ReLU leaves has no number below 0, and -127 .. 127 would give it half of the
// steps. As Dettmers et al., "LLM.int8()" (2022), arXiv:2208.07339, sections 2.1 (zero points) and 3.1 (a
// scale for each row and column), without their outliers in 16 bits. Error: w is off by at most half a step,
// 1 / 254 of the largest of its row, and x by 1 / 510 of its row's range.
//
// Kernels sum X_ik W_jk and take off z_i sum_k W_jk, whose second factor is packed beside W. The sums are
// exact in int32 up to kInt8Depth, so every family gives the same bits, but for what activations differ in.

#include <cstdint>

#include "qkv/kernels/gemm.h"

namespace qkv::kernels {

constexpr int64_t kInt8Depth = int64_t{1} << 16;  // the longest k: 2^16 * 255 * 127 < 2^31

constexpr float kInt8Least = 0x1p-100f;  // 1 / scale must not overflow

struct PackInt8 {
  int64_t k = 0, n = 0;
  const int8_t* src = nullptr;  // W [n, k], rows lds apart: element (r, c) of B is src[c * lds + r]
  int64_t lds = 0;
  void* dst = nullptr;             // packed_bytes(k, n) bytes, 64-byte aligned
  int64_t n_begin = 0, n_end = 0;  // the columns to pack; n_begin a multiple of block_n, n_end too or == n
};

/// T is the type of Y: float or bfloat16.
template <class T>
struct Int8Gemm {
  int64_t m = 0, n = 0, k = 0;
  const int8_t* a = nullptr;  // X [m, k], rows lda apart
  int64_t lda = 0;
  const float* a_scales = nullptr;   // s [m]
  const int32_t* a_zeros = nullptr;  // z [m], -128 .. 127
  const void* b = nullptr;           // packed W^T [k, n]
  const float* b_scales = nullptr;   // t [n]
  // The columns of C to compute; n_begin a multiple of block_n, n_end too or == n.
  int64_t n_begin = 0, n_end = 0;
  // c, residual, bias and b_scales point at column 0, whatever n_begin is.
  T* c = nullptr;  // [m, n], rows ldc apart
  int64_t ldc = 0;
  const float* bias = nullptr;  // [n] or none
  Activation activation = Activation::kNone;
  const T* residual = nullptr;  // [m, n], rows ldc apart, or none: added after the activation
};

template <class T>
struct Int8Kernels {
  // Granularity for splitting, as in GemmKernels.
  int64_t block_m = 1, block_n = 1;
  int64_t (*packed_bytes)(int64_t k, int64_t n) noexcept = nullptr;
  void (*pack_b)(const PackInt8& args) noexcept = nullptr;
  /// Any m >= 0, n >= 0, 0 <= k <= kInt8Depth. Reads no byte outside a's rows.
  void (*run)(const Int8Gemm<T>& args) noexcept = nullptr;
  /// q [rows, k], scales [rows] and zeros [rows] as above for X; without zeros (null) as for W. With h >= 0
  /// the largest of a row and l <= 0 the least, every operation in f32:
  ///   X: s = h / 255 - l / 255, z = round(-128 - l (1 / s)), q = round(x (1 / s)) + z within -128 .. 127
  ///   W: s = max(h, -l) / 127,                               q = round(x (1 / s)) within -127 .. 127
  /// rounded to the nearest integer, ties to even. A row below kInt8Least everywhere counts as zeros. A row
  /// with a NaN or an infinity gets zeros and the scale NaN, so all it makes is NaN.
  void (*quantise_rows)(int64_t rows, int64_t k, const T* x, int64_t ldx, int8_t* q, int64_t ldq,
                        float* scales, int32_t* zeros) noexcept = nullptr;
  /// As GemmKernels' peak. steps: below 2^16, where sums of products of 127 fit in 32 bits.
  int64_t (*peak)(int64_t steps, const int8_t* numbers) noexcept = nullptr;
};

}  // namespace qkv::kernels
