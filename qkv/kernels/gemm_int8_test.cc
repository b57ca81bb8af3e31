// Every family that this machine runs against the definition: the same bits, since sums of integers are exact
// and everything after them is rounded one operation at a time.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "qkv/base/memory.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/amx/tile_trap.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

namespace avx512 {
Int8Kernels<float> int8_pairs();
}
void extend_gemm_int8_amx(Table& table);

namespace {

template <class T>
struct Family {
  std::string name;
  Int8Kernels<T> int8;
};

template <class T>
std::vector<Family<T>> families() {
  std::vector<Family<T>> all;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
    all.push_back({std::string(name(static_cast<Isa>(i))), table_for(static_cast<Isa>(i)).of<T>().int8});
  // Not in the table where the CPU multiplies bytes.
  if constexpr (std::is_same_v<T, float>)
    if (best_isa() >= Isa::kAvx512) all.push_back({"avx512 pairs", avx512::int8_pairs()});
  return all;
}

// From least to 127; extreme: nearly all of them 127, the rest least.
template <class Int>
std::vector<Int> integers(int64_t n, uint32_t stream, int least, bool extreme) {
  RandomStream random({.seed = 1, .stream = stream});
  std::vector<Int> x(static_cast<size_t>(n));
  const auto different = static_cast<uint32_t>(128 - least);
  for (Int& one : x)
    one = static_cast<Int>(extreme ? (random.below(80) ? 127 : least)
                                   : static_cast<int>(random.below(different)) + least);
  return x;
}
std::vector<float> floats(int64_t n, uint32_t stream) {
  RandomStream random({.seed = 2, .stream = stream});
  std::vector<float> x(static_cast<size_t>(n));
  for (float& one : x) one = static_cast<float>(random.normal());
  return x;
}

template <class T>
std::vector<T> product(const Int8Kernels<T>& kernels, int64_t m, int64_t n, int64_t k, bool bias,
                       Activation activation, bool extreme, bool in_parts, bool residual = false) {
  // Extreme: rows of 127 with the zero point -128, then of -128 with 127, in turn.
  // The last row of A ends where its memory does: a sanitizer sees reads beyond it.
  const int64_t lda = k + 3, ldw = k + 5, ldc = n + 2;
  auto a = integers<int8_t>(m > 0 ? (m - 1) * lda + k : 0, 1, -128, extreme);
  const auto w = integers<int8_t>(n * ldw, 2, -127, extreme);
  auto z = integers<int32_t>(m, 7, -128, false);
  for (int64_t i = 0; extreme && i < m; ++i) {
    z[i] = i % 2 ? 127 : -128;
    if (i % 2) std::fill_n(a.begin() + i * lda, k, int8_t{-128});
  }
  const std::vector<float> s = floats(m, 3), t = floats(n, 4), b = floats(n, 5);
  const auto packed = Buffer::allocate(std::max<int64_t>(1, kernels.packed_bytes(k, n)));
  std::vector<T> c(static_cast<size_t>(m * ldc), T(7.0f)), beside;
  for (const float one : floats(m * ldc, 6)) beside.push_back(T(one));
  const int64_t cut = in_parts ? std::min(n, kernels.block_n) : n;
  for (const auto& [begin, end] : {std::pair{int64_t{0}, cut}, std::pair{cut, n}}) {
    kernels.pack_b(
        {.k = k, .n = n, .src = w.data(), .lds = ldw, .dst = packed->data(), .n_begin = begin, .n_end = end});
    kernels.run({.m = m,
                 .n = n,
                 .k = k,
                 .a = a.data(),
                 .lda = lda,
                 .a_scales = s.data(),
                 .a_zeros = z.data(),
                 .b = packed->data(),
                 .b_scales = t.data(),
                 .n_begin = begin,
                 .n_end = end,
                 .c = c.data(),
                 .ldc = ldc,
                 .bias = bias ? b.data() : nullptr,
                 .activation = activation,
                 .residual = residual ? beside.data() : nullptr});
  }
  return c;
}

template <class T>
void expect_definition(int64_t m, int64_t n, int64_t k, bool extreme = false) {
  for (bool bias : {false, true})
    for (bool residual : {false, true})
      for (Activation f : {Activation::kNone, Activation::kRelu}) {
        const std::vector<T> want =
            product(table_for(Isa::kRef).of<T>().int8, m, n, k, bias, f, extreme, false, residual);
        for (const Family<T>& family : families<T>())
          for (bool in_parts : {false, true}) {
            const std::vector<T> got = product(family.int8, m, n, k, bias, f, extreme, in_parts, residual);
            ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(T)), 0)
                << family.name << " m " << m << " n " << n << " k " << k << " bias " << bias << " residual "
                << residual;
          }
      }
}

