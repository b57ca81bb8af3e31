#pragma once
// Products of bf16 and of 8-bit integers on tile registers: the block that gemm_blocking.h asks for, over
// Tiles (tile.h or tile_emulated.h). Not measured on AMX while written: the reasoning below is from the
// figures measured on Granite Rapids earlier (1 thread, random data: 2.7-2.9 TFLOP/s fed from L1, 1.75-1.8
// from L2; L2 reads 48 B a cycle).
//
// One multiply takes 16 cycles of the unit and 52 until its result can be added to again: four independent
// sums keep it busy. A tile load reads 16 lines, 8 cycles when they are in L1. Shapes of four sums (rows x
// columns of tiles):
//
//   2 x 2   4 loads in 64 cycles.  32 rows of A stay in L1, B streams from L2 at 32 B a cycle: 2/3 of it.
//   4 x 1   5 loads in 64 cycles.  64 rows of A stay in L1, B streams at 16 B a cycle.
//   1 x 4   5 loads in 64 cycles.  For 16 rows and fewer: each tile of B is used once anyway.
//
// 4 x 1 asks least of L2 but wants 64 rows of A (128 k bytes), a panel of B (32 k), 4 KiB of sums and 4 KiB
// of C in the 48 KiB of L1: k <= 256. Above, 2 x 2, whose A stays in L1 up to k about 384 (24 KiB + a pair of
// panels, 24 KiB) and beyond that comes from L2 too; twice these k for bytes. Cutting k shorter instead would
// write and read back the sums, 96 cycles for each 64 k bytes: as much as it saves.
//
// A is loaded straight from its rows. Only what is ragged is copied, padded with zeros: the last k % 32
// columns, and the last m % 16 rows. The copy costs its bytes once for all columns of the group.
//
// The sums leave through 4 KiB of L1 (the unit can only store tiles). Rounding them to bf16 takes about 190
// instructions for 32 x 32, a quarter of the multiplies' time at k = 256, so it is done by the vector units a
// few rows at a time between the multiplies of the *next* block, which leave them idle (`Pending`).

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "qkv/kernels/simd/gemm_blocking.h"
#include "qkv/kernels/simd/gemm_int8.h"
#include "qkv/kernels/simd/gemm_pack.h"
#include "qkv/kernels/simd/gemm_register.h"
#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::amx {

using simd::GemmBlock, simd::round_down, simd::round_up, simd::unrolled;

/// Sums: what is multiplied and how sums go to C, FloatSums or Int8Sums (simd/gemm_register.h, gemm_int8.h).
template <class Tiles, class Sums>
struct TileKernel {
  using T = typename Sums::T;
  using Args = typename Sums::Args;
  static constexpr int64_t kBytes = sizeof(T);
  static constexpr int64_t kRows = 16, kStepK = 64 / kBytes;  // of one tile
  static constexpr int64_t kPanel = 16;                       // columns
  static constexpr int64_t kTallDepth = 512 / kBytes;         // 4 x 1 up to here
  static constexpr int64_t kDepth = 4096 / kBytes, kDepthGrain = kStepK;
  static constexpr int64_t kGroupBytes = 1 << 20, kRightBytes = kBytes;  // half of a 2 MiB L2
  static constexpr int64_t kColumns = 64;
  static constexpr int64_t kPartialRows = 256, kPartialColumns = 256, kRowGrain = 2 * kRows;

  /// 16 rows of A: where they are, and where their last k % kStepK columns are.
  struct RowTile {
    const T* at;
    int64_t stride;  // elements
    const T* ragged;
  };

  /// Sums that wait to be finished.
  struct Pending {
    const Args* g;
    int64_t ld = 0, row0 = 0, rows = 0, col0 = 0, cols = 0, done = 0;
    alignas(64) float sums[4 * kRows * kPanel];

    explicit Pending(const Args& gemm) : g(&gemm) {}

    void finish_some(int64_t count) {
      const int64_t take = std::min(count, rows - done);
      if (take <= 0) return;
      Sums::finish(*g, sums + done * ld, ld, row0 + done, take, col0, cols);
      done += take;
    }
    void finish_all() { finish_some(rows); }
  };

  // Which register holds what. C: 0 .. 3. Where a row or column has one tile only, the other operand's tiles
  // are used once each and take turns in what is left.
  template <int TM, int TN>
  struct Registers {
    static_assert(TM * TN <= 4);
    static constexpr int c(int i, int j) { return i * TN + j; }
    static constexpr int a(int i) { return TM == 2 && TN == 2 ? 4 + i : TM == 1 ? 4 : 4 + i % 3; }
    static constexpr int b(int j) { return TM == 2 && TN == 2 ? 6 + j : TM == 1 ? 5 + j % 3 : 7; }
  };

  template <int c, int a, int b>
  [[gnu::always_inline]] static void multiply_add() {
    if constexpr (kBytes == 1)
      Tiles::template multiply_add_bytes<c, a, b>();
    else
      Tiles::template multiply_add<c, a, b>();
  }

