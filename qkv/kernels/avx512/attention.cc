#include "qkv/kernels/simd/attention.h"

#include "qkv/base/cpu.h"
#include "qkv/kernels/avx512/attention_masks.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_attention_avx512_bf16(Table& table);

void extend_attention_avx512(Table& table) {
  using namespace avx512;
  table.f32.attention = simd::Attention<Vec, Words, HalvesAtLeast, simd::NarrowByVec, float>::all();
  table.bf16.attention = simd::Attention<Vec, Words, HalvesAtLeast, simd::NarrowByVec, bfloat16>::all();
  if (cpu_features().avx512_bf16) extend_attention_avx512_bf16(table);
}

}  // namespace qkv::kernels
