// The dense product as it is defined: B packed is B rounded to T, row-major; every element of C is one sum
// over k in ascending order in A = accumulator_t<T> (double for double, float for float and bfloat16),
// product and sum rounded separately. A product of two bfloat16 is exact in float, so only the sum rounds
// there.

#include <algorithm>
#include <type_traits>

#include "qkv/kernels/ref/activation.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

constexpr int64_t kBlockN =
    16;  // columns summed at a time: A and B are then read in order, and gcc vectorises

template <class T>
int64_t packed_bytes(int64_t k, int64_t n) noexcept {
  return k * n * static_cast<int64_t>(sizeof(T));
}

template <class T>
void pack_b(const PackB<T>& args) noexcept {
  using A = accumulator_t<T>;
  T* dst = static_cast<T*>(args.dst);
  for (int64_t r = 0; r < args.k; ++r)
    for (int64_t c = args.n_begin; c < args.n_end; ++c) {
      const int64_t at = r * args.row_stride + c * args.col_stride;
      dst[r * args.n + c] = args.src_is_t ? static_cast<const T*>(args.src)[at]
                                          : static_cast<T>(static_cast<const A*>(args.src)[at]);
    }
}

template <class T>
void run(const Gemm<T>& args) noexcept {
  using A = accumulator_t<T>;
  const T* b = static_cast<const T*>(args.b);
  for (int64_t i = 0; i < args.m; ++i)
    for (int64_t j0 = args.n_begin; j0 < args.n_end; j0 += kBlockN) {
      const int64_t cols = std::min(kBlockN, args.n_end - j0);
      A sum[kBlockN] = {};
      for (int64_t p = 0; p < args.k; ++p) {
        const A a = args.a[i * args.lda + p];
        for (int64_t j = 0; j < cols; ++j) sum[j] += a * static_cast<A>(b[p * args.n + j0 + j]);
      }
      for (int64_t j = 0; j < cols; ++j) {
        const int64_t col = j0 + j, at = i * args.ldc + col;
        if (args.accumulate) {
          args.c_acc[at] += sum[j];
          continue;
        }
        if (args.derivative_at) sum[j] *= ref::derivative(args.activation, A(args.derivative_at[at]));
        const A x = args.bias ? sum[j] + args.bias[col] : sum[j];
        if (args.pre) args.pre[at] = static_cast<T>(x);
        A y = args.derivative_at ? x : ref::activate(args.activation, x);
        if (args.residual) y += A(args.residual[at]);
        if (args.c)
          args.c[at] = static_cast<T>(y);
        else
          args.c_acc[at] = y;
      }
    }
}

template <class T>
void transpose(int64_t rows, int64_t cols, const T* src, int64_t lds, T* dst, int64_t ldd) noexcept {
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t r = 0; r < rows; ++r) dst[c * ldd + r] = src[r * lds + c];
}

template <class T>
int64_t peak(int64_t steps, const T* numbers) noexcept {
  using A = accumulator_t<T>;
  A sum[kBlockN] = {}, b[kBlockN];
  for (int64_t j = 0; j < kBlockN; ++j) b[j] = static_cast<A>(numbers[j]);
  const A a = static_cast<A>(numbers[kBlockN]);
  for (int64_t s = 0; s < steps; ++s) {
    asm volatile("" : "+m"(b));  // the compiler would compute the products once
    for (int64_t j = 0; j < kBlockN; ++j) sum[j] += a * b[j];
  }
  asm volatile("" : : "r"(sum) : "memory");  // as if someone read the sums
  return 2 * steps * kBlockN;
}

template <class T>
GemmKernels<T> kernels() {
  return {.block_m = 1,
          .block_n = kBlockN,
          .packed_bytes = packed_bytes<T>,
          .pack_b = pack_b<T>,
          .run = run<T>,
          .transpose = transpose<T>,
          .peak = peak<T>};
}

}  // namespace

void extend_gemm_ref(Table& table) {
  table.f64.gemm = kernels<double>();
  table.f32.gemm = kernels<float>();
  table.bf16.gemm = kernels<bfloat16>();
}

}  // namespace qkv::kernels
