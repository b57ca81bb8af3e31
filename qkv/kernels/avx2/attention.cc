#include "qkv/kernels/simd/attention.h"

#include "qkv/kernels/simd/vec_avx2.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace avx2 {

inline Mask mask_of(uint32_t bits) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set =
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lanes), lanes);
  return {_mm256_castsi256_ps(set)};
}
inline Vec keep_bits(uint32_t bits, Vec x) { return keep(mask_of(bits), x); }
inline Vec pick_bits(uint32_t bits, Vec yes, Vec no) { return select(mask_of(bits), yes, no); }
inline uint32_t bits_of(Mask mask) { return static_cast<uint32_t>(_mm256_movemask_ps(mask.m)); }

}  // namespace avx2

void extend_attention_avx2(Table& table) {
  using namespace avx2;
  table.f32.attention = simd::Attention<Vec, Words, HalvesAtLeast, simd::NarrowByVec, float>::all();
  table.bf16.attention = simd::Attention<Vec, Words, HalvesAtLeast, simd::NarrowByVec, bfloat16>::all();
}

}  // namespace qkv::kernels
