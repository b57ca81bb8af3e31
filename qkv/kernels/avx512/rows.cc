#include "qkv/kernels/simd/rows.h"

#include "qkv/kernels/simd/vec_avx512.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_rows_avx512(Table& table) {
  using namespace avx512;
  simd::put_rows<Vec, Words, HalvesAtLeast>(table.f32.rows);
  simd::put_rows<Vec, Words, HalvesAtLeast>(table.bf16.rows);
}

}  // namespace qkv::kernels
