// Dense products on AVX-512: float by FMA, and bfloat16 widened to float for CPUs whose bf16 dot instruction
// is missing or slower than that.

#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/simd/gemm_epilogue.h"
#include "qkv/kernels/simd/gemm_register.h"
#include "qkv/kernels/simd/gemm_transpose.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_avx512_bf16(Table& table);
namespace avx512 {
/// Also where the table has something faster: for the test.
GemmKernels<bfloat16> gemm_bf16_widened();
}  // namespace avx512

namespace {

/// What both share: rows staged as floats, an FMA for each k.
template <class Operand>
struct Common {
  using T = Operand;
  using Vec = avx512::Vec;
  using Left = float;
  static constexpr int64_t kLanes = 16;
  static constexpr int kRegisters = 32, kRows = 14;
  static Vec left(const float* a) { return Vec::set(*a); }
  static Vec multiply_add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
  static void stage(float* dst, const Operand* src, int64_t k) {
    int64_t p = 0;
    for (; p + kLanes <= k; p += kLanes) Vec::load(src + p).store(dst + p);
    if (p < k) Vec::load(src + p, k - p).store(dst + p);
  }
  static void finish(const Gemm<Operand>& g, const float* sums, int64_t ld, int64_t row0, int64_t rows,
                     int64_t col0, int64_t cols) {
    kernels::finish<Vec, NarrowByVec>(g, sums, ld, row0, rows, col0, cols);
  }
};

struct Fma : Common<float> {
  using Right = float;
  static constexpr int64_t kStepK = 1;
  static constexpr int kSubs = 1;
  template <int s>
  static Vec right(const float* b) {
    return {_mm512_load_ps(b)};
  }
};

// A word of packed B holds two consecutive k; each half becomes a float by one shift or mask.
struct Widen : Common<bfloat16> {
  using Right = uint32_t;
  static constexpr int64_t kStepK = 2;
  static constexpr int kSubs = 2;
  template <int s>
  static Vec right(const uint32_t* b) {
    const __m512i w = _mm512_load_si512(b);
    if constexpr (s == 0) return {_mm512_castsi512_ps(_mm512_slli_epi32(w, 16))};
    return {_mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

struct TransposeF32 {
  static constexpr int64_t kRows = 16, kCols = 16;
  static void block(const float* src, int64_t lds, float* dst, int64_t ldd) {
    __m512i w[16];
    for (int i = 0; i < 16; ++i) w[i] = _mm512_loadu_si512(src + i * lds);
    avx512::transpose16(w);
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(dst + i * ldd, w[i]);
  }
};

// Pairs of rows become words, which are transposed as words: 32 rows of 16.
struct TransposeBf16 {
  static constexpr int64_t kRows = 32, kCols = 16;
  static void block(const bfloat16* src, int64_t lds, bfloat16* dst, int64_t ldd) {
    __m512i w[16];
    for (int i = 0; i < 16; ++i)
      w[i] = avx512::interleave(avx512::load16(src + 2 * i * lds), avx512::load16(src + (2 * i + 1) * lds));
    avx512::transpose16(w);
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(dst + i * ldd, w[i]);
  }
};

}  // namespace

GemmKernels<bfloat16> avx512::gemm_bf16_widened() {
  return {.block_m = RegisterKernel<Widen>::kRows,
          .block_n = 32,
          .packed_bytes = Pack<avx512::PackBf16>::packed_bytes,
          .pack_b = Pack<avx512::PackBf16>::pack_b,
          .run = run_blocked<RegisterKernel<Widen>, bfloat16>,
          .transpose = transpose_blocked<TransposeBf16, bfloat16>};
}

void extend_gemm_avx512(Table& table) {
  table.f32.gemm = {.block_m = RegisterKernel<Fma>::kRows,
                    .block_n = 32,
                    .packed_bytes = Pack<avx512::PackF32>::packed_bytes,
                    .pack_b = Pack<avx512::PackF32>::pack_b,
                    .run = run_blocked<RegisterKernel<Fma>, float>,
                    .transpose = transpose_blocked<TransposeF32, float>};
  table.bf16.gemm = avx512::gemm_bf16_widened();
  if (cpu_features().fast_bf16_dot) extend_gemm_avx512_bf16(table);
}

}  // namespace qkv::kernels
