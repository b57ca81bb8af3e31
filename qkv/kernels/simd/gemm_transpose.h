#pragma once
// Transposition by blocks that are turned in registers; edges element by element.

#include <algorithm>
#include <cstdint>

#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

/// dst[c * ldd + r] = src[r * lds + c] for r < rows, c < cols. W is a family's vector of words (GemmWords in
/// avx2/ and avx512/gemm_words.h). A block is W::kLanes columns by as many words of rows, a word being one
/// float or a pair of bfloat16 of neighbouring rows. Rows of blocks are walked from left to right, each a
/// line of the source wide, asking for the next line of every row on the way: the hardware does not follow 32
/// streams at once.
///
/// On Zen 5, bf16, GB/s of the matrix: 22-23 where both copies fit the caches (1024 x 1024), 13 for 4096 x
/// 1536 and 8 for 8192 x 1024 out of them, where rows of the destination lie a multiple of 4 KiB apart.
/// Walking down instead: 8 and 7. Non-temporal stores walking down: 22 and 7, but 16 within the caches, where
/// blocks of rows should keep it.
template <class T, class W>
void transpose(int64_t rows, int64_t cols, const T* src, int64_t lds, T* dst, int64_t ldd) noexcept {
  constexpr int64_t kCols = W::kLanes, kRows = kCols * 4 / static_cast<int64_t>(sizeof(T)),
                    kLine = 64 / static_cast<int64_t>(sizeof(T));
  const auto block = [&](int64_t r, int64_t c) __attribute__((always_inline)) {
    const T* from = src + r * lds + c;
    T* to = dst + c * ldd + r;
    W w[kCols];
    unrolled<kCols>([&](auto i) {
      if constexpr (kRows == kCols)
        w[i] = W::load(from + i * lds);
      else
        w[i] = W::pairs(W::halves(from + 2 * i * lds), W::halves(from + (2 * i + 1) * lds));
    });
    W::transpose(w);
    unrolled<kCols>([&](auto i) { w[i].store(to + i * ldd); });
  };
  const int64_t whole_rows = rows / kRows * kRows, whole_cols = cols / kCols * kCols;
  for (int64_t r = 0; r < whole_rows; r += kRows)
    for (int64_t c0 = 0; c0 < whole_cols; c0 += kLine) {
      if (c0 + kLine < cols)
        for (int64_t i = 0; i < kRows; ++i) __builtin_prefetch(src + (r + i) * lds + c0 + kLine);
      for (int64_t c = c0; c < std::min(whole_cols, c0 + kLine); c += kCols) block(r, c);
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) dst[c * ldd + r] = src[r * lds + c];
}

}  // namespace qkv::kernels::simd
