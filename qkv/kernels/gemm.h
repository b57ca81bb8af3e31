#pragma once
// Dense products C = act(A B + bias) + residual with B packed beforehand, and what backward passes need of
// them.
//
// Forward  Y [m, n]  = X [m, k]  W^T        : B = W^T, pack once per weight update
// Backward dX [m, k] = dY [m, n] W          : B = W, pack once per weight update
// Backward dW [n, k] += dY^T X              : A = dY^T by transpose(), B = X packed per block of rows,
// accumulate
//
// Each element of C is one sum over k in a fixed order that depends on k alone: not on m, not on which rows
// or columns are computed together. So a row's result does not depend on what else is in the batch, and
// splitting m or n over threads changes no bit.

#include <cstdint>

#include "qkv/base/dtype.h"

namespace qkv::kernels {

/// Applied elementwise to x = a b + bias.
enum class Activation : uint8_t {
  kNone,
  kRelu,      // max(x, 0)
  kGelu,      // x Phi(x), exact (erf)
  kGeluTanh,  // its tanh approximation (GPT-2's gelu_new)
  kSilu,      // x sigmoid(x), also called swish
  kTanh,
  kEluPlusOne,  // x + 1 above 0, e^x below: positive (linear attention's feature map)
};

template <class T>
struct PackB {
  int64_t k = 0, n = 0;
  // Element (r, c) of B [k, n] is src[r * row_stride + c * col_stride]. The source holds masters (A), or
  // activations (T) where src_is_t; for float and double these are the same.
  const void* src = nullptr;
  bool src_is_t = false;
  int64_t row_stride = 0, col_stride = 0;
  void* dst = nullptr;             // packed_bytes(k, n) bytes, 64-byte aligned
  int64_t n_begin = 0, n_end = 0;  // the columns to pack; n_begin a multiple of block_n, n_end too or == n
};

template <class T>
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;  // [m, k], rows lda apart
  int64_t lda = 0;
  const void* b = nullptr;  // packed [k, n]
  int64_t n_begin = 0,
          n_end = 0;  // the columns of C to compute; n_begin a multiple of block_n, n_end too or == n
  int64_t ldc = 0;
  // C, bias, pre, residual and derivative_at point at column 0 of the whole matrix, whatever n_begin is.
  T* c = nullptr;                          // exactly one of c and c_acc is set:
  accumulator_t<T>* c_acc = nullptr;       //   c rounds to T, c_acc keeps the accumulator's type
  bool accumulate = false;                 // c_acc += instead of =, and nothing else
  const accumulator_t<T>* bias = nullptr;  // [n] or none
  Activation activation = Activation::kNone;
  T* pre = nullptr;             // [m, n], rows ldc apart, or none: a b + bias before the activation
  const T* residual = nullptr;  // [m, n], rows ldc apart, or none: added after the activation
  /// [m, n], rows ldc apart, or none: C = (a b) f'(there), the way back through y = f(x): there stands x, of
  /// relu and tanh y. Without bias, pre and residual.
  const T* derivative_at = nullptr;
};

constexpr int64_t kUnpackedDepth = 256;

constexpr int64_t kPeakNumbers = 16384;

/// Memory to fetch towards the caches while a kernel runs, a little with every step: rows of `bytes` bytes,
/// `stride` bytes apart.
struct Ahead {
  const void* at = nullptr;
  int64_t rows = 0, bytes = 0, stride = 0;
};

/// C [m, n] = or += A B for few rows and for B as it lies: the bits that pack_b() and run() give. Where a B
/// is met by a dozen rows once, packing costs more than multiplying.
template <class T>
struct UnpackedGemm {
  int64_t m = 0, n = 0, k = 0;  // k <= kUnpackedDepth
  const T* a = nullptr;         // [m, k], rows lda apart
  int64_t lda = 0;
  // Element (r, c) of B [k, n] is b[r * row_stride + c * col_stride]; one of the strides is 1.
  const T* b = nullptr;
  int64_t row_stride = 0, col_stride = 0;
  Ahead ahead;
  accumulator_t<T>* c = nullptr;  // rows ldc apart
  int64_t ldc = 0;
  bool accumulate = false;
};

template <class T>
struct GemmKernels {
  // Granularity for splitting: rows of C by any number (best in multiples of block_m), columns in multiples
  // of block_n.
  int64_t block_m = 1, block_n = 1;
  int64_t (*packed_bytes)(int64_t k, int64_t n) noexcept = nullptr;
  void (*pack_b)(const PackB<T>& args) noexcept = nullptr;
  /// Any m >= 0, n >= 0, k >= 0 (k = 0 gives the bias alone). Reads no byte outside a's rows. An element of A
  /// or B that is NaN or infinite reaches only its own row or column of C.
  void (*run)(const Gemm<T>& args) noexcept = nullptr;
  /// Null where a family has no way of its own.
  void (*run_unpacked)(const UnpackedGemm<T>& args) noexcept = nullptr;
  /// dst[c * ldd + r] = src[r * lds + c] for r < rows, c < cols.
  void (*transpose)(int64_t rows, int64_t cols, const T* src, int64_t lds, T* dst,
                    int64_t ldd) noexcept = nullptr;
  /// The multiply-adds that run() is made of and nothing else, `steps` rounds of them on operands that stay
  /// in registers (AMX: in L1): the speed of this is the peak to compare run() with. numbers: kPeakNumbers
  /// random ones, 64-byte aligned, since AMX is a fifth to a third faster on zeros. Returns the
  /// floating-point operations done.
  int64_t (*peak)(int64_t steps, const T* numbers) noexcept = nullptr;
};

}  // namespace qkv::kernels
