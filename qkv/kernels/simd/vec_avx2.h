#pragma once
// Vec over AVX2 and FMA: 8 float lanes. The interface is explained in vec_avx512.h. Included only by files
// under kernels/avx2/.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qkv/base/bfloat16.h"

namespace qkv::kernels::avx2 {

struct Mask {
  __m256 m;  // lanes of all ones or all zeros
  friend Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.m, b.m)}; }
};

struct Vec {
  static constexpr int64_t kLanes = 8;
  static constexpr int kRegisters = 16;
  __m256 v;

  static Vec set(float x) { return {_mm256_set1_ps(x)}; }
  static Vec zero() { return {_mm256_setzero_ps()}; }
  static __m256i first_bits(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Mask first(int64_t n) { return {_mm256_castsi256_ps(first_bits(n))}; }

  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first_bits(n))}; }
  static Vec load(const bfloat16* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Vec load(const bfloat16* p, int64_t n) {
    // AVX2 masks only whole words of memory, and half a word beyond the end is not ours to touch.
    alignas(16) uint16_t lanes[8] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i].bits;
    return widen(_mm_load_si128(reinterpret_cast<const __m128i*>(lanes)));
  }
  static Vec load(const int8_t* p) { return load(p, kLanes); }
  static Vec load(const int8_t* p, int64_t n) {
    int64_t bytes = 0;
    std::memcpy(&bytes, p, static_cast<size_t>(n));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes)))};
  }

  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  void store(float* p, int64_t n) const { _mm256_maskstore_ps(p, first_bits(n), v); }
  void store(bfloat16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow()); }
  void store(bfloat16* p, int64_t n) const {
    alignas(16) uint16_t lanes[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), narrow());
    for (int64_t i = 0; i < n; ++i) p[i].bits = lanes[i];
  }

  void store(int8_t* p) const { store(p, kLanes); }
  void store(int8_t* p, int64_t n) const {
    const __m256i words = _mm256_cvtps_epi32(v);
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    const int64_t bytes = _mm_cvtsi128_si64(_mm_packs_epi16(halves, halves));
    std::memcpy(p, &bytes, static_cast<size_t>(n));
  }

  static Vec widen(__m128i halves) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
  }
  /// The bits of base/bfloat16.h: nearest, ties to even, NaN stays NaN.
  __m128i narrow() const {
    const __m256i u = _mm256_castps_si256(v);
    const __m256i high = _mm256_srli_epi32(u, 16);
    const __m256i even = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i up =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), even), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i r = _mm256_blendv_epi8(up, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend Mask operator<(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
  friend Mask operator<=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
  friend Mask operator==(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
};

struct Int {
  static constexpr int64_t kLanes = 8;
  static constexpr int kRegisters = 16;
  __m256i v;

  static Int zero() { return {_mm256_setzero_si256()}; }
  static Int load(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
  static Int set(uint32_t word) { return {_mm256_set1_epi32(static_cast<int>(word))}; }
  void store(void* p) const { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
  Vec to_float() const { return {_mm256_cvtepi32_ps(v)}; }
  Int even_bytes() const { return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8)}; }
  Int odd_bytes() const { return {_mm256_srai_epi16(v, 8)}; }
  static Int even_and_odd_bytes(const int8_t* p) {
    const __m256i halves = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_shufflehi_epi16(_mm256_shufflelo_epi16(halves, 0xD8), 0xD8)};
  }

  friend Int operator+(Int a, Int b) { return {_mm256_add_epi32(a.v, b.v)}; }
  friend Int operator-(Int a, Int b) { return {_mm256_sub_epi32(a.v, b.v)}; }
  friend Int operator*(Int a, Int b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
};
inline Int multiply_pairs(Int a, Int b) { return {_mm256_madd_epi16(a.v, b.v)}; }

inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec fms(Vec a, Vec b, Vec c) { return {_mm256_fmsub_ps(a.v, b.v, c.v)}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec select(Mask m, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, m.m)}; }
inline Vec keep(Mask m, Vec a) { return {_mm256_and_ps(m.m, a.v)}; }
inline bool any(Mask m) { return _mm256_movemask_ps(m.m) != 0; }

inline float reduce_add(Vec a) {
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float reduce_max(Vec a) {
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

inline float first_lane(Vec a) { return _mm_cvtss_f32(_mm256_castps256_ps128(a.v)); }

inline Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec scale_by_power(Vec a, Vec n) {
  // 2^n itself may be out of range where a 2^n is not, so n is halved; the first product is exact.
  const __m256i k = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
  const __m256i one = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i two = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, _mm256_castsi256_ps(one)), _mm256_castsi256_ps(two))};
}
inline Vec split(Vec x, Vec& e) {
  const __m256i base = _mm256_set1_epi32(0x3f400000), u = _mm256_sub_epi32(_mm256_castps_si256(x.v), base);
  e.v = _mm256_cvtepi32_ps(_mm256_srai_epi32(u, 23));
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_and_si256(u, _mm256_set1_epi32(0x7fffff)), base))};
}

struct DoubleSum {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  void add_square(Vec x) {
    const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(x.v));
    const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1));
    low = _mm256_fmadd_pd(a, a, low);
    high = _mm256_fmadd_pd(b, b, high);
  }
  double total() const {
    alignas(32) double lanes[4];
    _mm256_store_pd(lanes, _mm256_add_pd(low, high));
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
  }
};

struct Words {
  static constexpr int64_t kLanes = 4;
  __m256i v;
  static Words set(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
  static Words evens() { return {_mm256_set_epi64x(6, 4, 2, 0)}; }
  friend Words operator+(Words a, Words b) { return {_mm256_add_epi64(a.v, b.v)}; }
};
inline Words product(Words a, Words b) { return {_mm256_mul_epu32(a.v, b.v)}; }
inline Words upper(Words a) { return {_mm256_srli_epi64(a.v, 32)}; }
inline Words xor3(Words a, Words b, Words c) { return {_mm256_xor_si256(_mm256_xor_si256(a.v, b.v), c.v)}; }

struct HalvesAtLeast {
  __m256i m;  // 16 halves of all ones or all zeros
  HalvesAtLeast() = default;
  HalvesAtLeast(Words even, Words odd, uint32_t threshold) {
    const __m256i words = _mm256_blend_epi32(even.v, _mm256_slli_epi64(odd.v, 32), 0xaa);
    m = _mm256_cmpeq_epi16(_mm256_max_epu16(words, _mm256_set1_epi16(static_cast<int16_t>(threshold))),
                           words);
  }
  Mask lanes(int j) const {
    const __m128i half = j ? _mm256_extracti128_si256(m, 1) : _mm256_castsi256_si128(m);
    return {_mm256_castsi256_ps(_mm256_cvtepi16_epi32(half))};
  }
};

}  // namespace qkv::kernels::avx2
