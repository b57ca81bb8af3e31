#pragma once
// AVX-512 masks as bits and back, for simd/attention.h.

#include "qkv/kernels/simd/vec_avx512.h"

namespace qkv::kernels::avx512 {

inline Vec keep_bits(uint32_t bits, Vec x) { return keep(Mask{static_cast<__mmask16>(bits)}, x); }
inline uint32_t bits_of(Mask mask) { return mask.m; }

}  // namespace qkv::kernels::avx512
