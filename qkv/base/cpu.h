#pragma once
// What this CPU can do, and the instruction set that qkv uses on it.

#include <cstdint>
#include <string>
#include <string_view>

namespace qkv {

/// Kernel families, each containing those before it.
enum class Isa { kRef, kAvx2, kAvx512, kAmx };

std::string_view name(Isa isa);  // "ref", "avx2", "avx512", "amx"

struct CpuFeatures {
  std::string vendor, model;
  bool avx2_fma = false;  // AVX2, FMA, F16C, and the OS saves the registers
  bool avx512 = false;    // F, BW, DQ, VL
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // unit present and the kernel gave this process permission to use it
  bool avx512_vnni = false, avx512_fp16 = false, amx_int8 = false;
  // Whether vdpbf16ps beats widening to f32 and FMA. On AMD (Zen 4, 5) it does twice the work of an f32 FMA
  // at the same rate; on Intel it does half of it.
  bool fast_bf16_dot = false;
};
const CpuFeatures& cpu_features();

/// Bytes of data caches: of a core, of a core, and what the cores around one share; 0 for a level that is not
/// there.
struct CacheSizes {
  int64_t l1 = 0, l2 = 0, l3 = 0;
};
/// As the CPU tells (cpuid). Where it tells nothing: 32 KiB, 1 MiB, 16 MiB.
const CacheSizes& cache_sizes();

/// The family in use: the best that the CPU runs, capped by the environment variable QKV_ISA
/// (ref|avx2|avx512|amx; Error kValue when it is none of these). Decided once, at first use.
Isa isa();
/// The best family that this CPU runs, whatever QKV_ISA says.
Isa best_isa();

}  // namespace qkv
