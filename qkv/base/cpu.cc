#include "qkv/base/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv {
namespace {

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) r = {};
  return r;
}

uint64_t enabled_state() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// AMX's 8 KiB of tile registers are off until a process asks for them (Linux 5.16).
bool ask_for_amx() {
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

CpuFeatures detect() {
  CpuFeatures f;
  const Registers zero = cpuid(0);
  char vendor[13] = {};
  std::memcpy(vendor, &zero.b, 4);
  std::memcpy(vendor + 4, &zero.d, 4);
  std::memcpy(vendor + 8, &zero.c, 4);
  f.vendor = vendor;
  for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    const Registers r = cpuid(leaf);
    char part[17] = {};
    std::memcpy(part, &r, 16);
    f.model += part;
  }
  const auto last = f.model.find_last_not_of(' ');
  f.model.resize(last == std::string::npos ? 0 : last + 1);

  const Registers one = cpuid(1), seven = cpuid(7), seven1 = cpuid(7, 1);
  const bool os_saves = (one.c >> 27) & 1;
  const uint64_t state = os_saves ? enabled_state() : 0;
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  const auto bit = [](uint32_t word, int n) { return ((word >> n) & 1) != 0; };

  f.avx2_fma = ymm && bit(seven.b, 5) && bit(one.c, 12) && bit(one.c, 29);
  f.avx512 =
      f.avx2_fma && zmm && bit(seven.b, 16) && bit(seven.b, 30) && bit(seven.b, 17) && bit(seven.b, 31);
  f.avx512_bf16 = f.avx512 && bit(seven1.a, 5);
  f.avx512_vnni = f.avx512 && bit(seven.c, 11);
  f.avx512_fp16 = f.avx512 && bit(seven.d, 23);
  const bool amx = f.avx512_bf16 && tiles && bit(seven.d, 24) && (bit(seven.d, 22) || bit(seven.d, 25));
  if (amx && ask_for_amx()) {
    f.amx_bf16 = bit(seven.d, 22);
    f.amx_int8 = bit(seven.d, 25);
  }
  f.fast_bf16_dot = f.avx512_bf16 && f.vendor == "AuthenticAMD";
  return f;
}

// Leaf 4 of Intel, and AMD's of the same form. (glibc's sysconf multiplies the L3 of a slice by the slices of
// the package, of which a virtual machine may have one.)
CacheSizes detect_caches() {
  CacheSizes sizes;
  const uint32_t leaf = cpu_features().vendor == "AuthenticAMD" ? 0x8000001d : 4;
  for (uint32_t i = 0; i < 16; ++i) {
    const Registers r = cpuid(leaf, i);
    const uint32_t kind = r.a & 31, level = (r.a >> 5) & 7;
    if (kind == 0) break;
    constexpr uint32_t kInstructions = 2;
    if (kind == kInstructions) continue;
    const int64_t ways = (r.b >> 22) + 1, partitions = ((r.b >> 12) & 1023) + 1, line = (r.b & 4095) + 1;
    const int64_t bytes = ways * partitions * line * (int64_t{r.c} + 1);
    if (level == 1) sizes.l1 = bytes;
    if (level == 2) sizes.l2 = bytes;
    if (level == 3) sizes.l3 = bytes;
  }
  return sizes.l1 > 0 && sizes.l2 > 0 ? sizes : CacheSizes{32 << 10, 1 << 20, 16 << 20};
}

Isa choose() {
  const char* cap = std::getenv("QKV_ISA");
  if (cap == nullptr || *cap == '\0') return best_isa();
  for (Isa isa : {Isa::kRef, Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (name(isa) == cap) return std::min(isa, best_isa());
  throw_error(ErrorCode::kValue, "QKV_ISA: {} is not one of ref, avx2, avx512, amx", quote(cap));
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::kRef:
      return "ref";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

const CacheSizes& cache_sizes() {
  static const CacheSizes sizes = detect_caches();
  return sizes;
}

Isa best_isa() {
  const CpuFeatures& f = cpu_features();
  if (f.amx_bf16) return Isa::kAmx;
  if (f.avx512) return Isa::kAvx512;
  return f.avx2_fma ? Isa::kAvx2 : Isa::kRef;
}

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace qkv
