#include "qkv/kernels/simd/attention.h"

#include "qkv/kernels/simd/vec_avx512.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace avx512 {

inline Vec keep_bits(uint32_t bits, Vec x) { return keep(Mask{static_cast<__mmask16>(bits)}, x); }
inline uint32_t bits_of(Mask mask) { return mask.m; }

}  // namespace avx512

void extend_attention_avx512(Table& table) {
  using namespace avx512;
  table.f32.attention = simd::Attention<Vec, Words, HalvesAtLeast, float>::all();
  table.bf16.attention = simd::Attention<Vec, Words, HalvesAtLeast, bfloat16>::all();
}

}  // namespace qkv::kernels
