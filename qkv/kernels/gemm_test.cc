// Every family that this machine runs, and the AMX algorithm in emulation, against sums in float64; and what
// is compiled for AMX against that emulation.
//
// Tolerances: a sum of k products in a type of unit roundoff u errs by at most (k + 2) u sum |a||b| (Higham,
// Accuracy and Stability of Numerical Algorithms, 3.1), whatever its order; an activation, whose slope is at
// most 1.2, passes that on and adds 1e-6 max(1, |x|) in float; storing bfloat16 adds 2^-8 of the value;
// subnormals may be taken as zeros.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "qkv/base/memory.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/amx/gemm_emulated.h"
#include "qkv/kernels/amx/tile_trap.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {

namespace avx512 {
GemmKernels<bfloat16> gemm_bf16_widened();
}

namespace {

template <class T>
struct Family {
  std::string name;
  GemmKernels<T> gemm;
};

template <class T>
std::vector<Family<T>> families() {
  std::vector<Family<T>> all;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    const Isa isa = static_cast<Isa>(i);
    all.push_back({std::string(name(isa)), table_for(isa).of<T>().gemm});
  }
  if constexpr (std::is_same_v<T, bfloat16>) {
    // Not in the table where the CPU has a fast dot instruction.
    if (best_isa() >= Isa::kAvx512) all.push_back({"avx512 widened", avx512::gemm_bf16_widened()});
    all.push_back({"amx emulated", amx::emulated::kernels(table_for(Isa::kRef).bf16.gemm)});
  }
  return all;
}

/// What is wanted of one call; k, m, n and the distances between rows.
struct Case {
  int64_t m = 1, n = 1, k = 1;
  int64_t more_lda = 0, more_ldc = 0;
  bool b_along_k = true, src_is_t = false;  // B = W^T of a [n, k] matrix, or B itself
  bool acc = false, accumulate = false, bias = false, pre = false, residual = false;
  bool back = false;  // C = (a b) f'(derivative_at)
  Activation activation = Activation::kNone;
};

std::string text(const Case& c) {
  return "m " + std::to_string(c.m) + " n " + std::to_string(c.n) + " k " + std::to_string(c.k) + " lda +" +
         std::to_string(c.more_lda) + " ldc +" + std::to_string(c.more_ldc) + " along_k " +
         std::to_string(c.b_along_k) + " src_is_t " + std::to_string(c.src_is_t) + " acc " +
         std::to_string(c.acc) + " accumulate " + std::to_string(c.accumulate) + " bias " +
         std::to_string(c.bias) + " pre " + std::to_string(c.pre) + " residual " +
         std::to_string(c.residual) + " back " + std::to_string(c.back) + " activation " +
         std::to_string(static_cast<int>(c.activation));
}

/// Operands and result of one Case. What lies between rows is filled with NaN and must stay so.
template <class T>
struct Problem {
  using A = accumulator_t<T>;
  Case c;
  int64_t lda, ldc;
  std::vector<T> a, b_t;          // [m, lda]; B [k, n], rounded
  std::vector<A> b, bias, start;  // B as masters; what accumulate adds to
  std::shared_ptr<Buffer> packed;
  std::vector<T> out, pre, beside;  // beside: residual or derivative_at
  std::vector<A> out_acc;

