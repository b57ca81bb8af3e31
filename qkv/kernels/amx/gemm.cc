#include "qkv/kernels/table.h"

namespace qkv::kernels {

// Nothing yet: the table keeps the products of the family before.
void extend_gemm_amx(Table&) {}

}  // namespace qkv::kernels
