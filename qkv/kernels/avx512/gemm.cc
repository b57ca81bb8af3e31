#include "qkv/kernels/simd/gemm.h"

#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_avx512_bf16(Table& table);
namespace avx512 {
/// For CPUs whose bf16 dot instruction is missing or slower than that. Not static: the test visits it also
/// where the table has something faster.
GemmKernels<bfloat16> gemm_bf16_widened();
}  // namespace avx512

GemmKernels<bfloat16> avx512::gemm_bf16_widened() {
  return simd::gemm_kernels<simd::WidenedFma<Vec, GemmWords>, GemmWords>();
}

void extend_gemm_avx512(Table& table) {
  using namespace avx512;
  table.f32.gemm = simd::gemm_kernels<simd::FloatFma<Vec>, GemmWords>();
  table.bf16.gemm = gemm_bf16_widened();
  if (cpu_features().fast_bf16_dot) extend_gemm_avx512_bf16(table);
}

}  // namespace qkv::kernels