  Problem(const Case& what, uint32_t seed) : c(what), lda(c.k + c.more_lda), ldc(c.n + c.more_ldc) {
    RandomStream numbers({.seed = seed});
    const auto number = [&] { return static_cast<float>(numbers.uniform() * 2 - 1); };
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    a.assign(c.m * lda, T(kNan));
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t p = 0; p < c.k; ++p) a[i * lda + p] = T(number());
    for (int64_t i = 0; i < c.k * c.n; ++i) {
      b.push_back(number());
      b_t.push_back(static_cast<T>(b.back()));
    }
    for (int64_t j = 0; j < c.n; ++j) bias.push_back(number());
    start.assign(c.m * ldc, A(kNan));
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < c.n; ++j) start[i * ldc + j] = number();
    beside.assign(c.m * ldc, T(kNan));
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < c.n; ++j) beside[i * ldc + j] = T(number());
  }

  void pack(const GemmKernels<T>& gemm, int64_t part = 0) {
    packed = Buffer::allocate(gemm.packed_bytes(c.k, c.n));
    std::memset(packed->data(), 0xff, packed->bytes());  // NaN wherever packing forgets to write
    // The source in the order asked for: its element (r, c) is B's (r, c).
    std::vector<A> master(b.size());
    std::vector<T> same(b.size());
    for (int64_t r = 0; r < c.k; ++r)
      for (int64_t j = 0; j < c.n; ++j) {
        const int64_t at = c.b_along_k ? j * c.k + r : r * c.n + j;
        master[at] = b[r * c.n + j], same[at] = b_t[r * c.n + j];
      }
    if (part <= 0) part = std::max<int64_t>(c.n, 1);
    for (int64_t n0 = 0; n0 < c.n; n0 += part)
      gemm.pack_b({.k = c.k,
                   .n = c.n,
                   .src = c.src_is_t ? static_cast<const void*>(same.data()) : master.data(),
                   .src_is_t = c.src_is_t,
                   .row_stride = c.b_along_k ? 1 : c.n,
                   .col_stride = c.b_along_k ? c.k : 1,
                   .dst = packed->data(),
                   .n_begin = n0,
                   .n_end = std::min(c.n, n0 + part)});
  }

  Gemm<T> call() {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    out.assign(c.m * ldc, T(kNan));
    pre.assign(c.m * ldc, T(kNan));
    out_acc = c.accumulate ? start : std::vector<A>(c.m * ldc, A(kNan));
    return {.m = c.m,
            .n = c.n,
            .k = c.k,
            .a = a.data(),
            .lda = lda,
            .b = packed->data(),
            .n_begin = 0,
            .n_end = c.n,
            .ldc = ldc,
            .c = c.acc ? nullptr : out.data(),
            .c_acc = c.acc ? out_acc.data() : nullptr,
            .accumulate = c.accumulate,
            .bias = c.bias ? bias.data() : nullptr,
            .activation = c.activation,
            .pre = c.pre ? pre.data() : nullptr,
            .residual = c.residual ? beside.data() : nullptr,
            .derivative_at = c.back ? beside.data() : nullptr};
  }
};

double activate(Activation f, double x) {
  switch (f) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kEluPlusOne:
      return x > 0 ? x + 1 : std::exp(x);
  }
  return x;
}

/// f'(x); of relu and tanh from f(x).
double slope(Activation f, double x) {
  const double tanh_in = std::sqrt(2 / M_PI), t = std::tanh(tanh_in * (x + 0.044715 * x * x * x)),
               s = 1 / (1 + std::exp(-x));
  switch (f) {
    case Activation::kNone:
      return 1;
    case Activation::kRelu:
      return x > 0 ? 1 : 0;
    case Activation::kGelu:
      return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
    case Activation::kGeluTanh:
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * tanh_in * (1 + 3 * 0.044715 * x * x);
    case Activation::kSilu:
      return s * (1 + x * (1 - s));
    case Activation::kTanh:
      return 1 - x * x;
    case Activation::kEluPlusOne:
      return x > 0 ? 1 : std::exp(x);
  }
  return 1;
}

/// Half a unit in the last place, relative, of a type.
template <class T>
constexpr double kRoundoff = std::is_same_v<T, double>  ? 0x1p-53
                             : std::is_same_v<T, float> ? 0x1p-24
                                                        : 0x1p-8;

