#pragma once
// What this machine can do at most, measured: the speed of products without memory, and of memory without
// products. A kernel that does F operations on B bytes takes at least max(F / peak, B / bandwidth) (Williams,
// Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
// 2009); how near it comes to that is what benchmarks and training print.
//
// Measured with the kernels of the family in use (QKV_ISA), on random numbers, every thread on memory of its
// own, the best of five turns. Beside other work products are still measured whole, by the time that each
// thread has a core; memory is shared, and then measured too low.

#include <cstdint>
#include <string_view>

#include "qkv/tensor/matmul.h"

namespace qkv {

/// What is multiplied: numbers of a dtype, or the bytes that 8-bit models run on (kernels/gemm_int8.h).
enum class Multiplied { kF64, kF32, kBF16, kInt8 };
std::string_view name(Multiplied numbers);          // "f64", "f32", "bf16", "int8"
Multiplied multiplied(const Precision& precision);  // Error kDtype

/// Operations a second of products (a multiply-add counts two) on `n_threads` threads together, at most
/// threads() of them. Takes about `seconds`.
double measure_peak(Multiplied numbers, int n_threads, double seconds);

enum class Traffic { kRead, kWrite, kCopy };
/// Bytes a second, `bytes` split over the threads and passed again and again: what fits in a cache stays
/// there, but for writes and copies, which go past it (kernels/stream.h). A copy counts what it reads and
/// what it writes. At most a GiB is used; what is less than a KiB a thread is measured at that.
double measure_bandwidth(Traffic traffic, int64_t bytes, int n_threads, double seconds);

/// Bytes, over `n_threads` in all, that stay in L1, in L2, in L3, or in none of them: half of what the caches
/// hold, or four times that of the last one.
struct LevelBytes {
  int64_t l1 = 0, l2 = 0, l3 = 0, dram = 0;
};
LevelBytes level_bytes(int n_threads);

/// measure_peak and measure_bandwidth(kRead) with threads() threads, in a tenth of a second or two; asked
/// again, the answer of the first time.
double peak_flops(Multiplied numbers);
double read_bandwidth(int64_t bytes);

}  // namespace qkv
