#pragma once
// Vec over AVX-512 (F, BW, DQ, VL): 16 float lanes, and what the algorithms of simd/*.h ask of a vector.
// vec_avx2.h is the same interface over 8 lanes. Included only by files under kernels/avx512/, _bf16/ and
// amx/: its names are in the ISA's own namespace, so that the linker can never hand these instructions to
// code meant for a smaller CPU.
//
// Memory functions take float or bfloat16 (loads int8_t too), at any alignment; (p, n) touches the first n of
// kLanes lanes only, 0 <= n <= kLanes, and loads zeros into the rest.

// gcc 12 warns of its own headers' deliberately undefined registers (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

#include "qkv/base/bfloat16.h"

namespace qkv::kernels::avx512 {

struct Mask {
  __mmask16 m;
  friend Mask operator&(Mask a, Mask b) { return {_kand_mask16(a.m, b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {_kor_mask16(a.m, b.m)}; }
};

struct Vec {
  static constexpr int64_t kLanes = 16;
  static constexpr int kRegisters = 32;  // of the ISA
  __m512 v;

  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec zero() { return {_mm512_setzero_ps()}; }
  /// The first n lanes; n is clamped to 0 .. kLanes.
  static Mask first(int64_t n) { return {static_cast<__mmask16>((1u << (n < 0 ? 0 : n > 16 ? 16 : n)) - 1)}; }

  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n).m, p)}; }
  static Vec load(const bfloat16* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const bfloat16* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(first(n).m, p)); }
  static Vec load(const int8_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Vec load(const int8_t* p, int64_t n) { return widen(_mm_maskz_loadu_epi8(first(n).m, p)); }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  /// Past the caches; p is aligned to a vector.
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n).m, v); }
  void store(bfloat16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow()); }
  void store(bfloat16* p, int64_t n) const { _mm256_mask_storeu_epi16(p, first(n).m, narrow()); }

  /// To the nearest integers, ties to even; lanes are within -128 .. 127.
  void store(int8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes()); }
  void store(int8_t* p, int64_t n) const { _mm_mask_storeu_epi8(p, first(n).m, bytes()); }
  __m128i bytes() const { return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)); }

  static Vec widen(__m256i halves) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
  }
  static Vec widen(__m128i bytes) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))}; }
  /// The bits of base/bfloat16.h: nearest, ties to even, NaN stays NaN. Integer operations, for CPUs without
  /// vcvtneps2bf16.
  __m256i narrow() const {
    const __m512i u = _mm512_castps_si512(v);
    const __m512i high = _mm512_srli_epi32(u, 16);
    const __m512i even = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), even), 16);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(r);
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend Mask operator<(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
  friend Mask operator<=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
  friend Mask operator==(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
};

/// Sums of products of integers, with as much of Vec's face as such products need: int32 lanes, which go
/// through memory meant for floats as they are.
struct Int {
  static constexpr int64_t kLanes = 16;
  static constexpr int kRegisters = 32;
  __m512i v;

  static Int zero() { return {_mm512_setzero_si512()}; }
  static Int load(const void* p) { return {_mm512_loadu_si512(p)}; }
  static Int set(uint32_t word) { return {_mm512_set1_epi32(static_cast<int>(word))}; }
  void store(void* p) const { _mm512_storeu_si512(p, v); }
  Vec to_float() const { return {_mm512_cvtepi32_ps(v)}; }
  /// Bytes 0 and 2 of each word, and 1 and 3, as 16-bit halves with their sign.
  Int even_bytes() const { return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8)}; }
  Int odd_bytes() const { return {_mm512_srai_epi16(v, 8)}; }
  /// kLanes / 2 words in order, each as those two.
  static Int even_and_odd_bytes(const int8_t* p) {
    const __m512i halves = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_shufflehi_epi16(_mm512_shufflelo_epi16(halves, 0xD8), 0xD8)};
  }

  friend Int operator+(Int a, Int b) { return {_mm512_add_epi32(a.v, b.v)}; }
  friend Int operator-(Int a, Int b) { return {_mm512_sub_epi32(a.v, b.v)}; }
  friend Int operator*(Int a, Int b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
};
/// The two products of each word's 16-bit halves, added.
inline Int multiply_pairs(Int a, Int b) { return {_mm512_madd_epi16(a.v, b.v)}; }

inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
inline Vec fms(Vec a, Vec b, Vec c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }    // a b - c
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
// Where a or b is NaN these give b.
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
inline Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec select(Mask m, Vec yes, Vec no) { return {_mm512_mask_blend_ps(m.m, no.v, yes.v)}; }
inline Vec keep(Mask m, Vec a) { return {_mm512_maskz_mov_ps(m.m, a.v)}; }  // a where m, else +0
inline bool any(Mask m) { return m.m != 0; }

/// Sums and maxima over the lanes, in one fixed tree: halves, quarters, pairs.
inline float reduce_add(Vec a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float reduce_max(Vec a) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

inline float first_lane(Vec a) { return _mm_cvtss_f32(_mm512_castps512_ps128(a.v)); }

/// To the nearest integer, ties to even.
inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
/// a 2^n for an integral n in -252 .. 256; rounds once where the result is subnormal.
inline Vec scale_by_power(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
/// x = m 2^e with m in [0.75, 1.5); x positive, normal and finite.
inline Vec split(Vec x, Vec& e) {
  const __m512i base = _mm512_set1_epi32(0x3f400000), u = _mm512_sub_epi32(_mm512_castps_si512(x.v), base);
  e.v = _mm512_cvtepi32_ps(_mm512_srai_epi32(u, 23));
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_and_si512(u, _mm512_set1_epi32(0x7fffff)), base))};
}

/// Sum of squares in double: the squares of floats are exact there.
struct DoubleSum {
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  void add_square(Vec x) {
    const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(x.v));
    const __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1));
    low = _mm512_fmadd_pd(a, a, low);
    high = _mm512_fmadd_pd(b, b, high);
  }
  double total() const {
    alignas(64) double lanes[8];
    _mm512_store_pd(lanes, _mm512_add_pd(low, high));
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
  }
};

/// 32-bit words in the lower halves of 64-bit lanes; upper halves are anything. For simd/philox.h.
struct Words {
  static constexpr int64_t kLanes = 8;
  __m512i v;
  static Words set(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
  static Words evens() { return {_mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0)}; }  // 2 * lane
  friend Words operator+(Words a, Words b) { return {_mm512_add_epi64(a.v, b.v)}; }
};
inline Words product(Words a, Words b) { return {_mm512_mul_epu32(a.v, b.v)}; }  // all 64 bits
inline Words upper(Words a) { return {_mm512_srli_epi64(a.v, 32)}; }
inline Words xor3(Words a, Words b, Words c) { return {_mm512_ternarylogic_epi64(a.v, b.v, c.v, 0x96)}; }

/// One answer for each of the 4 * Words::kLanes 16-bit halves of the words even[0], odd[0], even[1], odd[1],
/// ...: is it >= threshold? lanes(j) are those of halves j * Vec::kLanes onwards, j < 2.
struct HalvesAtLeast {
  __mmask32 m;
  HalvesAtLeast() = default;
  HalvesAtLeast(Words even, Words odd, uint32_t threshold)
      : m(_mm512_cmpge_epu16_mask(_mm512_mask_blend_epi32(0xaaaa, even.v, _mm512_slli_epi64(odd.v, 32)),
                                  _mm512_set1_epi16(static_cast<int16_t>(threshold)))) {}
  Mask lanes(int j) const { return {static_cast<__mmask16>(m >> (16 * j))}; }
};

}  // namespace qkv::kernels::avx512
