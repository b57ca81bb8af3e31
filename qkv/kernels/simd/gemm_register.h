#pragma once
// The product's inner part on vector registers: a tile of C, kRows rows by NV vectors, stays in registers
// while k runs; each step loads NV vectors of B and broadcasts one element (or pair) of A a row. Included by
// the families that multiply with FMA or a dot instruction; Product says how:
//
//   Product::Vec                  of sums: simd/vec_*.h, with the number of the ISA's registers
//   Product::T, ::Left, ::Right   element type of the operands; of A as staged; of packed B
//   Product::kSubs                multiply-adds a step
//   Product::right<s>(Right*)     the s-th vector of B of a step
//   Product::right_of_rows<s, kPart>(row, below, n)
//                                 the same from two rows of B as it lies (one, for floats); kPart: their
//                                 first n elements
//   Product::left(Left*)          broadcast of one staged element of A
//   Product::multiply_add(a, b, sum)
//   Product::stage(dst, src, k)   one row of A into Lefts, zeros up to a whole step
//   Product::Args                 Gemm<T>, or Int8Gemm of another type of C
//   Product::finish(args, sums, ld, row0, rows, col0, cols)
//                                 sums in L1 to C
//   Product::sums_go_to(args)     where whole tiles of sums go as they are, added if Product::adds(args);
//                                 or null
//
// A is copied ("staged") a tile at a time: rows of A may lie a multiple of 4 KiB apart, where 14 of them
// share one L1 set of 12 ways; the copy also widens, pairs and pads. It costs one load and store for 2 * n /
// kLanes multiply-adds: 1.5 % at n = 256.

#include <array>
#include <cstdint>
#include <utility>

#include "qkv/kernels/simd/gemm_blocking.h"
#include "qkv/kernels/simd/gemm_epilogue.h"
#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

/// The part of a Product whose sums are floats. Narrow: how C is rounded (simd/loops.h).
template <class V, class Operand, class Narrow>
struct FloatSums {
  using T = Operand;
  using Vec = V;
  using Args = Gemm<T>;
  static float* sums_go_to(const Args& g) {
    return g.accumulate || (!g.bias && !g.pre && !g.residual && g.activation == Activation::kNone) ? g.c_acc
                                                                                                   : nullptr;
  }
  static bool adds(const Args& g) { return g.accumulate; }
  static void finish(const Args& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
                     int64_t cols) noexcept {
    simd::finish<Vec, Narrow>(g, sums, ld, row0, rows, col0, cols);
  }
};

enum class TileStore {
  kSet,     // c = sum
  kResume,  // c = sum begun at c
  kAdd,     // c = c + sum
};

template <class Product, int MR, int NV>
void register_tile(int64_t steps, const typename Product::Left* a, int64_t a_stride,
                   const typename Product::Right* b, int64_t panel, float* c, int64_t ldc,
                   TileStore store) noexcept {
  using Vec = typename Product::Vec;
  constexpr int64_t kLanes = Vec::kLanes;
  Vec sum[MR][NV];
  unrolled<MR>([&](auto i) __attribute__((always_inline)) {
    unrolled<NV>([&](auto v) __attribute__((always_inline)) {
      sum[i][v] = store == TileStore::kResume ? Vec::load(c + i * ldc + v * kLanes) : Vec::zero();
    });
  });
  for (int64_t p = 0; p < steps; ++p) {
    unrolled<Product::kSubs>([&](auto s) __attribute__((always_inline)) {
      decltype(Product::template right<s>(b)) right[NV];
      unrolled<NV>([&](auto v) __attribute__((always_inline)) {
        right[v] = Product::template right<s>(b + v * panel);
      });
      unrolled<MR>([&](auto i) __attribute__((always_inline)) {
        const auto left = Product::left(a + i * a_stride + s);
        unrolled<NV>([&](auto v) __attribute__((always_inline)) {
          sum[i][v] = Product::multiply_add(left, right[v], sum[i][v]);
        });
      });
    });
    a += Product::kSubs;
    b += kLanes;
  }
  unrolled<MR>([&](auto i) __attribute__((always_inline)) {
    unrolled<NV>([&](auto v) __attribute__((always_inline)) {
      float* at = c + i * ldc + v * kLanes;
      (store == TileStore::kAdd ? Vec::load(at) + sum[i][v] : sum[i][v]).store(at);
    });
  });
}

template <class Product>
struct RegisterKernel {
  using T = typename Product::T;
  using Vec = typename Product::Vec;
  using Left = typename Product::Left;
  using Right = typename Product::Right;
  using Args = typename Product::Args;
  using Tile = void (*)(int64_t, const Left*, int64_t, const Right*, int64_t, float*, int64_t,
                        TileStore) noexcept;

