#pragma once
// AVX-512 masks as bits and back, for simd/attention.h.

#include "qkv/kernels/simd/vec_avx512.h"

namespace qkv::kernels::avx512 {

inline Mask mask_of(uint32_t bits) { return {static_cast<__mmask16>(bits)}; }
inline Vec keep_bits(uint32_t bits, Vec x) { return keep(mask_of(bits), x); }
inline Vec pick_bits(uint32_t bits, Vec yes, Vec no) { return select(mask_of(bits), yes, no); }
inline uint32_t bits_of(Mask mask) { return mask.m; }

}  // namespace qkv::kernels::avx512
