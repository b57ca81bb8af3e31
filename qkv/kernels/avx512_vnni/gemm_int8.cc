// 8-bit products by vpdpbusd, which adds four to each sum. It takes unsigned bytes for one side: a + 128 for
// a, so 128 is added to each zero point too.

#include "qkv/kernels/simd/gemm_int8.h"

#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_int8_avx512_vnni(Table& table);

namespace {

using avx512::Int;

template <class Y>
struct Int8Dot : simd::Int8Sums<Int, avx512::Vec, Y, simd::PackInt8Words<avx512::GemmWords>, 128> {
  static constexpr int kSubs = 1;
  template <int s>
  static Int right(const uint32_t* b) {
    return Int::load(b);
  }
  static Int multiply_add(Int a, Int b, Int sum) { return {_mm512_dpbusd_epi32(sum.v, a.v, b.v)}; }
  static void stage(uint32_t* dst, const int8_t* src, int64_t k) {
    // + 128 in each byte; where k has ended B is 0. A copy of a length unknown to the compiler becomes a loop
    // over bytes, which was half the time of a product.
    const __m512i offset = _mm512_set1_epi8(static_cast<char>(0x80));
    int64_t p = 0;
    for (; p + 64 <= k; p += 64, dst += 16)
      _mm512_storeu_si512(dst, _mm512_xor_si512(_mm512_loadu_si512(src + p), offset));
    if (p == k) return;
    const __m512i rest = _mm512_maskz_loadu_epi8(~uint64_t{0} >> (64 - (k - p)), src + p);
    const auto words = static_cast<__mmask16>((1u << (k - p + 3) / 4) - 1);
    _mm512_mask_storeu_epi32(dst, words, _mm512_xor_si512(rest, offset));
  }
};

}  // namespace

void extend_gemm_int8_avx512_vnni(Table& table) {
  table.f32.int8 = simd::int8_kernels<Int8Dot<float>>();
  table.bf16.int8 = simd::int8_kernels<Int8Dot<bfloat16>>();
}

}  // namespace qkv::kernels
