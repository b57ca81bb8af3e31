#include "qkv/kernels/simd/optimizer.h"

#include "qkv/kernels/simd/vec_avx2.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_optimizer_avx2(Table& table) {
  simd::Optimizer<avx2::Vec, avx2::DoubleSum>::put(table.optimizer);
}

}  // namespace qkv::kernels
