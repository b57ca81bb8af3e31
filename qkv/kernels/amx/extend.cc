#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_amx(Table& table);
void extend_gemm_int8_amx(Table& table);

// AMX only multiplies; everything else stays as avx512 left it.
void extend_amx(Table& table) {
  extend_gemm_amx(table);
  if (cpu_features().amx_int8) extend_gemm_int8_amx(table);
}

}  // namespace qkv::kernels
