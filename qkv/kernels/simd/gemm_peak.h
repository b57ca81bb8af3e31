#pragma once
// The multiply-adds of a Product (gemm_register.h) on registers alone: nothing is loaded or stored between
// them.

#include <cstdint>
#include <cstring>

#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

/// x is what it was, but the compiler does not know: it would compute products of the same integers once.
template <class X>
[[gnu::always_inline]] inline void forget(X& x) {
  if constexpr (requires { x.v; })
    asm volatile("" : "+v"(x.v));
  else
    asm volatile("" : "+v"(x));
}

template <class Product>
int64_t peak(int64_t steps, const typename Product::T* numbers) noexcept {
  using Vec = typename Product::Vec;
  using Left = typename Product::Left;
  using Right = typename Product::Right;
  // All that wait on one another: 10 for AVX2's 16 registers, 20 for 32. A multiply-add takes 4 cycles, a
  // bf16 dot product 6, and at most two start in one.
  constexpr int kSums = Vec::kRegisters / 8 * 5;
  constexpr int kOperands = 2;
  constexpr int64_t kFlops =  // of a multiply-add
      2 * Vec::kLanes * (4 / sizeof(typename Product::T)) / Product::kSubs;
  alignas(64) Left a[kOperands];
  alignas(64) Right b[kOperands * Vec::kLanes];
  std::memcpy(a, numbers, sizeof(a));
  std::memcpy(b, numbers + 64, sizeof(b));

  Vec sum[kSums];
  decltype(Product::left(a)) left[kOperands];
  decltype(Product::template right<0>(b)) right[kOperands];
  // Each from a number of its own: the compiler would make one of two sums that are the same.
  unrolled<kSums>([&](auto i) __attribute__((always_inline)) { sum[i] = Vec::set(i); });
  unrolled<kOperands>([&](auto i) __attribute__((always_inline)) {
    left[i] = Product::left(a + i);
    right[i] = Product::template right<0>(b + i * Vec::kLanes);
  });
  for (int64_t s = 0; s < steps; ++s)
    unrolled<kSums>([&](auto i) __attribute__((always_inline)) {
      forget(left[i % kOperands]);
      sum[i] = Product::multiply_add(left[i % kOperands], right[i / kOperands % kOperands], sum[i]);
    });

  alignas(64) float out[kSums * Vec::kLanes];
  unrolled<kSums>([&](auto i) __attribute__((always_inline)) { sum[i].store(out + i * Vec::kLanes); });
  asm volatile("" : : "r"(out) : "memory");  // as if someone read the sums
  return steps * kSums * kFlops;
}

}  // namespace qkv::kernels::simd