TEST(GemmInt8, IsTheDefinitionBitForBit) {
  for (int64_t m : {0, 1, 2, 5, 13, 14, 15, 33})
    for (int64_t n : {1, 7, 16, 31, 64, 100})
      for (int64_t k : {0, 1, 3, 4, 5, 63, 64, 65, 130}) {
        expect_definition<float>(m, n, k);
        expect_definition<bfloat16>(m, n, k);
      }
}
TEST(GemmInt8, LongSumsAreCutAndStayExact) {
  for (int64_t k : {1023, 1025, 2049, 3072, 4099})
    for (int64_t m : {1, 17, 120}) expect_definition<float>(m, 70, k);
  expect_definition<float>(2, 3, kInt8Depth, /*extreme=*/true);
}
TEST(GemmInt8, OtherActivationsAreThoseOfTheOtherProducts) {
  for (Activation f : {Activation::kGelu, Activation::kGeluTanh, Activation::kSilu, Activation::kTanh}) {
    const std::vector<float> want = product(table_for(Isa::kRef).f32.int8, 5, 33, 40, true, f, false, false);
    for (const Family<float>& family : families<float>()) {
      const std::vector<float> got = product(family.int8, 5, 33, 40, true, f, false, false);
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 2e-6f * std::max(1.0f, std::abs(want[i]))) << family.name;
    }
  }
}

// The compiled AMX code: on the unit where there is one, else with each of its instructions trapped and done
// in software (what surrounds them needs AVX-512).
TEST(GemmInt8, OfTilesIsTheDefinitionBitForBit) {
  if (!cpu_features().avx512_bf16) GTEST_SKIP() << "no AVX-512 with bf16 on this CPU";
  std::optional<amx::Trap> trap;
  if (!cpu_features().amx_int8) trap.emplace();
  Table tiles = table_for(Isa::kAvx512);
  extend_gemm_int8_amx(tiles);
  for (int64_t m : {1, 15, 16, 17, 33, 64, 70})
    for (int64_t n : {1, 16, 33, 64, 100})
      for (int64_t k : {1, 63, 64, 65, 130, 600})
        for (Activation f : {Activation::kNone, Activation::kRelu}) {
          EXPECT_EQ(product(tiles.f32.int8, m, n, k, true, f, false, false),
                    product(table_for(Isa::kRef).f32.int8, m, n, k, true, f, false, false))
              << "m " << m << " n " << n << " k " << k;
        }
  for (bool in_parts : {false, true}) {
    EXPECT_EQ(product(tiles.f32.int8, 17, 150, 0, true, Activation::kNone, false, in_parts),
              product(table_for(Isa::kRef).f32.int8, 17, 150, 0, true, Activation::kNone, false, in_parts));
    const auto got = product(tiles.bf16.int8, 17, 150, 65, true, Activation::kRelu, false, in_parts, true),
               want = product(table_for(Isa::kRef).bf16.int8, 17, 150, 65, true, Activation::kRelu, false,
                              in_parts, true);
    EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(bfloat16)), 0);
  }
  EXPECT_EQ(product(tiles.f32.int8, 18, 40, 4200, true, Activation::kNone, false, true),
            product(table_for(Isa::kRef).f32.int8, 18, 40, 4200, true, Activation::kNone, false, true));
}