  static constexpr int64_t kLanes = Vec::kLanes, kStepK = 4 / sizeof(T);  // k of a step
  static constexpr int64_t kLine = 64 / sizeof(T);
  // The highest tile of two vectors: 2 kRows sums, 2 of B and 1 of A fit the registers.
  static constexpr int kRegisters = Vec::kRegisters, kRows = (kRegisters - 3) / 2;
  static constexpr int64_t kStagedSteps = 512;  // 14 rows x 512 x 4 bytes = 28 KiB of the 48 KiB L1
  static constexpr int64_t kStageStride = kStagedSteps + 16;  // 16 more: rows 2 KiB apart would share L1 sets
  static constexpr int64_t kDepth = kStagedSteps / Product::kSubs * kStepK, kDepthGrain = kStepK;
  static constexpr int64_t kGroupBytes = 512 * 1024, kRightBytes = sizeof(Right) / kStepK;
  static constexpr int64_t kColumns = 4 * kLanes;
  static constexpr int64_t kPartialRows = 8 * kRows, kPartialColumns = 384, kRowGrain = kRows;

  // Few rows have few sums in flight (a multiply-add takes 4 cycles, two start each cycle): they take more
  // columns.
  static constexpr int wide(int rows) {
    if (rows == 1 || (rows + 1) * 8 < kRegisters) return 8;
    return (rows + 1) * 4 < kRegisters ? 4 : 2;
  }
  template <int NV, int... I>
  static constexpr std::array<Tile, sizeof...(I)> tiles(std::integer_sequence<int, I...>) {
    return {register_tile<Product, I + 1, (NV == 0 ? wide(I + 1) : NV)>...};
  }
  using Heights = std::make_integer_sequence<int, kRows>;
  static constexpr std::array<Tile, kRows> kWide = tiles<0>(Heights{}), kTwo = tiles<2>(Heights{}),
                                           kOne = tiles<1>(Heights{});

  static void block(const Args& g, const GemmBlock& part) noexcept {
    alignas(64) Left staged[kRows * kStageStride];
    alignas(64) float scratch[kRegisters * kLanes];
    const int64_t depth = part.k1 - part.k0, steps = (depth + kStepK - 1) / kStepK;
    const int64_t panel = round_up(g.k, kStepK) / kStepK * kLanes;  // Rights from one panel to the next
    const Right* b = static_cast<const Right*>(g.b) + part.k0 / kStepK * kLanes;
    float* const direct = Product::sums_go_to(g);
    const TileStore to_c = Product::adds(g) ? TileStore::kAdd : TileStore::kSet;
    // Tiles of equal height: 16 rows are 8 + 8, not 14 + 2.
    const int64_t rows = part.m1 - part.m0, n_tiles = (rows + kRows - 1) / kRows;
    for (int64_t t = 0; t < n_tiles; ++t) {
      const int64_t i0 = part.m0 + rows * t / n_tiles, height = part.m0 + rows * (t + 1) / n_tiles - i0;
      for (int64_t i = 0; i < height; ++i)
        Product::stage(staged + i * kStageStride, g.a + (i0 + i) * g.lda + part.k0, depth);
      // The next tile's rows come from L3 or memory, and only this loop knows which they are.
      const int64_t next = std::min(height, part.m1 - (i0 + height));
      for (int64_t i = 0; i < next; ++i)
        for (int64_t p = 0; p < depth; p += kLine)
          __builtin_prefetch(g.a + (i0 + height + i) * g.lda + part.k0 + p);
      const int wide_columns = wide(static_cast<int>(height));
      for (int64_t j0 = part.n0; j0 < part.n1;) {
        const int64_t vectors = (part.n1 - j0 + kLanes - 1) / kLanes;
        const int64_t take = vectors >= wide_columns ? wide_columns : vectors >= 2 ? 2 : 1;
        const Tile tile = (take == wide_columns ? kWide : take == 2 ? kTwo : kOne)[height - 1];
        const int64_t cols = std::min(take * kLanes, part.n1 - j0);
        const Right* right = b + j0 / kLanes * panel;
        if (!part.last) {
          float* c = part.partial + (i0 - part.m0) * part.partial_stride + (j0 - part.n0);
          tile(steps, staged, kStageStride, right, panel, c, part.partial_stride,
               part.first ? TileStore::kSet : TileStore::kResume);
        } else if (part.first && direct && cols == take * kLanes) {
          tile(steps, staged, kStageStride, right, panel, direct + i0 * g.ldc + j0, g.ldc, to_c);
        } else {
          float* c = scratch;
          int64_t ldc = take * kLanes;
          if (!part.first) {
            c = part.partial + (i0 - part.m0) * part.partial_stride + (j0 - part.n0);
            ldc = part.partial_stride;
          }
          tile(steps, staged, kStageStride, right, panel, c, ldc,
               part.first ? TileStore::kSet : TileStore::kResume);
          Product::finish(g, c, ldc, i0, height, j0, cols);
        }
        j0 += take * kLanes;
      }
    }
  }
};

}  // namespace qkv::kernels::simd
