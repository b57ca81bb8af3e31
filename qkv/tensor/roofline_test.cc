#include "qkv/tensor/roofline.h"

#include <gtest/gtest.h>

#include <chrono>

#include "qkv/base/parallel.h"

namespace qkv {
namespace {

double seconds(auto&& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(Roofline, EveryFigureIsMeasuredInAboutTheTimeItIsGiven) {
  for (const Multiplied numbers :
       {Multiplied::kF64, Multiplied::kF32, Multiplied::kBF16, Multiplied::kInt8}) {
    double peak = 0;
    const double took = seconds([&] { peak = measure_peak(numbers, 1, 0.02); });
    EXPECT_GT(peak, 1e7);
    EXPECT_GE(took, 0.02);
    EXPECT_LT(took, 2);
  }
  for (const Traffic traffic : {Traffic::kRead, Traffic::kWrite, Traffic::kCopy})
    for (const int64_t bytes : {0, 1000, 1 << 20})
      EXPECT_GT(measure_bandwidth(traffic, bytes, threads(), 0.01), 1e7) << bytes;
}

TEST(Roofline, ThreadsWithoutACoreOfTheirOwnCountNothing) {
  const int before = threads();
  set_threads(1);
  const double one = measure_peak(Multiplied::kF32, 1, 0.05), many = measure_peak(Multiplied::kF32, 64, 0.05);
  set_threads(before);
  EXPECT_LT(many, 2 * one);
  const int cores = omp_get_num_procs();
  set_threads(4 * cores);
  const double shared = measure_peak(Multiplied::kF32, 4 * cores, 0.05);
  set_threads(before);
  EXPECT_LT(shared, 2 * cores * one);
}

TEST(Roofline, IsMeasuredOnceInAProcess) {
  EXPECT_EQ(peak_flops(Multiplied::kF32), peak_flops(Multiplied::kF32));
  EXPECT_EQ(read_bandwidth(1 << 20), read_bandwidth(1 << 20));
}

TEST(Roofline, LevelsGrow) {
  for (const int n : {1, 2, 64}) {
    const LevelBytes b = level_bytes(n);
    EXPECT_GT(b.l1, 0);
    EXPECT_LT(b.l1, b.l2);
    EXPECT_LT(b.l2, b.l3);
    EXPECT_LT(b.l3, b.dram);
  }
}

}  // namespace
}  // namespace qkv
