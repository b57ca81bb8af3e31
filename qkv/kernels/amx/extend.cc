#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_amx(Table& table);

// AMX only multiplies; everything else stays as avx512 left it.
void extend_amx(Table& table) { extend_gemm_amx(table); }

}  // namespace qkv::kernels
