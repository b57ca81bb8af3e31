// Dense products on AVX2: float by FMA, and bfloat16 widened to float.

#include "qkv/kernels/avx2/gemm_words.h"
#include "qkv/kernels/simd/gemm_epilogue.h"
#include "qkv/kernels/simd/gemm_register.h"
#include "qkv/kernels/simd/gemm_transpose.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

/// What both share: rows staged as floats, an FMA for each k.
template <class Operand>
struct Common {
  using T = Operand;
  using Vec = avx2::Vec;
  using Left = float;
  static constexpr int64_t kLanes = 8;
  static constexpr int kRegisters = 16, kRows = 6;
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
    return {_mm256_load_ps(b)};
  }
};

// A word of packed B holds two consecutive k; each half becomes a float by one shift or mask.
struct Widen : Common<bfloat16> {
  using Right = uint32_t;
  static constexpr int64_t kStepK = 2;
  static constexpr int kSubs = 2;
  template <int s>
  static Vec right(const uint32_t* b) {
    const __m256i w = avx2::load_words(b);
    if constexpr (s == 0) return {_mm256_castsi256_ps(_mm256_slli_epi32(w, 16))};
    return {_mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

struct TransposeF32 {
  static constexpr int64_t kRows = 8, kCols = 8;
  static void block(const float* src, int64_t lds, float* dst, int64_t ldd) {
    __m256i w[8];
    for (int i = 0; i < 8; ++i) w[i] = avx2::load_words(src + i * lds);
    avx2::transpose8(w);
    for (int i = 0; i < 8; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i * ldd), w[i]);
  }
};

// Pairs of rows become words, which are transposed as words: 16 rows of 8.
struct TransposeBf16 {
  static constexpr int64_t kRows = 16, kCols = 8;
  static void block(const bfloat16* src, int64_t lds, bfloat16* dst, int64_t ldd) {
    __m256i w[8];
    for (int i = 0; i < 8; ++i)
      w[i] = avx2::interleave(avx2::load8(src + 2 * i * lds), avx2::load8(src + (2 * i + 1) * lds));
    avx2::transpose8(w);
    for (int i = 0; i < 8; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i * ldd), w[i]);
  }
};

}  // namespace

void extend_gemm_avx2(Table& table) {
  table.f32.gemm = {.block_m = Fma::kRows,
                    .block_n = 16,
                    .packed_bytes = Pack<avx2::PackF32>::packed_bytes,
                    .pack_b = Pack<avx2::PackF32>::pack_b,
                    .run = run_blocked<RegisterKernel<Fma>, float>,
                    .transpose = transpose_blocked<TransposeF32, float>};
  table.bf16.gemm = {.block_m = Widen::kRows,
                     .block_n = 16,
                     .packed_bytes = Pack<avx2::PackBf16>::packed_bytes,
                     .pack_b = Pack<avx2::PackBf16>::pack_b,
                     .run = run_blocked<RegisterKernel<Widen>, bfloat16>,
                     .transpose = transpose_blocked<TransposeBf16, bfloat16>};
}

}  // namespace qkv::kernels