template <class T>
void expect_same_quantisation(bool with_zeros) {
  const auto& ref = table_for(Isa::kRef).of<T>().int8;
  for (int64_t k : {1, 5, 15, 16, 17, 63, 64, 65, 200}) {
    const int64_t rows = 14, ldx = k + 1, ldq = k + 2;
    std::vector<float> numbers = floats(rows * ldx, 6);
    for (int64_t c = 0; c < k; ++c) {
      numbers[c] = 0;                                           // row 0: all zero
      numbers[ldx + c] *= 1e-40f;                               // 1: subnormal
      numbers[2 * ldx + c] *= 1e37f;                            // 2: huge
      numbers[3 * ldx + c] = static_cast<float>(c % 7) + 0.5f;  // 3: ties
      numbers[9 * ldx + c] = c % 2 ? 3e38f : -3e38f;            // 9: as far apart as can be
      numbers[10 * ldx + c] = -0.0f;
      numbers[11 * ldx + c] = -1 - std::abs(numbers[11 * ldx + c]);  // 11: nothing above 0
      numbers[12 * ldx + c] = c % 3 ? 0x1p-101f : kInt8Least;        // 12: just counts
      numbers[13 * ldx + c] = 0x1p-101f;                             // 13: just does not
    }
    numbers[4 * ldx + k - 1] = std::numeric_limits<float>::quiet_NaN();
    numbers[5 * ldx] = -std::numeric_limits<float>::infinity();
    numbers[6 * ldx + k] = std::numeric_limits<float>::quiet_NaN();  // beyond the row
    const std::vector<T> x(numbers.begin(), numbers.end());
    const auto run = [&](const Int8Kernels<T>& kernels) {
      std::vector<int8_t> q(static_cast<size_t>(rows * ldq), int8_t{99});
      std::vector<float> scales(rows);
      std::vector<int32_t> zeros(rows, 0);
      kernels.quantise_rows(rows, k, x.data(), ldx, q.data(), ldq, scales.data(),
                            with_zeros ? zeros.data() : nullptr);
      return std::tuple(q, scales, zeros);
    };
    const auto [q, scales, zeros] = run(ref);
    EXPECT_TRUE(std::isnan(scales[4]) && std::isnan(scales[5]) && std::isfinite(scales[6]));
    EXPECT_TRUE(!with_zeros || (zeros[11] == 127 && zeros[3] == -128));
    EXPECT_TRUE(scales[12] > 0 && scales[13] == 0);
    for (int64_t r : {0, 2, 3, 6, 7, 8, 9, 10, 11, 12})
      for (int64_t c = 0; c < k; ++c) {
        const auto want = static_cast<float>(x[r * ldx + c]);
        const int steps = q[r * ldq + c] - zeros[r];
        EXPECT_LE(std::abs(scales[r] * static_cast<float>(steps) - want), 0.501f * scales[r])
            << "k " << k << " row " << r << " column " << c;
        EXPECT_TRUE(want != 0 || steps == 0) << "0 is not exact";
      }
    for (const Family<T>& family : families<T>()) {
      const auto [q2, scales2, zeros2] = run(family.int8);
      EXPECT_EQ(q2, q) << family.name << " k " << k;
      EXPECT_EQ(zeros2, zeros) << family.name << " k " << k;
      for (int64_t r = 0; r < rows; ++r)
        EXPECT_TRUE(scales2[r] == scales[r] || (std::isnan(scales2[r]) && std::isnan(scales[r])))
            << family.name;
    }
  }
}
TEST(GemmInt8, RowsBecomeIntegersInOneWay) {
  for (bool with_zeros : {false, true}) {
    expect_same_quantisation<float>(with_zeros);
    expect_same_quantisation<bfloat16>(with_zeros);
  }
}
// A row without negative numbers has twice the steps of one about zero.
TEST(GemmInt8, OneSidedRowsUseEveryStep) {
  std::vector<float> x = floats(1000, 8);
  for (float& one : x) one = std::abs(one);
  const float most = *std::max_element(x.begin(), x.end());
  std::vector<int8_t> q(x.size());
  float scale = 0;
  int32_t zero = 0;
  table_for(Isa::kRef).f32.int8.quantise_rows(1, 1000, x.data(), 1000, q.data(), 1000, &scale, &zero);
  EXPECT_EQ(zero, -128);
  EXPECT_FLOAT_EQ(scale, most / 255);
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_LE(std::abs(scale * static_cast<float>(q[i] - zero) - x[i]), 0.501f * scale);
}

}  // namespace
}  // namespace qkv::kernels
