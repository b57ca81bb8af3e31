// Products on AMX. Everything about how is in gemm_tiles.h.

#include "qkv/kernels/amx/gemm_tiles.h"
#include "qkv/kernels/amx/tile.h"
#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/avx512_bf16/narrow.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_amx(Table& table);
void extend_gemm_int8_amx(Table& table);

void extend_gemm_amx(Table& table) {
  using namespace avx512;
  amx::put_gemm<amx::HardwareTiles, GemmWords, Vec, NarrowBf16>(table.bf16.gemm);
}

void extend_gemm_int8_amx(Table& table) {
  using namespace avx512;
  amx::put_int8<amx::HardwareTiles, GemmWords, Int, Vec>(table.f32.int8);
  amx::put_int8<amx::HardwareTiles, GemmWords, Int, Vec>(table.bf16.int8);
}

}  // namespace qkv::kernels
