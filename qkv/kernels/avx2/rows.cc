#include "qkv/kernels/simd/rows.h"

#include "qkv/kernels/simd/vec_avx2.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_rows_avx2(Table& table) {
  using namespace avx2;
  simd::put_rows<Vec, Words, HalvesAtLeast>(table.f32.rows);
  simd::put_rows<Vec, Words, HalvesAtLeast>(table.bf16.rows);
}

}  // namespace qkv::kernels
