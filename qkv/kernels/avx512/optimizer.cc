#include "qkv/kernels/simd/optimizer.h"

#include "qkv/kernels/simd/vec_avx512.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_optimizer_avx512(Table& table) {
  simd::Optimizer<avx512::Vec, avx512::DoubleSum>::put(table.optimizer);
}

}  // namespace qkv::kernels
