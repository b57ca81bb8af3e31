#include "qkv/kernels/simd/gemm.h"

#include "qkv/kernels/avx2/gemm_words.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_avx2(Table& table) {
  using namespace avx2;
  table.f32.gemm = simd::gemm_kernels<simd::FloatFma<Vec>, GemmWords>();
  table.bf16.gemm = simd::gemm_kernels<simd::WidenedFma<Vec, GemmWords>, GemmWords>();
}

}  // namespace qkv::kernels
