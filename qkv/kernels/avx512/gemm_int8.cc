#include "qkv/kernels/simd/gemm_int8.h"

#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_int8_avx512_vnni(Table& table);
namespace avx512 {
/// For CPUs without vpdpbusd. Not static: the test visits it also where the table has something faster.
Int8Kernels<float> int8_pairs();
}  // namespace avx512

Int8Kernels<float> avx512::int8_pairs() {
  return simd::int8_kernels<simd::Int8Pairs<Int, Vec, GemmWords, float>>();
}

void extend_gemm_int8_avx512(Table& table) {
  using namespace avx512;
  table.f32.int8 = int8_pairs();
  table.bf16.int8 = simd::int8_kernels<simd::Int8Pairs<Int, Vec, GemmWords, bfloat16>>();
  if (cpu_features().avx512_vnni) extend_gemm_int8_avx512_vnni(table);
}

}  // namespace qkv::kernels