template <class T>
void expect_right(const Problem<T>& p, const std::string& where) {
  using A = accumulator_t<T>;
  const Case& c = p.c;
  int wrong = 0;
  for (int64_t i = 0; i < c.m && wrong < 3; ++i)
    for (int64_t j = 0; j < p.ldc && wrong < 3; ++j) {
      const int64_t at = i * p.ldc + j;
      const double got = c.acc ? static_cast<double>(p.out_acc[at]) : static_cast<double>(p.out[at]);
      const double got_pre = static_cast<double>(p.pre[at]);
      if (j >= c.n) {
        if (!std::isnan(got) || !std::isnan(got_pre))
          ++wrong,
              ADD_FAILURE() << where << ": wrote beyond the row, at " << i << ", " << j << "; " << text(c);
        continue;
      }
      double sum = 0, size = 0;
      for (int64_t q = 0; q < c.k; ++q) {
        const double product =
            static_cast<double>(p.a[i * p.lda + q]) * static_cast<double>(p.b_t[q * c.n + j]);
        sum += product, size += std::abs(product);
      }
      double x = sum;
      if (c.accumulate) x += p.start[at], size += std::abs(p.start[at]);
      if (c.bias) x += p.bias[j], size += std::abs(p.bias[j]);
      const double beside = c.residual || c.back ? static_cast<double>(p.beside[at]) : 0;
      const double factor = c.back ? slope(c.activation, beside) : 1;
      const double y = c.back ? x * factor : activate(c.activation, x) + beside;
      const double sum_error = static_cast<double>(c.k + 2) * kRoundoff<A> * size + 1e-37;
      const double store = c.acc ? 0 : kRoundoff<T>;
      const double activation_error = c.activation <= Activation::kRelu
                                          ? 0
                                          : (sizeof(A) == 8 ? 1e-14 : 1e-6) * std::max(1.0, std::abs(x));
      const double bound = ((c.back ? std::abs(factor) : 1.2) * sum_error +
                            (beside != 0 ? kRoundoff<A> * std::abs(y) : 0) + activation_error) *
                               (1 + store) +
                           store * std::abs(y);
      if (!(std::abs(got - y) <= bound))
        ++wrong, ADD_FAILURE() << where << ": at " << i << ", " << j << " got " << got << " want " << y
                               << " +- " << bound << "; " << text(c);
      if (c.pre && !(std::abs(got_pre - x) <= sum_error * 1.01 + kRoundoff<T> * std::abs(x)))
        ++wrong, ADD_FAILURE() << where << ": pre at " << i << ", " << j << " got " << got_pre << " want "
                               << x << "; " << text(c);
    }
}

template <class T>
void check(const Family<T>& family, const Case& c, uint32_t seed) {
  Problem<T> p(c, seed);
  p.pack(family.gemm);
  family.gemm.run(p.call());
  expect_right(p, family.name + " " + std::string(name(dtype_of<T>::value)));
}

template <class T>
class GemmOf : public ::testing::Test {};
using Types = ::testing::Types<double, float, bfloat16>;
TYPED_TEST_SUITE(GemmOf, Types);

// 2 x 2 times 2 x 2, by hand, in a family of every kind: [1 2; 3 4] [5 6; 7 8] = [19 22; 43 50].
TYPED_TEST(GemmOf, MultipliesTwoByTwo) {
  using T = TypeParam;
  for (const auto& family : families<T>()) {
    Problem<T> p({.m = 2, .n = 2, .k = 2}, 1);
    p.a = {T(1.0f), T(2.0f), T(3.0f), T(4.0f)};
    p.b = {5, 6, 7, 8};
    for (int i = 0; i < 4; ++i) p.b_t[i] = static_cast<T>(p.b[i]);
    p.pack(family.gemm);
    family.gemm.run(p.call());
    const double want[] = {19, 22, 43, 50};
    for (int i = 0; i < 4; ++i) EXPECT_EQ(static_cast<double>(p.out[i]), want[i]) << family.name;
  }
}

TYPED_TEST(GemmOf, IsRightForShapesThatStraddleTheTiles) {
  uint32_t seed = 0;
  for (const auto& family : families<TypeParam>())
    for (int64_t m : {1, 2, 7, 16, 17, 33, 65})
      for (int64_t n : {1, 15, 16, 17, 33, 64, 65})
        for (int64_t k : {1, 2, 31, 33, 64, 65})
          check(family,
                {.m = m, .n = n, .k = k, .more_lda = m % 3, .more_ldc = n % 4, .b_along_k = k % 2 == 0},
                ++seed);
}

TYPED_TEST(GemmOf, IsRightForEveryHeightOfTheRegisterTile) {
  for (const auto& family : families<TypeParam>())
    for (int64_t m = 1; m <= 40; ++m) check(family, {.m = m, .n = 150, .k = 48, .acc = m % 2 == 0}, 7);
}

TYPED_TEST(GemmOf, IsRightForLongSumsTakenInChunks) {
  for (const auto& family : families<TypeParam>()) {
    check(family, {.m = 37, .n = 70, .k = 2500}, 1);
    check(family, {.m = 130, .n = 17, .k = 1031, .acc = true}, 2);
    check(family, {.m = 20, .n = 34, .k = 4133, .acc = true, .accumulate = true}, 3);
    check(family, {.m = 5, .n = 290, .k = 2101, .bias = true, .activation = Activation::kGelu}, 4);
  }
}

