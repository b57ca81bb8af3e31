#include "qkv/kernels/simd/mixers.h"

#include "qkv/kernels/simd/vec_avx2.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_mixers_avx2(Table& table);

void extend_mixers_avx2(Table& table) {
  using namespace avx2;
  table.f32.mixers = simd::Mixers<Vec, simd::NarrowByVec, float>::all();
  table.bf16.mixers = simd::Mixers<Vec, simd::NarrowByVec, bfloat16>::all();
}

}  // namespace qkv::kernels
