#pragma once
// AMX's eight tile registers, 16 rows of 64 bytes each, by the handful of instructions the products need.
// Compiled with the AMX flags only; tile_emulated.h has the same face on any machine.

#include <immintrin.h>

#include <cstdint>

namespace qkv::kernels::amx {

struct HardwareTiles {
  /// All eight tiles at full size. Loaded once per thread and kept: loading costs tens of cycles and clears
  /// the tiles, and nothing else in the process uses them. (That the process may use them at all was asked
  /// for in base/cpu.cc.)
  static void configure() noexcept {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static thread_local bool done = false;
    if (done) [[likely]]
      return;
    static constexpr Config
        config{};  // in memory as a whole: gcc's intrinsic admits to reading only 8 of the 64 bytes
    _tile_loadconfig(&config);
    done = true;
  }
  // Written out, because gcc's intrinsics are macros that paste the register's number and so refuse a
  // template's parameter. Loading does not claim to read memory, which would make the compiler reload all it
  // knows at every step; publish() before it does so once.
  template <int t>
  static void zero() noexcept {
    asm volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  /// 16 rows of 64 bytes, `stride` bytes apart.
  template <int t>
  static void load(const void* rows, int64_t stride) noexcept {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(t));
  }
  template <int t>
  static void store(void* rows, int64_t stride) noexcept {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(t) : "memory");
  }
  /// c [16, 16] float += a [16, 32] bfloat16 x b [32, 16] bfloat16, b as 16 rows of 16 pairs.
  template <int c, int a, int b>
  static void multiply_add() noexcept {
    static_assert(c != a && c != b && a != b, "the instruction faults when two of its tiles are the same");
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  /// c [16, 16] int32 += a [16, 64] int8 x b [64, 16] int8, b as 16 rows of 16 words of four.
  template <int c, int a, int b>
  static void multiply_add_bytes() noexcept {
    static_assert(c != a && c != b && a != b, "the instruction faults when two of its tiles are the same");
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  /// What was stored before this is seen by the loads after it.
  static void publish() noexcept { asm volatile("" ::: "memory"); }
};

}  // namespace qkv::kernels::amx
