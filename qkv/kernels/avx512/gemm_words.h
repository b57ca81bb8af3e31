#pragma once
// Vectors of sixteen 32-bit words for the dense products: transposition and packing (gemm_pack.h).

#include <cstring>

// gcc 12 takes the deliberately undefined pass-through of unmasked AVX-512 intrinsics for a mistake (its bug
// 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include "qkv/kernels/simd/gemm_pack.h"
#include "qkv/kernels/simd/vec_avx512.h"

namespace qkv::kernels::avx512 {

/// w[i][j] <-> w[j][i].
[[gnu::always_inline]] inline void transpose16(__m512i (&w)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {  // 2 x 2 words
    t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // 4 x 4
    w[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    w[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    w[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    w[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // 128-bit quarters: w[i] holds columns i, i + 4, i + 8, i + 12
    t[i] = _mm512_shuffle_i32x4(w[i], w[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(w[i], w[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(w[i + 8], w[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(w[i + 8], w[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    w[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    w[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    w[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    w[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/// Two rows of 16 bfloat16 as words: low in the lower halves.
[[gnu::always_inline]] inline __m512i interleave(__m256i low, __m256i high) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}
inline __m256i load16(const bfloat16* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

struct PackF32 {
  using T = float;
  using Words = __m512i;
  static constexpr int64_t kLanes = 16, kStepK = 1, kPadSteps = 1;
  static const float* f(const void* src, int64_t at) { return static_cast<const float*>(src) + at; }
  static Words from_rows(const void* src, bool, int64_t, int64_t at) {
    return _mm512_loadu_si512(f(src, at));
  }
  static Words from_column(const void* src, bool, int64_t at) { return _mm512_loadu_si512(f(src, at)); }
  static void transpose(Words (&w)[16]) { transpose16(w); }
  static void store(uint32_t* dst, Words w) { _mm512_store_si512(dst, w); }
  static uint32_t word(const void* src, bool, int64_t at, int64_t) {
    uint32_t w;
    std::memcpy(&w, f(src, at), 4);
    return w;
  }
};

struct PackBf16 {
  using T = bfloat16;
  using Words = __m512i;
  static constexpr int64_t kLanes = 16, kStepK = 2, kPadSteps = 1;
  static const float* f(const void* src, int64_t at) { return static_cast<const float*>(src) + at; }
  static const bfloat16* h(const void* src, int64_t at) { return static_cast<const bfloat16*>(src) + at; }

  static __m256i rounded(const void* src, bool is_t, int64_t at) {
    return is_t ? load16(h(src, at)) : Vec::load(f(src, at)).narrow();
  }
  static Words from_rows(const void* src, bool is_t, int64_t row_stride, int64_t at) {
    return interleave(rounded(src, is_t, at), rounded(src, is_t, at + row_stride));
  }
  static Words from_column(const void* src, bool is_t, int64_t at) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(rounded(src, is_t, at)), rounded(src, is_t, at + 16), 1);
  }
  static void transpose(Words (&w)[16]) { transpose16(w); }
  static void store(uint32_t* dst, Words w) { _mm512_store_si512(dst, w); }
  static uint32_t word(const void* src, bool is_t, int64_t at0, int64_t at1) {
    const auto bits = [&](int64_t at) -> uint32_t {
      return is_t ? h(src, at)->bits : bfloat16(*f(src, at)).bits;
    };
    return bits(at0) | (at1 >= 0 ? bits(at1) << 16 : 0u);
  }
};

}  // namespace qkv::kernels::avx512
