#pragma once
// The product of few rows with B as it lies (kernels/gemm.h, UnpackedGemm). Where B's columns run along k
// they are transposed a register tile's width at a time into a buffer in L1, in the order of packing, and
// multiplied by the tile that gemm_register.h has; where its rows run along n they are loaded as they are.
// Sums take k in the order of run(), so they are its bits.
//
// Memory is asked for what comes later between the steps, in the order of addresses: a core has some twenty
// lines on their way by itself, so that hundreds at once wait like loads; and what the hardware fetches
// beyond them needs a steady run to follow.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "qkv/kernels/simd/gemm_register.h"

namespace qkv::kernels::simd {

/// Fetches `ahead` in `slots` equal parts.
class Fetch {
 public:
  Fetch(const Ahead& ahead, int64_t slots)
      : row_(static_cast<const char*>(ahead.at)),
        rows_(ahead.rows),
        bytes_(ahead.bytes),
        stride_(ahead.stride),
        each_(slots > 0 ? (rows_ * ((bytes_ + kLine - 1) / kLine) + slots - 1) / slots : 0) {}
  void some() {
    for (int64_t i = 0; i < each_ && rows_ > 0; ++i) {
      __builtin_prefetch(row_ + byte_, 0, 2);
      byte_ += kLine;
      if (byte_ >= bytes_) byte_ = 0, row_ += stride_, --rows_;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* row_;
  int64_t rows_, byte_ = 0;
  const int64_t bytes_, stride_, each_;
};

template <class Product, class W>
struct Unpacked {
  using Kernel = RegisterKernel<Product>;
  using T = typename Product::T;
  using Vec = typename Product::Vec;
  using Left = typename Product::Left;
  using Right = typename Product::Right;
  static constexpr int64_t kLanes = Vec::kLanes, kStepK = Kernel::kStepK;
  static constexpr int64_t kSteps = kUnpackedDepth / kStepK, kStageStride = kSteps * Product::kSubs + 16;
  static constexpr int kRows = std::min(8, Kernel::kRows);
  static constexpr int columns(int rows) { return std::min(4, Kernel::wide(rows)); }  // in vectors

  static void run(const UnpackedGemm<T>& g) noexcept {
    alignas(64) Left staged[kRows * kStageStride];
    const int64_t n_tiles = (g.m + kRows - 1) / kRows;
    Fetch fetch(g.ahead, g.row_stride == 1 ? (g.n + kLanes - 1) / kLanes * ((g.k + kStrip - 1) / kStrip)
                                           : steps_of(g.k));
    for (int64_t t = 0; t < n_tiles; ++t) {
      const int64_t i0 = g.m * t / n_tiles, rows = g.m * (t + 1) / n_tiles - i0;
      for (int64_t i = 0; i < rows; ++i)
        Product::stage(staged + i * kStageStride, g.a + (i0 + i) * g.lda, g.k);
      (g.row_stride == 1 ? kByColumns : kByRows)[rows - 1](g, staged, fetch, g.c + i0 * g.ldc);
    }
  }

 private:
  static constexpr int64_t kStrip = kLanes * kStepK;  // k of one transposition
  static int64_t steps_of(int64_t k) { return (k + kStepK - 1) / kStepK; }

  // kLanes columns of B from column j0 on, as a packed panel.
  static void panel(const UnpackedGemm<T>& g, int64_t j0, Fetch& fetch, uint32_t* to) {
    const int64_t cols = std::min(kLanes, g.n - j0);
    const T* b = g.b + j0 * g.col_stride;
    for (int64_t k = 0; k < g.k; k += kStrip, to += kLanes * kLanes) {
      W w[kLanes];
      if (k + kStrip <= g.k && cols == kLanes) {
        unrolled<kLanes>([&](auto j) { w[j] = W::load(b + j * g.col_stride + k); });
      } else if (k + kStrip <= g.k) {  // the keys of a short sentence do not fill a panel
        unrolled<kLanes>([&](auto j) { w[j] = j < cols ? W::load(b + j * g.col_stride + k) : W::zero(); });
      } else {
        alignas(64) T part[kStrip];
        for (int64_t j = 0; j < kLanes; ++j) {
          const int64_t n = j < cols ? std::min(kStrip, g.k - k) : 0;
          std::fill(part, part + kStrip, T{});
          if (n > 0)
            std::memcpy(static_cast<void*>(part), b + j * g.col_stride + k,
                        static_cast<size_t>(n) * sizeof(T));
          w[j] = W::load(part);
        }
      }
      fetch.some();
      W::transpose(w);
      unrolled<kLanes>([&](auto j) { w[j].store(to + j * kLanes); });
    }
  }

  // c = or += sums [MR, n], n of NV vectors.
  template <int MR, int NV>
  static void put(const UnpackedGemm<T>& g, const float* sums, int64_t n, float* c) {
    for (int i = 0; i < MR; ++i, c += g.ldc)
      for (int v = 0; v < NV && v * kLanes < n; ++v) {
        const int64_t cols = n - v * kLanes;
        Vec x = Vec::load(sums + (i * NV + v) * kLanes);
        if (g.accumulate)
          x = (cols >= kLanes ? Vec::load(c + v * kLanes) : Vec::load(c + v * kLanes, cols)) + x;
        cols >= kLanes ? x.store(c + v * kLanes) : x.store(c + v * kLanes, cols);
      }
  }

  template <int MR>
  static void by_columns(const UnpackedGemm<T>& g, const Left* a, Fetch& fetch, float* c) noexcept {
    constexpr int NV = columns(MR);
    constexpr int64_t kPanel = (kSteps + kLanes) * kLanes;
    alignas(64) uint32_t panels[NV * kPanel];
    alignas(64) float sums[MR * NV * kLanes];
    for (int64_t j0 = 0; j0 < g.n; j0 += NV * kLanes) {
      const int64_t n = std::min(NV * kLanes, g.n - j0);
      for (int64_t v = 0; v * kLanes < n; ++v) panel(g, j0 + v * kLanes, fetch, panels + v * kPanel);
      const auto* right = reinterpret_cast<const Right*>(panels);
      if (n > (NV - 1) * kLanes) {
        register_tile<Product, MR, NV>(steps_of(g.k), a, kStageStride, right, kPanel, sums, NV * kLanes,
                                       TileStore::kSet);
      } else {
        for (int64_t v = 0; v * kLanes < n; ++v)
          register_tile<Product, MR, 1>(steps_of(g.k), a, kStageStride, right + v * kPanel, kPanel,
                                        sums + v * kLanes, NV * kLanes, TileStore::kSet);
      }
      put<MR, NV>(g, sums, n, c + j0);
    }
  }

  // kLast: the one vector has only n columns.
  template <int MR, int NV, bool kLast>
  static void rows_tile(const UnpackedGemm<T>& g, const Left* a, const T* b, Fetch& fetch, int64_t n,
                        float* c) noexcept {
    alignas(64) static constexpr T kZeros[NV * kLanes] = {};
    alignas(64) float sums[MR * NV * kLanes];
    Vec sum[MR][NV];
    unrolled<MR>([&](auto i) __attribute__((always_inline)) {
      unrolled<NV>([&](auto v) __attribute__((always_inline)) { sum[i][v] = Vec::zero(); });
    });
    for (int64_t k = 0; k < g.k; k += kStepK) {
      const T* below = k + 1 < g.k ? b + g.row_stride : kZeros;
      fetch.some();
      unrolled<Product::kSubs>([&](auto s) __attribute__((always_inline)) {
        decltype(Product::template right_of_rows<s, kLast>(b, below, n)) right[NV];
        unrolled<NV>([&](auto v) __attribute__((always_inline)) {
          right[v] = Product::template right_of_rows<s, kLast>(b + v * kLanes, below + v * kLanes, n);
        });
        unrolled<MR>([&](auto i) __attribute__((always_inline)) {
          const auto left = Product::left(a + i * kStageStride + s);
          unrolled<NV>([&](auto v) __attribute__((always_inline)) {
            sum[i][v] = Product::multiply_add(left, right[v], sum[i][v]);
          });
        });
      });
      a += Product::kSubs;
      b += kStepK * g.row_stride;
    }
    unrolled<MR>([&](auto i) __attribute__((always_inline)) {
      unrolled<NV>([&](auto v)
                       __attribute__((always_inline)) { sum[i][v].store(sums + (i * NV + v) * kLanes); });
    });
    put<MR, NV>(g, sums, n, c);
  }

  template <int MR>
  static void by_rows(const UnpackedGemm<T>& g, const Left* a, Fetch& fetch, float* c) noexcept {
    constexpr int NV = columns(MR);
    int64_t j = 0;
    for (; j + NV * kLanes <= g.n; j += NV * kLanes)
      rows_tile<MR, NV, false>(g, a, g.b + j, fetch, NV * kLanes, c + j);
    for (; j + kLanes <= g.n; j += kLanes) rows_tile<MR, 1, false>(g, a, g.b + j, fetch, kLanes, c + j);
    if (j < g.n) rows_tile<MR, 1, true>(g, a, g.b + j, fetch, g.n - j, c + j);
  }

  using Tile = void (*)(const UnpackedGemm<T>&, const Left*, Fetch&, float*) noexcept;
  template <int... I>
  static constexpr std::array<Tile, sizeof...(I)> columns_tiles(std::integer_sequence<int, I...>) {
    return {by_columns<I + 1>...};
  }
  template <int... I>
  static constexpr std::array<Tile, sizeof...(I)> rows_tiles(std::integer_sequence<int, I...>) {
    return {by_rows<I + 1>...};
  }
  using Heights = std::make_integer_sequence<int, kRows>;
  static constexpr std::array<Tile, kRows> kByColumns = columns_tiles(Heights{}),
                                           kByRows = rows_tiles(Heights{});
};

}  // namespace qkv::kernels::simd
