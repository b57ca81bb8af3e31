#pragma once
// AMX's instructions on a CPU without AMX: while a Trap lives, each one that the CPU refuses (SIGILL) is
// decoded and done in software, on the tiles of tile_emulated.h. So a test runs the very machine code that
// ships: encodings, operand order, addresses and configuration. A microsecond or ten an instruction; for
// tests only.
//
// Encodings: Intel, Software Developer's Manual, volume 2; all are VEX.128.0F38.W0.

#include <signal.h>
#include <ucontext.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "qkv/kernels/amx/tile_emulated.h"

namespace qkv::kernels::amx {

class Trap {
 public:
  Trap() {
    struct sigaction action = {};
    action.sa_sigaction = &refused;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, &before_);
  }
  ~Trap() { sigaction(SIGILL, &before_, nullptr); }
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;

 private:
  /// What LDTILECFG reads.
  struct Config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  static_assert(sizeof(Config) == 64);

  static bool configured_at_full_size(const Config& c) {
    if (c.palette != 1 || c.start_row != 0) return false;
    for (int t = 0; t < 16; ++t)
      if (c.row_bytes[t] != (t < 8 ? 64 : 0) || c.rows[t] != (t < 8 ? 16 : 0)) return false;
    return true;
  }

  static uint64_t general_register(const mcontext_t& m, int number) {
    static constexpr int kWhere[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};
    return static_cast<uint64_t>(m.gregs[kWhere[number]]);
  }

  /// An operand in memory: [base + displacement], and the distance of rows that an index gives.
  struct Address {
    uint64_t base = 0, stride = 0;
    int bytes = 0;  // of the instruction, from ModRM on
  };
  static Address address(const mcontext_t& m, const uint8_t* modrm, int base_high, int index_high) {
    Address a;
    const int mode = modrm[0] >> 6, low = modrm[0] & 7;
    int at = 1, base = low;
    if (low == 4) {
      const uint8_t sib = modrm[at++];
      base = sib & 7;
      if (const int index = ((sib >> 3) & 7) | index_high; index != 4)
        a.stride = general_register(m, index) << (sib >> 6);
    }
    if (mode == 0 && base == 5) {  // no base (SIB), or relative to the next instruction
      int32_t displacement;
      std::memcpy(&displacement, modrm + at, 4);
      at += 4;
      a.base = static_cast<uint64_t>(int64_t{displacement});
      if (low == 5) a.base += reinterpret_cast<uint64_t>(modrm + at);
    } else {
      a.base = general_register(m, base | base_high);
      if (mode == 1) a.base += static_cast<uint64_t>(int64_t{static_cast<int8_t>(modrm[at++])});
      if (mode == 2) {
        int32_t displacement;
        std::memcpy(&displacement, modrm + at, 4);
        at += 4;
        a.base += static_cast<uint64_t>(int64_t{displacement});
      }
    }
    a.bytes = at;
    return a;
  }

  static void refused(int, siginfo_t*, void* context) {
    mcontext_t& m = static_cast<ucontext_t*>(context)->uc_mcontext;
    const auto* code = reinterpret_cast<const uint8_t*>(m.gregs[REG_RIP]);
    // C4, then inverted R X B and the map (2: 0F38), then W, inverted vvvv, L, pp; opcode; ModRM.
    static thread_local bool configured = false;
    enum { kNone, k66, kF3, kF2 };
    const bool vex = code[0] == 0xc4 && (code[1] & 0x1f) == 2 && (code[2] & 0x84) == 0;
    const int prefix = code[2] & 3, opcode = code[3], third = (~code[2] >> 3) & 15;
    const uint8_t* const modrm = code + 4;
    const bool registers = *modrm >> 6 == 3;
    const int reg = (*modrm >> 3) & 7, rm = *modrm & 7;
    const Address memory =
        vex && !registers ? address(m, modrm, code[1] & 0x20 ? 0 : 8, code[1] & 0x40 ? 0 : 8) : Address{};

    const auto done = [&](int bytes_from_modrm) { m.gregs[REG_RIP] += 4 + bytes_from_modrm; };
    if (vex && opcode == 0x49 && prefix == kNone && !registers) {  // ldtilecfg
      Config config;
      std::memcpy(&config, reinterpret_cast<const void*>(memory.base), sizeof config);
      configured = configured_at_full_size(config);
      for (int t = 0; t < 8; ++t) EmulatedTiles::zero(t);
      return done(memory.bytes);
    }
    if (vex && configured) {
      if (opcode == 0x49 && prefix == kF2 && registers && rm == 0) {  // tilezero
        EmulatedTiles::zero(reg);
        return done(1);
      }
      if (opcode == 0x4b && prefix == kF2 && rm == 4 && !registers) {  // tileloadd
        EmulatedTiles::load(reg, reinterpret_cast<const void*>(memory.base), memory.stride);
        return done(memory.bytes);
      }
      if (opcode == 0x4b && prefix == kF3 && rm == 4 && !registers) {  // tilestored
        EmulatedTiles::store(reg, reinterpret_cast<void*>(memory.base), memory.stride);
        return done(memory.bytes);
      }
      if (opcode == 0x5c && prefix == kF3 && registers && reg != rm && reg != third &&
          rm != third) {  // tdpbf16ps
        EmulatedTiles::multiply_add(reg, rm, third);
        return done(1);
      }
      if (opcode == 0x5e && prefix == kF2 && registers && reg != rm && reg != third &&
          rm != third) {  // tdpbssd
        EmulatedTiles::multiply_add_bytes(reg, rm, third);
        return done(1);
      }
    }
    std::abort();  // what a CPU with AMX would refuse too
  }

  struct sigaction before_ = {};
};

}  // namespace qkv::kernels::amx
