// 8-bit products by vpdpbusd, which adds four to each sum. It takes unsigned bytes for one side: a + 128 for
// a, and the packed B knows how much is too much.

#include "qkv/kernels/simd/gemm_int8.h"

#include <cstring>

#include "qkv/kernels/avx512/gemm_words.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

void extend_gemm_int8_avx512_vnni(Table& table);

namespace {

using avx512::Int;

template <class Y>
struct Int8Dot : simd::Int8Sums<Int, avx512::Vec, Y, simd::PackInt8Words<avx512::GemmWords, 128>> {
  static constexpr int kSubs = 1;
  template <int s>
  static Int right(const uint32_t* b) {
    return Int::load(b);
  }
  static Int multiply_add(Int a, Int b, Int sum) { return {_mm512_dpbusd_epi32(sum.v, a.v, b.v)}; }
  static void stage(uint32_t* dst, const int8_t* src, int64_t k) {
    for (int64_t p = 0; p < k; p += 4, ++dst) {
      uint32_t word = 0;
      std::memcpy(&word, src + p, static_cast<size_t>(std::min<int64_t>(4, k - p)));
      *dst = word ^ 0x80808080u;  // + 128 in each byte; where k has ended B is 0
    }
  }
};

}  // namespace

void extend_gemm_int8_avx512_vnni(Table& table) {
  table.f32.int8 = simd::int8_kernels<Int8Dot<float>>();
  table.bf16.int8 = simd::int8_kernels<Int8Dot<bfloat16>>();
}

}  // namespace qkv::kernels