TYPED_TEST(GemmOf, AppliesEveryEpilogue) {
  uint32_t seed = 0;
  for (const auto& family : families<TypeParam>())
    for (Activation f : {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                         Activation::kSilu, Activation::kTanh, Activation::kEluPlusOne})
      for (int flags = 0; flags < 16; ++flags)
        for (int64_t n : {9, 64, 83})
          check(family,
                {.m = 19,
                 .n = n,
                 .k = 40,
                 .more_ldc = 5,
                 .acc = (flags & 1) != 0,
                 .bias = (flags & 2) != 0,
                 .pre = (flags & 4) != 0,
                 .residual = (flags & 8) != 0,
                 .activation = f},
                ++seed);
}

TYPED_TEST(GemmOf, MultipliesByEveryDerivative) {
  uint32_t seed = 0;
  for (const auto& family : families<TypeParam>())
    for (Activation f : {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                         Activation::kSilu, Activation::kTanh, Activation::kEluPlusOne})
      for (const bool acc : {false, true})
        for (int64_t n : {9, 64, 83})
          check(family, {.m = 19, .n = n, .k = 40, .more_ldc = 5, .acc = acc, .back = true, .activation = f},
                ++seed);
  for (const auto& family : families<TypeParam>())  // in chunks
    check(family, {.m = 37, .n = 70, .k = 2500, .back = true, .activation = Activation::kGelu}, 1);
}

TYPED_TEST(GemmOf, AccumulatesOntoWhatIsThere) {
  for (const auto& family : families<TypeParam>())
    for (int64_t n : {9, 64, 83})
      check(family, {.m = 33, .n = n, .k = 64, .more_ldc = 3, .acc = true, .accumulate = true}, 5);
}

TYPED_TEST(GemmOf, NothingToSumGivesTheBiasAlone) {
  for (const auto& family : families<TypeParam>()) {
    check(family, {.m = 18, .n = 37, .k = 0, .bias = true}, 1);
    check(family, {.m = 18, .n = 37, .k = 0, .acc = true}, 1);
    check(family, {.m = 18, .n = 37, .k = 0, .acc = true, .accumulate = true}, 1);
    check(family, {.m = 0, .n = 37, .k = 5}, 1);
    check(family, {.m = 18, .n = 0, .k = 5}, 1);
  }
}

TYPED_TEST(GemmOf, PacksFromMastersAndFromActivationsInEitherOrder) {
  for (const auto& family : families<TypeParam>())
    for (bool along_k : {false, true})
      for (bool is_t : {false, true})
        for (int64_t k : {16, 33, 64, 100})
          for (int64_t n : {16, 45, 96})
            check(family, {.m = 5, .n = n, .k = k, .b_along_k = along_k, .src_is_t = is_t}, 3);
}

// Ruling 5: what a row gets does not depend on what else is in the batch, on how rows and columns are split
// over threads, nor on how B was packed.
TYPED_TEST(GemmOf, ARowsBitsDoNotDependOnItsCompany) {
  using T = TypeParam;
  for (const auto& family : families<T>())
    for (int64_t k : {33, 64, 2100}) {
      const int64_t m = k > 1000 ? 37 : 70, n = k > 1000 ? 139 : 203;
      Problem<T> p({.m = m, .n = n, .k = k, .bias = true, .activation = Activation::kGelu}, 11);
      p.pack(family.gemm);
      family.gemm.run(p.call());
      const std::vector<T> together = p.out;
      const auto same = [&] {
        return std::memcmp(p.out.data(), together.data(), together.size() * sizeof(T)) == 0;
      };

      for (int64_t height : {1, 3, 13, 16, 64}) {
        const Gemm<T> whole = p.call();
        for (int64_t i = 0; i < m; i += height) {
          Gemm<T> part = whole;
          part.m = std::min(height, m - i);
          part.a += i * p.lda;
          part.c += i * p.ldc;
          family.gemm.run(part);
        }
        EXPECT_TRUE(same()) << family.name << " k " << k << ", " << height << " rows at a time";
      }
      const int64_t width = family.gemm.block_n;
      for (int64_t blocks : {1, 2, 3}) {
        p.pack(family.gemm, width * blocks);
        const Gemm<T> whole = p.call();
        for (int64_t j = 0; j < n; j += width * blocks) {
          Gemm<T> part = whole;
          part.n_begin = j;
          part.n_end = std::min(n, j + width * blocks);
          family.gemm.run(part);
        }
        EXPECT_TRUE(same()) << family.name << " k " << k << ", " << width * blocks << " columns at a time";
      }
    }
}

