#pragma once
// The AMX product without AMX: gemm_tiles.h over emulated tiles, packing and epilogue in plain C++. For tests
// only.

#include <cmath>

#include "qkv/kernels/amx/gemm_tiles.h"
#include "qkv/kernels/amx/tile_emulated.h"
#include "qkv/kernels/simd/gemm_epilogue.h"
#include "qkv/kernels/simd/gemm_pack.h"

namespace qkv::kernels::amx::emulated {

/// Vec of simd/ with one lane: as much of it as simd/math.h's activations need.
struct Lane {
  static constexpr int64_t kLanes = 1;
  float v;
  static Lane set(float x) { return {x}; }
  static Lane zero() { return {0}; }
  static Lane load(const float* p) { return {*p}; }
  static Lane load(const float* p, int64_t n) { return {n > 0 ? *p : 0}; }
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
};
inline Lane fma(Lane a, Lane b, Lane c) { return {std::fma(a.v, b.v, c.v)}; }
inline Lane fnma(Lane a, Lane b, Lane c) { return {std::fma(-a.v, b.v, c.v)}; }
inline Lane min(Lane a, Lane b) { return {a.v < b.v ? a.v : b.v}; }
inline Lane max(Lane a, Lane b) { return {a.v > b.v ? a.v : b.v}; }
inline Lane round(Lane a) { return {std::nearbyint(a.v)}; }
inline Lane scale_by_power(Lane a, Lane n) { return {std::ldexp(a.v, static_cast<int>(n.v))}; }

struct Finish {
  static void rows(const Gemm<bfloat16>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows,
                   int64_t col0, int64_t cols) {
    finish<Lane, NarrowByVec>(g, sums, ld, row0, rows, col0, cols);
  }
};

struct PackTiles {
  using T = bfloat16;
  static constexpr int64_t kLanes = 16, kStepK = 2, kPadSteps = 16;
  struct Words {
    uint32_t w[16];
  };
  static uint32_t bits(const void* src, bool is_t, int64_t at) {
    return is_t ? static_cast<const bfloat16*>(src)[at].bits
                : bfloat16(static_cast<const float*>(src)[at]).bits;
  }
  static uint32_t word(const void* src, bool is_t, int64_t at0, int64_t at1) {
    return bits(src, is_t, at0) | (at1 >= 0 ? bits(src, is_t, at1) << 16 : 0u);
  }
  static Words from_rows(const void* src, bool is_t, int64_t row_stride, int64_t at) {
    Words words;
    for (int64_t j = 0; j < 16; ++j) words.w[j] = word(src, is_t, at + j, at + j + row_stride);
    return words;
  }
  static Words from_column(const void* src, bool is_t, int64_t at) {
    Words words;
    for (int64_t j = 0; j < 16; ++j) words.w[j] = word(src, is_t, at + 2 * j, at + 2 * j + 1);
    return words;
  }
  static void transpose(Words (&w)[16]) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < i; ++j) std::swap(w[i].w[j], w[j].w[i]);
  }
  static void store(uint32_t* dst, const Words& w) { std::memcpy(dst, w.w, 64); }
};

inline GemmKernels<bfloat16> kernels(const GemmKernels<bfloat16>& rest) {
  GemmKernels<bfloat16> gemm = rest;
  gemm.block_m = 64;
  gemm.block_n = 64;
  gemm.packed_bytes = Pack<PackTiles>::packed_bytes;
  gemm.pack_b = Pack<PackTiles>::pack_b;
  gemm.run = run_blocked<TileKernel<EmulatedTiles, Finish>, bfloat16>;
  return gemm;
}

}  // namespace qkv::kernels::amx::emulated
