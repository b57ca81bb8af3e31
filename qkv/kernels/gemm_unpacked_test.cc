// Products with B as it lies have the bits of packed ones, in every family that has them.

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "qkv/base/memory.h"
#include "qkv/base/philox.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace avx512 {
GemmKernels<bfloat16> gemm_bf16_widened();
}

namespace {

template <class T>
std::vector<GemmKernels<T>> families() {
  std::vector<GemmKernels<T>> all;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
    all.push_back(table_for(static_cast<Isa>(i)).of<T>().gemm);
  if constexpr (std::is_same_v<T, bfloat16>)
    if (best_isa() >= Isa::kAvx512) all.push_back(avx512::gemm_bf16_widened());
  std::erase_if(all, [](const GemmKernels<T>& g) { return !g.run_unpacked; });
  return all;
}

template <class T>
std::vector<T> normals(int64_t n, uint64_t seed) {
  RandomStream random({.seed = seed});
  std::vector<T> x;
  for (int64_t i = 0; i < n; ++i) x.push_back(T(static_cast<float>(random.normal())));
  return x;
}

template <class T>
void expect_same(const GemmKernels<T>& gemm, int64_t m, int64_t n, int64_t k, bool by_columns,
                 bool accumulate) {
  const int64_t lda = k + 3, ldb = (by_columns ? k : n) + 5, ldc = n + 2;
  // No byte after what is asked for is there to read or write.
  const std::vector<T> a = normals<T>((m - 1) * lda + k, 1),
                       b = normals<T>((by_columns ? n - 1 : k - 1) * ldb + (by_columns ? k : n), 2);
  const std::vector<float> before = normals<float>((m - 1) * ldc + n, 3);
  const int64_t row_stride = by_columns ? 1 : ldb, col_stride = by_columns ? ldb : 1;
  const auto packed = Buffer::allocate(gemm.packed_bytes(k, n));
  gemm.pack_b({.k = k,
               .n = n,
               .src = b.data(),
               .src_is_t = true,
               .row_stride = row_stride,
               .col_stride = col_stride,
               .dst = packed->data(),
               .n_begin = 0,
               .n_end = n});
  std::vector<float> want = before, got = before;
  gemm.run({.m = m,
            .n = n,
            .k = k,
            .a = a.data(),
            .lda = lda,
            .b = packed->data(),
            .n_begin = 0,
            .n_end = n,
            .ldc = ldc,
            .c_acc = want.data(),
            .accumulate = accumulate});
  gemm.run_unpacked({.m = m,
                     .n = n,
                     .k = k,
                     .a = a.data(),
                     .lda = lda,
                     .b = b.data(),
                     .row_stride = row_stride,
                     .col_stride = col_stride,
                     .ahead = {.at = b.data(), .rows = 3, .bytes = 100, .stride = 4},
                     .c = got.data(),
                     .ldc = ldc,
                     .accumulate = accumulate});
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0)
      << m << " x " << n << " x " << k << (by_columns ? " by columns" : " by rows")
      << (accumulate ? " added" : "");
}

template <class T>
void expect_same_everywhere() {
  for (const GemmKernels<T>& gemm : families<T>())
    for (int64_t m : {1, 2, 3, 4, 5, 8, 9, 17})
      for (int64_t n : {1, 7, 16, 31, 33, 64, 70})
        for (int64_t k : {1, 2, 15, 33, 64, 130, 256})
          for (bool by_columns : {false, true})
            for (bool accumulate : {false, true}) expect_same(gemm, m, n, k, by_columns, accumulate);
}

TEST(GemmUnpacked, HasTheBitsOfPackedProductsInFloat32) { expect_same_everywhere<float>(); }
TEST(GemmUnpacked, HasTheBitsOfPackedProductsInBfloat16) { expect_same_everywhere<bfloat16>(); }

}  // namespace
}  // namespace qkv::kernels
