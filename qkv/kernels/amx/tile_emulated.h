#pragma once
// The tile registers of tile.h in plain C++, so that the algorithm over them is tested on machines without
// AMX.
//
// multiply_add follows Intel's description of TDPBF16PS (Software Developer's Manual, volume 2): the products
// of even and of odd k are summed apart, in float, in ascending order, then added to each other and to c;
// subnormal operands and results are taken as zeros. The manual leaves open whether a product is rounded
// before it is added (fused here), so hardware may differ in the last bits of the sums: the test allows the
// error bound of the sum, not more.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "qkv/base/bfloat16.h"

namespace qkv::kernels::amx {

struct EmulatedTiles {
  struct alignas(64) Tile {
    uint8_t row[16][64];
  };
  static Tile& tile(int t) {
    static thread_local Tile tiles[8];
    return tiles[t];
  }
  static float flushed(float x) {
    return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
  }

  static void zero(int t) noexcept { tile(t) = {}; }
  static void load(int t, const void* rows, int64_t stride) noexcept {
    for (int i = 0; i < 16; ++i)
      std::memcpy(tile(t).row[i], static_cast<const uint8_t*>(rows) + i * stride, 64);
  }
  static void store(int t, void* rows, int64_t stride) noexcept {
    for (int i = 0; i < 16; ++i) std::memcpy(static_cast<uint8_t*>(rows) + i * stride, tile(t).row[i], 64);
  }
  static void multiply_add(int c, int a, int b) noexcept {
    for (int i = 0; i < 16; ++i) {
      bfloat16 left[32];
      std::memcpy(left, tile(a).row[i], 64);
      float even[16] = {}, odd[16] = {}, sum[16];
      for (int p = 0; p < 16; ++p) {
        bfloat16 right[32];
        std::memcpy(right, tile(b).row[p], 64);
        for (int j = 0; j < 16; ++j) {
          even[j] = flushed(std::fma(flushed(left[2 * p]), flushed(right[2 * j]), even[j]));
          odd[j] = flushed(std::fma(flushed(left[2 * p + 1]), flushed(right[2 * j + 1]), odd[j]));
        }
      }
      std::memcpy(sum, tile(c).row[i], 64);
      for (int j = 0; j < 16; ++j) sum[j] = flushed(flushed(sum[j]) + flushed(even[j] + odd[j]));
      std::memcpy(tile(c).row[i], sum, 64);
    }
  }

  static void multiply_add_bytes(int c, int a, int b) noexcept {
    for (int i = 0; i < 16; ++i) {
      int32_t sum[16];
      std::memcpy(sum, tile(c).row[i], 64);
      for (int p = 0; p < 64; ++p)
        for (int j = 0; j < 16; ++j)
          sum[j] += int32_t{static_cast<int8_t>(tile(a).row[i][p])} *
                    int32_t{static_cast<int8_t>(tile(b).row[p / 4][4 * j + p % 4])};
      std::memcpy(tile(c).row[i], sum, 64);
    }
  }

  // The face of tile.h.
  static void configure() noexcept {}
  static void publish() noexcept {}
  template <int t>
  static void zero() noexcept {
    zero(t);
  }
  template <int t>
  static void load(const void* rows, int64_t stride) noexcept {
    load(t, rows, stride);
  }
  template <int t>
  static void store(void* rows, int64_t stride) noexcept {
    store(t, rows, stride);
  }
  template <int c, int a, int b>
  static void multiply_add() noexcept {
    static_assert(c != a && c != b && a != b, "the instruction faults when two of its tiles are the same");
    multiply_add(c, a, b);
  }
};

}  // namespace qkv::kernels::amx
