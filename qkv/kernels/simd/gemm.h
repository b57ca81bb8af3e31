#pragma once
// GemmKernels (kernels/gemm.h) over vectors: one source for every family. avx2/gemm.cc and avx512/gemm.cc
// instantiate it with their V = Vec (simd/vec_*.h) and W = GemmWords (gemm_words.h beside them).
//
//   gemm_blocking.h   the loops around the caches
//   gemm_register.h   the tile of C in registers, whose shape follows from V::kLanes and V::kRegisters
//   gemm_epilogue.h   bias, activation and rounding
//   gemm_pack.h, gemm_transpose.h
//   gemm_unpacked.h   few rows, B as it lies
//   gemm_peak.h       the multiply-adds alone
//
// Here stands how elements are multiplied. double stays with ref: it is for references and gradient checks.

#include <cstdint>

#include "qkv/kernels/simd/gemm_pack.h"
#include "qkv/kernels/simd/gemm_peak.h"
#include "qkv/kernels/simd/gemm_register.h"
#include "qkv/kernels/simd/gemm_transpose.h"
#include "qkv/kernels/simd/gemm_unpacked.h"
#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

/// A of either type staged as floats, and an FMA for each k.
template <class V, class Operand>
struct Fma : FloatSums<V, Operand, NarrowByVec> {
  using Left = float;
  static V left(const float* a) { return V::set(*a); }
  static V multiply_add(V a, V b, V sum) { return fma(a, b, sum); }
  static void stage(float* dst, const Operand* src, int64_t k) {
    int64_t p = 0;
    for (; p + V::kLanes <= k; p += V::kLanes) V::load(src + p).store(dst + p);
    if (p < k) V::load(src + p, k - p).store(dst + p);
  }
};

template <class V>
struct FloatFma : Fma<V, float> {
  using Right = float;
  static constexpr int kSubs = 1;
  template <int s>
  static V right(const float* b) {
    return V::load(b);
  }
  template <int s, bool kPart>
  static V right_of_rows(const float* row, const float* /*below*/, int64_t n) {
    return kPart ? V::load(row, n) : V::load(row);
  }
};

/// bfloat16 widened to float: each half of a word of B becomes one by a shift or a mask.
template <class V, class W>
struct WidenedFma : Fma<V, bfloat16> {
  using Right = uint32_t;
  static constexpr int kSubs = 2;
  template <int s>
  static V right(const uint32_t* b) {
    const W words = W::load(b);
    return s == 0 ? words.lower() : words.upper();
  }
  template <int s, bool kPart>
  static V right_of_rows(const bfloat16* row, const bfloat16* below, int64_t n) {
    const bfloat16* from = s == 0 ? row : below;
    return kPart ? V::load(from, n) : V::load(from);
  }
};

template <class Product, class W>
GemmKernels<typename Product::T> gemm_kernels() {
  using T = typename Product::T;
  return {.block_m = RegisterKernel<Product>::kRows,
          .block_n = 2 * W::kLanes,
          .packed_bytes = Pack<T, W>::packed_bytes,
          .pack_b = Pack<T, W>::pack_b,
          .run = run_blocked<RegisterKernel<Product>>,
          .run_unpacked = Unpacked<Product, W>::run,
          .transpose = transpose<T, W>,
          .peak = peak<Product>};
}

}  // namespace qkv::kernels::simd
