#pragma once
// StreamKernels (kernels/stream.h) over vectors.

#include <xmmintrin.h>

#include "qkv/kernels/simd/loops.h"
#include "qkv/kernels/stream.h"

namespace qkv::kernels::simd {

template <class V>
struct Stream {
  static constexpr int64_t L = V::kLanes;
  // An addition takes up to 4 cycles and two start in one: eight sums keep pace with two loads a cycle.
  static constexpr int kSums = 8;
  static_assert(kStreamGrain % (kSums * L) == 0);

  static float read(int64_t n, const float* x, int64_t passes) noexcept {
    V sum[kSums];
    unrolled<kSums>([&](auto s) __attribute__((always_inline)) { sum[s] = V::zero(); });
    for (int64_t pass = 0; pass < passes; ++pass)
      for (int64_t i = 0; i < n; i += kSums * L)
        unrolled<kSums>([&](auto s)
                            __attribute__((always_inline)) { sum[s] = sum[s] + V::load(x + i + s * L); });
    return reduce_add(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
  }

  static void write(int64_t n, float value, float* x) noexcept {
    const V v = V::set(value);
    for (int64_t i = 0; i < n; i += L) v.stream(x + i);
    _mm_sfence();  // streamed stores are ordered with nothing else
  }

  static void copy(int64_t n, const float* x, float* y) noexcept {
    for (int64_t i = 0; i < n; i += L) V::load(x + i).stream(y + i);
    _mm_sfence();
  }

  static StreamKernels all() { return {.read = read, .write = write, .copy = copy}; }
};

}  // namespace qkv::kernels::simd