TYPED_TEST(GemmOf, NanAndInfinityStayInTheirRowAndColumn) {
  using T = TypeParam;
  using A = accumulator_t<T>;
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const auto& family : families<T>())
    for (float value : bad)
      for (int64_t k : {1, 31, 33, 70})
        for (int64_t m : {1, 3, 17, 34}) {
          const int64_t n = 37, row = m / 2, col = n - 2;
          Problem<T> p({.m = m, .n = n, .k = k, .more_lda = 1}, 3);
          p.a[row * p.lda + k - 1] = T(value);
          p.b[(k - 1) * n + col] = A(value), p.b_t[(k - 1) * n + col] = T(value);
          p.pack(family.gemm);
          family.gemm.run(p.call());
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j)
              ASSERT_EQ(std::isfinite(static_cast<double>(p.out[i * p.ldc + j])), i != row && j != col)
                  << family.name << " m " << m << " k " << k << " at " << i << ", " << j;
        }
}

// A's last row ends where the process's memory ends: one byte read beyond it would be a fault.
TYPED_TEST(GemmOf, ReadsNoByteBeyondTheRowsOfA) {
  using T = TypeParam;
  const int64_t page = sysconf(_SC_PAGESIZE), room = 16 * page;
  auto* memory = static_cast<std::byte*>(
      mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + room, page, PROT_NONE), 0);
  for (const auto& family : families<T>())
    for (int64_t m : {1, 2, 15, 17, 33})
      for (int64_t k : {1, 2, 7, 31, 32, 33, 65}) {
        Problem<T> p({.m = m, .n = 20, .k = k}, 5);
        p.pack(family.gemm);
        Gemm<T> call = p.call();
        T* a = reinterpret_cast<T*>(memory + room) - m * k;
        std::copy(p.a.begin(), p.a.end(), a);
        call.a = a;
        family.gemm.run(call);
        expect_right(p, family.name);
      }
  munmap(memory, room + page);
}

TYPED_TEST(GemmOf, TransposeMovesEveryElement) {
  using T = TypeParam;
  for (const auto& family : families<T>())
    for (int64_t rows : {0, 1, 7, 8, 16, 31, 32, 33, 64, 100})
      for (int64_t cols : {0, 1, 5, 8, 16, 17, 32, 47, 64, 65}) {
        const int64_t lds = cols + 3, ldd = rows + 2;
        std::vector<T> src(rows * lds), dst(cols * ldd, T(-1.0f));
        for (int64_t i = 0; i < rows * lds; ++i) src[i] = T(static_cast<float>(i % 251));
        family.gemm.transpose(rows, cols, src.data(), lds, dst.data(), ldd);
        for (int64_t c = 0; c < cols; ++c)
          for (int64_t r = 0; r < ldd; ++r)
            ASSERT_EQ(static_cast<double>(dst[c * ldd + r]),
                      r < rows ? static_cast<double>(src[r * lds + c]) : -1.0)
                << family.name << " " << rows << " x " << cols << " at " << r << ", " << c;
      }
}

// bfloat16 is defined by ref: products of the rounded numbers, summed in float. Integers have no rounding at
// all, so every family must give the same bits.
TEST(GemmBf16, FamiliesAgreeExactlyOnIntegers) {
  const Case c{.m = 35, .n = 50, .k = 67, .acc = true};
  std::vector<float> want;
  for (const auto& family : families<bfloat16>()) {
    Problem<bfloat16> p(c, 9);
    for (auto& x : p.a) x = bfloat16(std::round(static_cast<float>(x) * 8));
    for (size_t i = 0; i < p.b.size(); ++i) p.b[i] = std::round(p.b[i] * 8), p.b_t[i] = bfloat16(p.b[i]);
    p.pack(family.gemm);
    family.gemm.run(p.call());
    if (want.empty()) want = p.out_acc;
    EXPECT_EQ(p.out_acc, want) << family.name;
  }
}

