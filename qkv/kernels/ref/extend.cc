#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_ref(Table& table);
void extend_gemm_int8_ref(Table& table);
void extend_rows_ref(Table& table);
void extend_attention_ref(Table& table);
void extend_mixers_ref(Table& table);
void extend_optimizer_ref(Table& table);
void extend_stream_ref(Table& table);

void extend_ref(Table& table) {
  extend_gemm_ref(table);
  extend_gemm_int8_ref(table);
  extend_rows_ref(table);
  extend_attention_ref(table);
  extend_mixers_ref(table);
  extend_optimizer_ref(table);
  extend_stream_ref(table);
}

}  // namespace qkv::kernels
