#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "qkv/base/bfloat16.h"
#include "qkv/base/checked.h"
#include "qkv/base/cpu.h"
#include "qkv/base/dtype.h"
#include "qkv/base/error.h"
#include "qkv/base/memory.h"
#include "qkv/base/nearest.h"
#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/base/segments.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, GivesThePublishedVectors) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, NormalsHaveMeanZeroAndVarianceOne) {
  RandomStream random({.seed = 7});
  double sum = 0, squares = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 1, 0.02);
}

TEST(Bfloat16, RoundsToNearestEven) {
  EXPECT_EQ(float(bfloat16(1.0f)), 1.0f);
  EXPECT_EQ(float(bfloat16(1.00390625f)), 1.0f);       // half way between 1 and 1.0078125: to even
  EXPECT_EQ(float(bfloat16(1.01171875f)), 1.015625f);  // half way, upper neighbour is even
  EXPECT_TRUE(std::isnan(float(bfloat16(NAN))));
  EXPECT_TRUE(std::isinf(float(bfloat16(INFINITY))));
}

TEST(Checked, OverflowIsAnErrorThatNamesTheNumber) {
  EXPECT_EQ(checked_mul<int64_t>(3, 4, "size"), 12);
  try {
    checked_mul<int64_t>(INT64_MAX, 2, "tensor bytes");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kFormat);
    EXPECT_NE(std::string(e.what()).find("tensor bytes"), std::string::npos);
  }
  EXPECT_THROW((checked_narrow<int32_t>(int64_t{1} << 40, "id")), Error);
  EXPECT_THROW((checked_narrow<uint32_t>(int64_t{-1}, "id")), Error);
}

TEST(Segments, KnowsWhereEachSequenceBegins) {
  const Segments s({3, 0, 2}, {0, 5, 1});
  EXPECT_EQ(s.size(), 3);
  EXPECT_EQ(s.n_tokens(), 5);
  EXPECT_EQ(s.begin(2), 3);
  EXPECT_EQ(s.length(1), 0);
  EXPECT_EQ(s.past(1), 5);
  EXPECT_EQ(s.max_length(), 3);
  EXPECT_THROW(Segments({-1}), Error);
  EXPECT_THROW(Segments({1}, {1, 2}), Error);
}

TEST(Segments, RefuseMoreThanCanBeCounted) {
  EXPECT_ERROR(kFormat, "segments: rows: ", Segments({INT64_MAX, INT64_MAX, 6}));
  EXPECT_ERROR(kFormat, "segments: past and length: ", Segments({2}, {INT64_MAX - 1}));
  EXPECT_EQ(Segments({1}, {INT64_MAX - 1}).past(0), INT64_MAX - 1);
}

TEST(Nearest, SuggestsNothingToAWordThatHasNothingInCommon) {
  const std::vector<std::string> words = {"t5", "dot", "rope", "train"};
  EXPECT_EQ(nearest("rop", words), "rope");
  EXPECT_EQ(nearest("t6", words), "t5");
  EXPECT_EQ(nearest("trian", words), "train");
  for (const char* far : {"", "a", "ab", "\xff\xfe", "\xe2\x80\xa8", "xyz"})
    EXPECT_EQ(nearest(far, words), "") << far;
}

TEST(ParallelFor, VisitsEachIndexOnceAndPassesErrorsOn) {
  for (int team : {1, 2, 5}) {
    set_threads(team);
    std::vector<int> seen(1001, 0);
    parallel_for(1001, 16, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 16, 0);
      for (int64_t i = begin; i < end; ++i) ++seen[i];
    });
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 1001);
    EXPECT_THROW(parallel_items(4, [](int64_t i) { QKV_CHECK(i != 2, kValue, "no"); }), Error);
    // Work of a few microseconds stays on this thread.
    parallel_items(
        1001, [&](int64_t) { EXPECT_EQ(omp_get_num_threads(), 1); }, 100);
  }
  set_threads(0);
}

TEST(Buffer, IsAlignedAndReused) {
  const auto first = Buffer::allocate(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first->data()) % 64, 0u);
  const int64_t held = memory_use().held;
  for (int i = 0; i < 10; ++i) Buffer::allocate(5000);
  EXPECT_LE(memory_use().held, held + 8192);
  EXPECT_THROW(Buffer::allocate(-1), Error);
}

TEST(MemoryUse, TellsThePeakSinceItWasReset) {
  const int64_t before = memory_use().in_use;
  { const auto large = Buffer::allocate(1 << 20); }
  EXPECT_GE(memory_use().peak, before + (1 << 20));
  reset_memory_peak();
  EXPECT_EQ(memory_use().peak, before);
  { const auto small = Buffer::allocate(1000); }
  EXPECT_GE(memory_use().peak, before + 1000);
  EXPECT_LT(memory_use().peak, before + (1 << 20));
  EXPECT_EQ(memory_use().in_use, before);
}

TEST(MemoryUse, CountsContainersThatAskForIt) {
  const int64_t before = memory_use().in_use;
  {
    const std::vector<double, CountedAllocator<double>> numbers(1000);
    const std::vector<bool, CountedAllocator<bool>> bits(64000);
    EXPECT_EQ(memory_use().in_use, before + 16000);
  }
  EXPECT_EQ(memory_use().in_use, before);
}

TEST(Cpu, NamesRoundTrip) {
  EXPECT_LE(static_cast<int>(isa()), static_cast<int>(best_isa()));
  EXPECT_EQ(dtype_from_name("bf16"), DType::kBF16);
  EXPECT_THROW(dtype_from_name("f16"), Error);
}

}  // namespace
}  // namespace qkv
