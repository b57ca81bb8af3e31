#pragma once
// Memory traffic and nothing else: what bounds kernels that move more than they compute. After McCalpin,
// "Memory Bandwidth and Machine Balance in Current High Performance Computers" (1995), the STREAM benchmark.
//
// n is a multiple of kStreamGrain; x and y are 64-byte aligned and do not overlap.

#include <cstdint>

namespace qkv::kernels {

constexpr int64_t kStreamGrain = 128;

struct StreamKernels {
  /// Reads x `passes` times in order; returns the sum of what it read, in no order worth relying on. 4 n
  /// passes bytes. In passes, because one of a few KiB is over before a call has paid for itself.
  float (*read)(int64_t n, const float* x, int64_t passes) noexcept = nullptr;
  /// x = value, past the caches where the family can: 4 n bytes written, none read.
  void (*write)(int64_t n, float value, float* x) noexcept = nullptr;
  /// y = x, past the caches likewise: 8 n bytes.
  void (*copy)(int64_t n, const float* x, float* y) noexcept = nullptr;
};

}  // namespace qkv::kernels
