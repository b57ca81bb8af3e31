#pragma once
// Vectors of eight 32-bit words for the dense products: transposition and packing (gemm_pack.h).

#include <cstring>

#include "qkv/kernels/simd/gemm_pack.h"
#include "qkv/kernels/simd/vec_avx2.h"

namespace qkv::kernels::avx2 {

/// w[i][j] <-> w[j][i].
[[gnu::always_inline]] inline void transpose8(__m256i (&w)[8]) {
  __m256i t[8];
  for (int i = 0; i < 8; i += 2) {  // 2 x 2 words
    t[i] = _mm256_unpacklo_epi32(w[i], w[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(w[i], w[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {  // 4 x 4
    w[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    w[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    w[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    w[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // 128-bit halves
    t[i] = _mm256_permute2x128_si256(w[i], w[i + 4], 0x20);
    t[i + 4] = _mm256_permute2x128_si256(w[i], w[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) w[i] = t[i];
}

inline __m256i load_words(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m128i load8(const bfloat16* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
/// Two rows of 8 bfloat16 as words: low in the lower halves.
[[gnu::always_inline]] inline __m256i interleave(__m128i low, __m128i high) {
  return _mm256_or_si256(_mm256_cvtepu16_epi32(low), _mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16));
}

struct PackF32 {
  using T = float;
  using Words = __m256i;
  static constexpr int64_t kLanes = 8, kStepK = 1, kPadSteps = 1;
  static const float* f(const void* src, int64_t at) { return static_cast<const float*>(src) + at; }
  static Words from_rows(const void* src, bool, int64_t, int64_t at) { return load_words(f(src, at)); }
  static Words from_column(const void* src, bool, int64_t at) { return load_words(f(src, at)); }
  static void transpose(Words (&w)[8]) { transpose8(w); }
  static void store(uint32_t* dst, Words w) { _mm256_store_si256(reinterpret_cast<__m256i*>(dst), w); }
  static uint32_t word(const void* src, bool, int64_t at, int64_t) {
    uint32_t w;
    std::memcpy(&w, f(src, at), 4);
    return w;
  }
};

struct PackBf16 {
  using T = bfloat16;
  using Words = __m256i;
  static constexpr int64_t kLanes = 8, kStepK = 2, kPadSteps = 1;
  static const float* f(const void* src, int64_t at) { return static_cast<const float*>(src) + at; }
  static const bfloat16* h(const void* src, int64_t at) { return static_cast<const bfloat16*>(src) + at; }

  static __m128i rounded(const void* src, bool is_t, int64_t at) {
    return is_t ? load8(h(src, at)) : Vec::load(f(src, at)).narrow();
  }
  static Words from_rows(const void* src, bool is_t, int64_t row_stride, int64_t at) {
    return interleave(rounded(src, is_t, at), rounded(src, is_t, at + row_stride));
  }
  static Words from_column(const void* src, bool is_t, int64_t at) {
    return _mm256_set_m128i(rounded(src, is_t, at + 8), rounded(src, is_t, at));
  }
  static void transpose(Words (&w)[8]) { transpose8(w); }
  static void store(uint32_t* dst, Words w) { _mm256_store_si256(reinterpret_cast<__m256i*>(dst), w); }
  static uint32_t word(const void* src, bool is_t, int64_t at0, int64_t at1) {
    const auto bits = [&](int64_t at) -> uint32_t {
      return is_t ? h(src, at)->bits : bfloat16(*f(src, at)).bits;
    };
    return bits(at0) | (at1 >= 0 ? bits(at1) << 16 : 0u);
  }
};

}  // namespace qkv::kernels::avx2
