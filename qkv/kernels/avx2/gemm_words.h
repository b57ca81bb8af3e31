#pragma once
// GemmWords over AVX2: eight 32-bit words. The interface is explained in avx512/gemm_words.h.

#include "qkv/kernels/simd/vec_avx2.h"

namespace qkv::kernels::avx2 {

struct GemmWords {
  static constexpr int64_t kLanes = 8;
  __m256i v;

  static GemmWords zero() { return {_mm256_setzero_si256()}; }
  static GemmWords load(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
  void store(void* p) const { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

  static __m128i halves(const bfloat16* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static __m128i halves(const float* p) { return Vec::load(p).narrow(); }
  [[gnu::always_inline]] static GemmWords pairs(__m128i low, __m128i high) {
    return {_mm256_or_si256(_mm256_cvtepu16_epi32(low), _mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16))};
  }
  static GemmWords joined(__m128i first, __m128i second) { return {_mm256_set_m128i(second, first)}; }

  Vec lower() const { return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16))}; }
  Vec upper() const {
    return {_mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }

  [[gnu::always_inline]] static void transpose(GemmWords (&w)[8]) {
    __m256i t[8];
#pragma GCC unroll 16
    for (int i = 0; i < 8; i += 2) {  // 2 x 2 words
      t[i] = _mm256_unpacklo_epi32(w[i].v, w[i + 1].v);
      t[i + 1] = _mm256_unpackhi_epi32(w[i].v, w[i + 1].v);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 8; i += 4) {  // 4 x 4
      w[i].v = _mm256_unpacklo_epi64(t[i], t[i + 2]);
      w[i + 1].v = _mm256_unpackhi_epi64(t[i], t[i + 2]);
      w[i + 2].v = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
      w[i + 3].v = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {  // 128-bit halves
      t[i] = _mm256_permute2x128_si256(w[i].v, w[i + 4].v, 0x20);
      t[i + 4] = _mm256_permute2x128_si256(w[i].v, w[i + 4].v, 0x31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 8; ++i) w[i].v = t[i];
  }
};

}  // namespace qkv::kernels::avx2
