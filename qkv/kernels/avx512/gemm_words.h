#pragma once
// GemmWords over AVX-512: sixteen 32-bit words, and what packing and transposition (simd/gemm_pack.h,
// gemm_transpose.h) and widening (simd/gemm.h) ask of them. avx2/gemm_words.h is the same over eight.

// gcc 12 takes the deliberately undefined pass-through of unmasked AVX-512 intrinsics for a mistake (its bug
// 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include "qkv/kernels/simd/vec_avx512.h"

namespace qkv::kernels::avx512 {

struct GemmWords {
  static constexpr int64_t kLanes = 16;
  __m512i v;

  static GemmWords zero() { return {_mm512_setzero_si512()}; }
  static GemmWords load(const void* p) { return {_mm512_loadu_si512(p)}; }
  void store(void* p) const { _mm512_storeu_si512(p, v); }

  /// kLanes bfloat16, rounded if they are not yet.
  static __m256i halves(const bfloat16* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static __m256i halves(const float* p) { return Vec::load(p).narrow(); }
  /// Word j is low[j] in its lower half, high[j] in its upper.
  [[gnu::always_inline]] static GemmWords pairs(__m256i low, __m256i high) {
    // One permutation: widening takes one of its own for each half, then a shift and an or.
    const __m512i even = _mm512_set1_epi32(32 << 16);
    const __m512i words = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i from = _mm512_or_si512(_mm512_or_si512(words, _mm512_slli_epi32(words, 16)), even);
    return {_mm512_permutex2var_epi16(_mm512_castsi256_si512(low), from, _mm512_castsi256_si512(high))};
  }
  /// The 2 kLanes bfloat16 one after the other.
  static GemmWords joined(__m256i first, __m256i second) {
    return {_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1)};
  }

  /// The lower and upper halves, widened.
  Vec lower() const { return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16))}; }
  Vec upper() const {
    return {_mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }

  /// Word j of w[i] <-> word i of w[j].
  [[gnu::always_inline]] static void transpose(GemmWords (&w)[16]) {
    __m512i t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {  // 2 x 2 words
      t[i] = _mm512_unpacklo_epi32(w[i].v, w[i + 1].v);
      t[i + 1] = _mm512_unpackhi_epi32(w[i].v, w[i + 1].v);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {  // 4 x 4
      w[i].v = _mm512_unpacklo_epi64(t[i], t[i + 2]);
      w[i + 1].v = _mm512_unpackhi_epi64(t[i], t[i + 2]);
      w[i + 2].v = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
      w[i + 3].v = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {  // 128-bit quarters: w[i] holds columns i, i + 4, i + 8, i + 12
      t[i] = _mm512_shuffle_i32x4(w[i].v, w[i + 4].v, 0x88);
      t[i + 4] = _mm512_shuffle_i32x4(w[i].v, w[i + 4].v, 0xdd);
      t[i + 8] = _mm512_shuffle_i32x4(w[i + 8].v, w[i + 12].v, 0x88);
      t[i + 12] = _mm512_shuffle_i32x4(w[i + 8].v, w[i + 12].v, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {
      w[i].v = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
      w[i + 8].v = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
      w[i + 4].v = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
      w[i + 12].v = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
  }
};

}  // namespace qkv::kernels::avx512