TEST(GemmBf16, MastersAreRoundedToNearestEvenWhenPacked) {
  for (const auto& family : families<bfloat16>()) {
    Problem<bfloat16> p({.m = 1, .n = 16, .k = 16, .acc = true}, 1);
    for (auto& x : p.a) x = bfloat16(0.0f);
    p.a[0] = bfloat16(1.0f);
    for (int j = 0; j < 16; ++j)
      p.b[j] = 1 + static_cast<float>(j) / 256;  // ties: bfloat16 steps by 1 / 128 here
    for (size_t i = 0; i < p.b.size(); ++i) p.b_t[i] = bfloat16(p.b[i]);
    p.pack(family.gemm);
    family.gemm.run(p.call());
    for (int j = 0; j < 16; ++j)
      EXPECT_EQ(p.out_acc[j], static_cast<float>(p.b_t[j])) << family.name << " " << j;
    EXPECT_EQ(p.out_acc[1], 1.0f) << family.name;
    EXPECT_EQ(p.out_acc[3], 1 + 2.0f / 128) << family.name;
  }
}

TYPED_TEST(GemmOf, IsRightForRandomShapesAndOptions) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(400);
  RandomStream dice({.seed = 2026});
  int cases = 0;
  for (; cases < 20 || std::chrono::steady_clock::now() < end; ++cases) {
    Case c{.m = static_cast<int64_t>(dice.below(80)),
           .n = static_cast<int64_t>(dice.below(140)),
           .k = static_cast<int64_t>(dice.below(dice.below(8) == 0 ? 1200 : 130)),
           .more_lda = static_cast<int64_t>(dice.below(20)),
           .more_ldc = static_cast<int64_t>(dice.below(20)),
           .b_along_k = dice.below(2) == 0,
           .src_is_t = dice.below(2) == 0,
           .acc = dice.below(2) == 0};
    c.accumulate = c.acc && dice.below(3) == 0;
    if (!c.accumulate) {
      c.bias = dice.below(2) == 0;
      c.pre = dice.below(2) == 0;
      c.residual = dice.below(3) == 0;
      c.activation = static_cast<Activation>(dice.below(6));
    }
    for (const auto& family : families<TypeParam>()) check(family, c, static_cast<uint32_t>(cases));
    if (::testing::Test::HasFailure()) break;
  }
}

// The products as compiled for AMX against the emulation that other machines test: on the unit where there is
// one, else with each of its instructions trapped and done in software (what surrounds them needs AVX-512
// BF16).
TEST(GemmAmx, CompiledInstructionsAgreeWithTheEmulation) {
  const bool unit = best_isa() >= Isa::kAmx;
  if (!unit && !cpu_features().avx512_bf16) GTEST_SKIP() << "this CPU has neither AMX nor AVX-512 BF16";
  std::optional<amx::Trap> trap;
  if (!unit) trap.emplace();
  Table table = table_for(Isa::kAvx512);
  extend_amx(table);
  const auto hardware = table.bf16.gemm;
  const auto emulation = amx::emulated::kernels(table_for(Isa::kRef).bf16.gemm);
  for (const int64_t m : {1, 50, 70})
    for (const int64_t k : {32, 70, 256, 768, 2100}) {
      SCOPED_TRACE("m " + std::to_string(m) + " k " + std::to_string(k));
      Problem<bfloat16> p({.m = m, .n = 70, .k = k, .more_lda = 3, .acc = true}, 4), q = p;
      p.pack(hardware), q.pack(emulation);
      ASSERT_EQ(p.packed->bytes(), q.packed->bytes());
      EXPECT_EQ(std::memcmp(p.packed->data(), q.packed->data(), p.packed->bytes()), 0) << "packed";
      hardware.run(p.call());
      emulation.run(q.call());
      // Sums of k numbers below 1 in size, each in its own rounding: twice the bound of one. Trapped: the
      // same bits.
      const double bound = unit ? 2.0 * static_cast<double>(k + 2) * 0x1p-24 * static_cast<double>(k) : 0;
      for (size_t i = 0; i < p.out_acc.size(); ++i)
        if (!std::isnan(q.out_acc[i])) {
          ASSERT_NEAR(p.out_acc[i], q.out_acc[i], bound) << i;
        }
    }
}

}  // namespace
}  // namespace qkv::kernels
