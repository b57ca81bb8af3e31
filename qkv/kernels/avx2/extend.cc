#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_avx2(Table& table);
void extend_gemm_int8_avx2(Table& table);
void extend_rows_avx2(Table& table);
void extend_attention_avx2(Table& table);
void extend_mixers_avx2(Table& table);
void extend_optimizer_avx2(Table& table);
void extend_stream_avx2(Table& table);

void extend_avx2(Table& table) {
  extend_gemm_avx2(table);
  extend_gemm_int8_avx2(table);
  extend_rows_avx2(table);
  extend_attention_avx2(table);
  extend_mixers_avx2(table);
  extend_optimizer_avx2(table);
  extend_stream_avx2(table);
}

}  // namespace qkv::kernels
