#pragma once
// How a product is cut up so that its operands are reused from the caches, for every family but ref.
//
// B is packed in panels of kPanel columns, each [k, kPanel] without gaps. A group of panels (about half of
// L2) is passed by all rows before the next group is touched; a few rows of A stay in L1 while the group's
// panels stream past them from L2:
//
//   for each group of columns                  B group: k_chunk x columns, in L2
//     for each chunk of rows
//       for each chunk of k                    (one, unless k is long)
//         Kernel::block: for each tile of rows, for each panel: C tile += A tile x B panel
//
// Between chunks of k the sums wait in float in `partial` and are taken up again exactly as they were left.
// So an element of C is the same chain of operations over k, whatever the chunk sizes, m, or the columns
// asked for.

#include <algorithm>
#include <cstdint>

#include "qkv/kernels/gemm.h"

namespace qkv::kernels::simd {

/// One call of Kernel::block: rows m0 .. m1 and columns n0 .. n1 of C, from columns k0 .. k1 of A.
struct GemmBlock {
  int64_t m0, m1, n0, n1, k0, k1;
  bool first, last;  // first: the sums start at zero, else at partial. last: C gets them, else partial
  float* partial;    // of row m0, column n0; unused when first and last
  int64_t partial_stride;
};

[[gnu::always_inline]] inline int64_t round_up(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}
[[gnu::always_inline]] inline int64_t round_down(int64_t value, int64_t to) { return value / to * to; }

/// `value` cut into equal chunks of at most `most`, multiples of `grain`.
[[gnu::always_inline]] inline int64_t even_chunk(int64_t value, int64_t most, int64_t grain) {
  const int64_t chunks = std::max<int64_t>(1, (value + most - 1) / most);
  return std::max(grain, round_up((value + chunks - 1) / chunks, grain));
}

/// Kernel::Args says what is multiplied (Gemm, Int8Gemm). Kernel names the sizes (all in elements, but
/// kGroupBytes):
///   kDepth       the longest chunk of k, kDepthGrain its granularity
///   kGroupBytes  of packed B to keep in L2;  kRightBytes  of one packed element
///   kColumns     granularity of a group of columns
///   kPartialRows, kPartialColumns  the block of C that waits between chunks of k;  kRowGrain of its rows
template <class Kernel>
void run_blocked(const typename Kernel::Args& g) noexcept {
  if (g.m <= 0 || g.n_end <= g.n_begin) return;
  if (g.k <= Kernel::kDepth) {
    const int64_t fit = Kernel::kGroupBytes / std::max<int64_t>(1, g.k * Kernel::kRightBytes);
    const int64_t columns = even_chunk(
        g.n_end - g.n_begin, std::max(Kernel::kColumns, round_down(fit, Kernel::kColumns)), Kernel::kColumns);
    for (int64_t n0 = g.n_begin; n0 < g.n_end; n0 += columns)
      Kernel::block(g, {0, g.m, n0, std::min(g.n_end, n0 + columns), 0, g.k, true, true, nullptr, 0});
    return;
  }
  alignas(64) float partial[Kernel::kPartialRows * Kernel::kPartialColumns];
  const int64_t depth = even_chunk(g.k, Kernel::kDepth, Kernel::kDepthGrain);
  const int64_t rows = even_chunk(g.m, Kernel::kPartialRows, Kernel::kRowGrain);
  const int64_t columns = even_chunk(g.n_end - g.n_begin, Kernel::kPartialColumns, Kernel::kColumns);
  for (int64_t n0 = g.n_begin; n0 < g.n_end; n0 += columns)
    for (int64_t m0 = 0; m0 < g.m; m0 += rows)
      for (int64_t k0 = 0; k0 < g.k; k0 += depth) {
        const int64_t k1 = std::min(g.k, k0 + depth);
        Kernel::block(g, {m0, std::min(g.m, m0 + rows), n0, std::min(g.n_end, n0 + columns), k0, k1, k0 == 0,
                          k1 == g.k, partial, Kernel::kPartialColumns});
      }
}

}  // namespace qkv::kernels::simd
