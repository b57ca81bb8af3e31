#pragma once
// Transposition by blocks that a family turns in registers; edges element by element.

#include <algorithm>
#include <cstdint>

namespace qkv::kernels {

/// Block::block turns kRows x kCols elements. Rows of blocks are walked from left to right, each a line of
/// the source wide, asking for the next line of every row on the way: the hardware does not follow 32 streams
/// at once.
///
/// On Zen 5, bf16, GB/s of the matrix: 22-23 where both copies fit the caches (1024 x 1024), 13 for 4096 x
/// 1536 and 8 for 8192 x 1024 out of them, where rows of the destination lie a multiple of 4 KiB apart.
/// Walking down instead: 8 and 7. Non-temporal stores walking down: 22 and 7, but 16 within the caches, where
/// blocks of rows should keep it.
template <class Block, class T>
void transpose_blocked(int64_t rows, int64_t cols, const T* src, int64_t lds, T* dst, int64_t ldd) noexcept {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  const int64_t whole_rows = rows / Block::kRows * Block::kRows,
                whole_cols = cols / Block::kCols * Block::kCols;
  for (int64_t r = 0; r < whole_rows; r += Block::kRows)
    for (int64_t c0 = 0; c0 < whole_cols; c0 += kLine) {
      if (c0 + kLine < cols)
        for (int64_t i = 0; i < Block::kRows; ++i) __builtin_prefetch(src + (r + i) * lds + c0 + kLine);
      const int64_t c1 = std::min(whole_cols, c0 + kLine);
      for (int64_t c = c0; c < c1; c += Block::kCols)
        Block::block(src + r * lds + c, lds, dst + c * ldd + r, ldd);
    }
  for (int64_t r = whole_rows; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) dst[c * ldd + r] = src[r * lds + c];
  for (int64_t r = 0; r < whole_rows; ++r)
    for (int64_t c = whole_cols; c < cols; ++c) dst[c * ldd + r] = src[r * lds + c];
}

}  // namespace qkv::kernels
