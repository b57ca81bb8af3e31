// The peak that products are compared with: that it does what it counts, and is no more than can be done.

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "qkv/base/memory.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/amx/gemm_emulated.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

constexpr int64_t kCount = 4 * kPeakNumbers;

template <class T>
struct Numbers {
  std::shared_ptr<Buffer> owner = Buffer::allocate(kCount * sizeof(T));
  T* data = reinterpret_cast<T*>(owner->data());
  Numbers() {
    constexpr float kMost = std::is_same_v<T, int8_t> ? 127 : 1;
    RandomStream random({.seed = 1});
    for (int64_t i = 0; i < kCount; ++i)
      data[i] = static_cast<T>(kMost * static_cast<float>(2 * random.uniform() - 1));
  }
};

// The tiles hold what was counted: a number of A [32, 256] times B [256, 32], over and over.
TEST(GemmPeak, OfTilesIsAProduct) {
  const Numbers<bfloat16> x;
  const GemmKernels<bfloat16> gemm = amx::emulated::kernels(table_for(Isa::kRef).bf16.gemm);
  constexpr int64_t kSteps = 3, m = 32, n = 32, k = 256;
  EXPECT_EQ(gemm.peak(kSteps, x.data), 2 * kSteps * m * n * k);
  const bfloat16* packed = x.data + m * k;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p)  // panels of 16 columns, pairs of k side by side
        sum += double(float(x.data[i * k + p])) *
               double(float(packed[j / 16 * 16 * k + p / 2 * 32 + j % 16 * 2 + p % 2]));
      float tile[16][16];
      amx::EmulatedTiles::store(static_cast<int>(i / 16 * 2 + j / 16), tile, sizeof(tile[0]));
      EXPECT_NEAR(tile[i % 16][j % 16], kSteps * sum, 1e-3) << i << " " << j;
    }
}

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of twenty, in operations a second.
template <class F>
double speed(F&& flops_done) {
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const double begin = cpu_seconds();
    const double done = static_cast<double>(flops_done());
    best = std::max(best, done / (cpu_seconds() - begin));
  }
  return best;
}

void check_speed(const std::string& what, double product, double peak) {
  EXPECT_GT(product / peak, 0.3) << what << ": an operation that is counted is not done";
  EXPECT_LT(product / peak, 1.05) << what << ": nothing passes a peak";
}

constexpr int64_t m = 28, n = 512, k = 128;  // in the caches

template <class T>
void check_speed(const Table& table) {
  const GemmKernels<T>& gemm = table.of<T>().gemm;
  const Numbers<T> a, c;
  const Numbers<accumulator_t<T>> w;
  const auto b = Buffer::allocate(gemm.packed_bytes(k, n));
  gemm.pack_b(
      {.k = k, .n = n, .src = w.data, .row_stride = n, .col_stride = 1, .dst = b->data(), .n_end = n});
  const double product = speed([&] {
    for (int i = 0; i < 20; ++i)
      gemm.run(
          {.m = m, .n = n, .k = k, .a = a.data, .lda = k, .b = b->data(), .n_end = n, .ldc = n, .c = c.data});
    return 20 * 2 * m * n * k;
  });
  check_speed(std::string(name(table.isa)), product, speed([&] { return gemm.peak(10000, a.data); }));
}

void check_speed_of_int8(const Table& table) {
  const Int8Kernels<float>& int8 = table.f32.int8;
  const Numbers<int8_t> a, w;
  const Numbers<float> scales, c;
  const std::vector<int32_t> zeros(m, 3);
  const auto b = Buffer::allocate(int8.packed_bytes(k, n));
  int8.pack_b({.k = k, .n = n, .src = w.data, .lds = k, .dst = b->data(), .n_end = n});
  const double product = speed([&] {
    for (int i = 0; i < 20; ++i)
      int8.run({.m = m,
                .n = n,
                .k = k,
                .a = a.data,
                .lda = k,
                .a_scales = scales.data,
                .a_zeros = zeros.data(),
                .b = b->data(),
                .b_scales = scales.data,
                .n_end = n,
                .c = c.data,
                .ldc = n});
    return 20 * 2 * m * n * k;
  });
  check_speed(std::string(name(table.isa)) + " int8", product,
              speed([&] { return int8.peak(10000, a.data); }));
}

// A compiler that does less than was written makes a peak that nothing comes near.
TEST(GemmPeak, IsNearAboveWhatAProductReaches) {
#ifdef QKV_DEBUG_CHECKS
  GTEST_SKIP() << "says nothing without optimization";
#endif
  for (int i = static_cast<int>(Isa::kAvx2); i <= static_cast<int>(best_isa()); ++i) {
    check_speed<float>(table_for(static_cast<Isa>(i)));
    check_speed<bfloat16>(table_for(static_cast<Isa>(i)));
    check_speed_of_int8(table_for(static_cast<Isa>(i)));
  }
}

}  // namespace
}  // namespace qkv::kernels
