#pragma once
// The AMX product without AMX: gemm_tiles.h over emulated tiles, packing and epilogue in plain C++. For tests
// only.

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "qkv/kernels/amx/gemm_tiles.h"
#include "qkv/kernels/amx/tile_emulated.h"

namespace qkv::kernels::amx::emulated {

/// Vec of simd/ with one lane: as much of it as simd/math.h's activations need.
struct Lane {
  static constexpr int64_t kLanes = 1;
  float v;
  static Lane set(float x) { return {x}; }
  static Lane zero() { return {0}; }
  template <class T>
  static Lane load(const T* p) {
    return {static_cast<float>(*p)};
  }
  template <class T>
  static Lane load(const T* p, int64_t n) {
    return n > 0 ? load(p) : zero();
  }
  void store(float* p) const { *p = v; }
  void store(bfloat16* p) const { *p = bfloat16(v); }
  template <class T>
  void store(T* p, int64_t n) const {
    if (n > 0) store(p);
  }
  friend Lane operator+(Lane a, Lane b) { return {a.v + b.v}; }
  friend Lane operator-(Lane a, Lane b) { return {a.v - b.v}; }
  friend Lane operator*(Lane a, Lane b) { return {a.v * b.v}; }
  friend Lane operator/(Lane a, Lane b) { return {a.v / b.v}; }
  friend bool operator<(Lane a, Lane b) { return a.v < b.v; }
};
inline Lane keep(bool kept, Lane a) { return kept ? a : Lane::zero(); }
inline Lane fma(Lane a, Lane b, Lane c) { return {std::fma(a.v, b.v, c.v)}; }
inline Lane fnma(Lane a, Lane b, Lane c) { return {std::fma(-a.v, b.v, c.v)}; }
inline Lane min(Lane a, Lane b) { return {a.v < b.v ? a.v : b.v}; }
inline Lane max(Lane a, Lane b) { return {a.v > b.v ? a.v : b.v}; }
inline Lane round(Lane a) { return {std::nearbyint(a.v)}; }
inline Lane scale_by_power(Lane a, Lane n) { return {std::ldexp(a.v, static_cast<int>(n.v))}; }

/// GemmWords of avx512/gemm_words.h: as much of it as packing bfloat16 needs.
struct LaneWords {
  static constexpr int64_t kLanes = 16;
  using Halves = std::array<uint32_t, kLanes>;
  uint32_t w[kLanes];
  static LaneWords zero() { return {}; }
  template <class S>
  static Halves halves(const S* p) {
    Halves h;
    for (int64_t j = 0; j < kLanes; ++j) h[j] = bfloat16(p[j]).bits;
    return h;
  }
  static LaneWords pairs(const Halves& low, const Halves& high) {
    LaneWords words;
    for (int64_t j = 0; j < kLanes; ++j) words.w[j] = low[j] | high[j] << 16;
    return words;
  }
  static LaneWords joined(const Halves& first, const Halves& second) {
    LaneWords words;
    for (int64_t j = 0; j < kLanes; ++j) {
      const Halves& from = j < kLanes / 2 ? first : second;
      const int64_t at = 2 * j % kLanes;
      words.w[j] = from[at] | from[at + 1] << 16;
    }
    return words;
  }
  static void transpose(LaneWords (&w)[kLanes]) {
    for (int64_t i = 0; i < kLanes; ++i)
      for (int64_t j = 0; j < i; ++j) std::swap(w[i].w[j], w[j].w[i]);
  }
  void store(uint32_t* p) const { std::copy(w, w + kLanes, p); }
};

inline GemmKernels<bfloat16> kernels(GemmKernels<bfloat16> gemm) {
  put_gemm<EmulatedTiles, LaneWords, Lane, simd::NarrowByVec>(gemm);
  return gemm;
}

}  // namespace qkv::kernels::amx::emulated
