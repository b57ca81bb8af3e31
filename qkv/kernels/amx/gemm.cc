// bfloat16 products on AMX. Everything about how is in gemm_tiles.h.

#include "qkv/kernels/amx/gemm_tiles.h"
#include "qkv/kernels/amx/tile.h"
#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/avx512_bf16/narrow.h"
#include "qkv/kernels/simd/gemm_epilogue.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_amx(Table& table);

namespace {

struct FinishAvx512 {
  static void rows(const Gemm<bfloat16>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows,
                   int64_t col0, int64_t cols) {
    finish<avx512::Vec, avx512::NarrowBf16>(g, sums, ld, row0, rows, col0, cols);
  }
};
using Kernel = amx::TileKernel<amx::HardwareTiles, FinishAvx512>;

struct PackTiles : avx512::PackBf16 {
  static constexpr int64_t kPadSteps = 16;  // 32 k: what one multiply takes
};

}  // namespace

void extend_gemm_amx(Table& table) {
  GemmKernels<bfloat16>& gemm = table.bf16.gemm;
  gemm.block_m = 64;
  gemm.block_n = 64;
  gemm.packed_bytes = Pack<PackTiles>::packed_bytes;
  gemm.pack_b = Pack<PackTiles>::pack_b;
  gemm.run = run_blocked<Kernel, bfloat16>;
}

}  // namespace qkv::kernels