  /// One step of kStepK: c[i][j] += a[i] b[j].
  template <int TM, int TN>
  [[gnu::always_inline]] static void step(const T* const (&a)[TM], const int64_t (&stride)[TM], const T* b,
                                          int64_t panel) {
    using R = Registers<TM, TN>;
    if constexpr (TM == 2 && TN == 2) {
      Tiles::template load<R::a(0)>(a[0], stride[0] * kBytes);
      Tiles::template load<R::b(0)>(b, 64);
      multiply_add<R::c(0, 0), R::a(0), R::b(0)>();
      Tiles::template load<R::a(1)>(a[1], stride[1] * kBytes);
      multiply_add<R::c(1, 0), R::a(1), R::b(0)>();
      Tiles::template load<R::b(1)>(b + panel, 64);
      multiply_add<R::c(0, 1), R::a(0), R::b(1)>();
      multiply_add<R::c(1, 1), R::a(1), R::b(1)>();
    } else if constexpr (TN == 1) {
      Tiles::template load<R::b(0)>(b, 64);
      unrolled<TM>([&](auto i) __attribute__((always_inline)) {
        Tiles::template load<R::a(i)>(a[i], stride[i] * kBytes);
        multiply_add<R::c(i, 0), R::a(i), R::b(0)>();
      });
    } else {
      static_assert(TM == 1);
      Tiles::template load<R::a(0)>(a[0], stride[0] * kBytes);
      unrolled<TN>([&](auto j) __attribute__((always_inline)) {
        Tiles::template load<R::b(j)>(b + j * panel, 64);
        multiply_add<R::c(0, j), R::a(0), R::b(j)>();
      });
    }
  }

  /// TM x TN tiles of C at row i0, column j0, of which `rows` and `cols` exist; a: TM row tiles.
  template <int TM, int TN>
  static void tiles(const Args& g, const GemmBlock& part, const RowTile* a, int64_t i0, int64_t rows,
                    int64_t j0, int64_t cols, Pending& pending) {
    using R = Registers<TM, TN>;
    const int64_t depth = part.k1 - part.k0, steps = depth / kStepK, ragged = depth % kStepK;
    const int64_t panel = round_up(g.k, kStepK) * kPanel;
    const T* b = static_cast<const T*>(g.b) + j0 / kPanel * panel + part.k0 * kPanel;
    float* const partial =
        part.partial ? part.partial + (i0 - part.m0) * part.partial_stride + (j0 - part.n0) : nullptr;
    const auto at_partial = [&](int i, int j) {
      return partial + i * kRows * part.partial_stride + j * kPanel;
    };

    unrolled<TM>([&](auto i) __attribute__((always_inline)) {
      unrolled<TN>([&](auto j) __attribute__((always_inline)) {
        if (part.first)
          Tiles::template zero<R::c(i, j)>();
        else
          Tiles::template load<R::c(i, j)>(at_partial(i, j), part.partial_stride * 4);
      });
    });

    const T* at[TM];
    int64_t stride[TM];
    unrolled<TM>([&](auto i) __attribute__((always_inline)) { at[i] = a[i].at, stride[i] = a[i].stride; });
    const int64_t each_step = (pending.rows - pending.done + steps - 1) / std::max<int64_t>(steps, 1);
    for (int64_t s = 0; s < steps; ++s) {
      step<TM, TN>(at, stride, b, panel);
      unrolled<TM>([&](auto i) __attribute__((always_inline)) { at[i] += kStepK; });
      b += kStepK * kPanel;
      pending.finish_some(each_step);
    }
    if (ragged) {
      unrolled<TM>([&](auto i) __attribute__((always_inline)) { at[i] = a[i].ragged, stride[i] = kStepK; });
      step<TM, TN>(at, stride, b, panel);
    }
    pending.finish_all();

    const bool whole = rows == TM * kRows && cols == TN * kPanel;
    float* const direct = Sums::adds(g) ? nullptr : Sums::sums_go_to(g);
    float* c = pending.sums;
    int64_t ld = TN * kPanel;
    if (!part.last) {
      c = partial, ld = part.partial_stride;
    } else if (whole && direct) {
      c = direct + i0 * g.ldc + j0, ld = g.ldc;
    } else {
      pending.ld = ld, pending.row0 = i0, pending.rows = rows, pending.col0 = j0, pending.cols = cols,
      pending.done = 0;
    }
    unrolled<TM>([&](auto i) __attribute__((always_inline)) {
      unrolled<TN>([&](auto j) __attribute__((always_inline)) {
        Tiles::template store<R::c(i, j)>(c + i * kRows * ld + j * kPanel, ld * 4);
      });
    });
  }

