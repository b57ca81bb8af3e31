#pragma once
// Rounding to bfloat16 by vcvtneps2bf16: one instruction where Vec::narrow takes seven. The same bits, except
// that it takes subnormal floats as zeros.

#include "qkv/kernels/simd/vec_avx512.h"

namespace qkv::kernels::avx512 {

struct NarrowBf16 {
  static __m256i rounded(Vec x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x.v)); }
  static void store(bfloat16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(x)); }
  static void store(bfloat16* p, Vec x, int64_t n) {
    _mm256_mask_storeu_epi16(p, Vec::first(n).m, rounded(x));
  }
};

}  // namespace qkv::kernels::avx512
