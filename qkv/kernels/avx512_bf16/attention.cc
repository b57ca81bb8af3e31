// The same tiles with weights rounded by vcvtneps2bf16, on every CPU that has it: rounding was a third of a
// tile's softmax.

#include "qkv/kernels/simd/attention.h"

#include "qkv/kernels/avx512/attention_masks.h"
#include "qkv/kernels/avx512_bf16/narrow.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_attention_avx512_bf16(Table& table);

void extend_attention_avx512_bf16(Table& table) {
  using namespace avx512;
  table.bf16.attention = simd::Attention<Vec, Words, HalvesAtLeast, NarrowBf16, bfloat16>::all();
}

}  // namespace qkv::kernels