  /// All columns of the block for TM row tiles, TN tiles at a time.
  template <int TM, int TN>
  static void row_of_tiles(const Args& g, const GemmBlock& part, const RowTile* a, int64_t i0,
                           Pending& pending) {
    const int64_t rows = std::min(TM * kRows, part.m1 - i0);
    int64_t j0 = part.n0;
    if constexpr (TN > 1)
      for (; part.n1 - j0 > (TN - 1) * kPanel; j0 += TN * kPanel)
        tiles<TM, TN>(g, part, a, i0, rows, j0, std::min(TN * kPanel, part.n1 - j0), pending);
    for (; j0 < part.n1; j0 += kPanel)
      tiles<TM, 1>(g, part, a, i0, rows, j0, std::min(kPanel, part.n1 - j0), pending);
  }

  static void block(const Args& g, const GemmBlock& part) noexcept {
    Tiles::configure();
    const int64_t depth = part.k1 - part.k0, whole_k = round_down(depth, kStepK), ragged = depth - whole_k;
    alignas(64) T last_rows[kRows * kDepth];
    alignas(64) T ragged_columns[4][kRows * kStepK];
    Pending pending(g);
    const bool tall = g.k <= kTallDepth;
    for (int64_t i0 = part.m0; i0 < part.m1;) {
      const int64_t left = (part.m1 - i0 + kRows - 1) / kRows;
      const int64_t take = tall && left >= 4 ? 4 : left >= 2 ? 2 : 1;
      RowTile a[4];
      for (int64_t i = 0; i < take; ++i) {
        const int64_t row = i0 + i * kRows, exist = std::min(kRows, part.m1 - row);
        const T* src = g.a + row * g.lda + part.k0;
        a[i] = {src, g.lda, ragged_columns[i]};
        if (exist < kRows) {
          copy_padded(src, g.lda, exist, whole_k, last_rows, whole_k);
          a[i].at = last_rows, a[i].stride = whole_k;
        }
        if (ragged) copy_padded(src + whole_k, g.lda, exist, ragged, ragged_columns[i], kStepK);
      }
      Tiles::publish();
      if (take == 4)
        row_of_tiles<4, 1>(g, part, a, i0, pending);
      else if (take == 2)
        row_of_tiles<2, 2>(g, part, a, i0, pending);
      else
        row_of_tiles<1, 4>(g, part, a, i0, pending);
      // The next row tiles may overwrite ragged_columns, but what is pending has left A behind.
      i0 += take * kRows;
    }
    pending.finish_all();
  }

  /// 2 x 2 tiles of C from two tiles' rows of A and as much of B, in L1: 32 KiB of bf16.
  static int64_t peak(int64_t steps, const T* numbers) noexcept {
    constexpr int64_t k = kPeakNumbers / 2 / (2 * kRows);
    const T* const b = numbers + kPeakNumbers / 2;
    Tiles::configure();
    Tiles::publish();
    unrolled<4>([](auto c) __attribute__((always_inline)) { Tiles::template zero<c>(); });
    for (int64_t s = 0; s < steps; ++s)
      for (int64_t p = 0; p < k; p += kStepK)
        step<2, 2>({numbers + p, numbers + kRows * k + p}, {k, k}, b + p * kPanel, k * kPanel);
    return 2 * steps * (2 * kRows) * (2 * kPanel) * k;
  }

  /// rows x cols of src into [16, ld], the rest zero.
  static void copy_padded(const T* src, int64_t lds, int64_t rows, int64_t cols, T* dst, int64_t ld) {
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t n = r < rows ? cols : 0;
      if (n) std::memcpy(dst + r * ld, src + r * lds, n * kBytes);
      std::fill(dst + r * ld + n, dst + r * ld + ld, T());
    }
  }
};

/// What tiles do of a family's products; transposition stays as it was. W packs (simd/gemm_pack.h).
template <class Tiles, class W, class Vec, class Narrow>
void put_gemm(GemmKernels<bfloat16>& gemm) {
  using Kernel = TileKernel<Tiles, simd::FloatSums<Vec, bfloat16, Narrow>>;
  using Pack = simd::Pack<bfloat16, W, Kernel::kStepK / 2>;
  gemm.block_m = 4 * Kernel::kRows;
  gemm.block_n = Kernel::kColumns;
  gemm.packed_bytes = Pack::packed_bytes;
  gemm.pack_b = Pack::pack_b;
  gemm.run = simd::run_blocked<Kernel>;
  gemm.run_unpacked = nullptr;
  gemm.peak = Kernel::peak;
}

/// The same of 8-bit integers. Rows become integers as before.
template <class Tiles, class W, class Int, class Vec, class Y>
void put_int8(Int8Kernels<Y>& int8) {
  using Pack = simd::PackInt8Words<W, 16>;
  using Kernel = TileKernel<Tiles, simd::Int8Sums<Int, Vec, Y, Pack>>;
  int8.block_m = 4 * Kernel::kRows;
  int8.block_n = Kernel::kColumns;
  int8.packed_bytes = Pack::packed_bytes;
  int8.pack_b = Pack::pack_b;
  int8.run = simd::run_blocked<Kernel>;
  int8.peak = Kernel::peak;
}

}  // namespace qkv::kernels::amx
