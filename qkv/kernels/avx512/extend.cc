#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_avx512(Table& table);
void extend_gemm_int8_avx512(Table& table);
void extend_rows_avx512(Table& table);
void extend_attention_avx512(Table& table);
void extend_mixers_avx512(Table& table);
void extend_optimizer_avx512(Table& table);
void extend_stream_avx512(Table& table);

void extend_avx512(Table& table) {
  extend_gemm_avx512(table);
  extend_gemm_int8_avx512(table);
  extend_rows_avx512(table);
  extend_attention_avx512(table);
  extend_mixers_avx512(table);
  extend_optimizer_avx512(table);
  extend_stream_avx512(table);
}

}  // namespace qkv::kernels
