#include "qkv/kernels/simd/mixers.h"

#include "qkv/base/cpu.h"
#include "qkv/kernels/simd/vec_avx512.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_mixers_avx512(Table& table);
void extend_mixers_avx512_bf16(Table& table);

void extend_mixers_avx512(Table& table) {
  using namespace avx512;
  table.f32.mixers = simd::Mixers<Vec, simd::NarrowByVec, float>::all();
  table.bf16.mixers = simd::Mixers<Vec, simd::NarrowByVec, bfloat16>::all();
  if (cpu_features().avx512_bf16) extend_mixers_avx512_bf16(table);
}

}  // namespace qkv::kernels
