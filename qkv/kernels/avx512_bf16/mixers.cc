// The same with rounding by vcvtneps2bf16.

#include "qkv/kernels/simd/mixers.h"

#include "qkv/kernels/avx512_bf16/narrow.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_mixers_avx512_bf16(Table& table);

void extend_mixers_avx512_bf16(Table& table) {
  using namespace avx512;
  table.bf16.mixers = simd::Mixers<Vec, NarrowBf16, bfloat16>::all();
}

}  // namespace qkv::kernels
