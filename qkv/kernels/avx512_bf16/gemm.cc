// bfloat16 products by vdpbf16ps, which multiplies pairs: for CPUs where it runs at the rate of an f32 FMA
// (Zen 4 and 5) and so does twice its work. The instruction adds the pair's products one after the other in
// float, rounds to nearest, and takes subnormal numbers as zeros.

#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/avx512_bf16/narrow.h"
#include "qkv/kernels/simd/gemm_peak.h"
#include "qkv/kernels/simd/gemm_unpacked.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_avx512_bf16(Table& table);

namespace {

struct Dot : simd::FloatSums<avx512::Vec, bfloat16, avx512::NarrowBf16> {
  using Left = uint32_t;  // two consecutive elements of a row
  using Right = uint32_t;
  static constexpr int kSubs = 1;
  template <int s>
  static __m512bh right(const uint32_t* b) {
    return reinterpret_cast<__m512bh>(_mm512_load_si512(b));
  }
  template <int s, bool kPart>
  static __m512bh right_of_rows(const bfloat16* row, const bfloat16* below, int64_t n) {
    using avx512::GemmWords;
    if constexpr (!kPart)
      return reinterpret_cast<__m512bh>(GemmWords::pairs(GemmWords::halves(row), GemmWords::halves(below)).v);
    const __mmask16 m = avx512::Vec::first(n).m;
    return reinterpret_cast<__m512bh>(
        GemmWords::pairs(_mm256_maskz_loadu_epi16(m, row), _mm256_maskz_loadu_epi16(m, below)).v);
  }
  static __m512bh left(const uint32_t* a) {
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(*a)));
  }
  static Vec multiply_add(__m512bh a, __m512bh b, Vec sum) { return {_mm512_dpbf16_ps(sum.v, a, b)}; }
  static void stage(uint32_t* dst, const bfloat16* src, int64_t k) {
    int64_t p = 0;
    for (; p + 32 <= k; p += 32) _mm512_storeu_si512(dst + p / 2, _mm512_loadu_si512(src + p));
    if (p < k) _mm512_storeu_si512(dst + p / 2, _mm512_maskz_loadu_epi16((1u << (k - p)) - 1, src + p));
  }
};
using Kernel = simd::RegisterKernel<Dot>;

}  // namespace

// Packing and transposition stay as avx512 left them.
void extend_gemm_avx512_bf16(Table& table) {
  table.bf16.gemm.block_m = Kernel::kRows;
  table.bf16.gemm.run = simd::run_blocked<Kernel>;
  table.bf16.gemm.run_unpacked = simd::Unpacked<Dot, avx512::GemmWords>::run;
  table.bf16.gemm.peak = simd::peak<Dot>;
}

}  // namespace qkv::kernels
