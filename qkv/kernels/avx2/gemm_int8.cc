#include "qkv/kernels/simd/gemm_int8.h"

#include "qkv/kernels/avx2/gemm_words.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_int8_avx2(Table& table) {
  using namespace avx2;
  table.f32.int8 = simd::int8_kernels<simd::Int8Pairs<Int, Vec, GemmWords, float>>();
  table.bf16.int8 = simd::int8_kernels<simd::Int8Pairs<Int, Vec, GemmWords, bfloat16>>();
}

}  // namespace qkv::kernels
