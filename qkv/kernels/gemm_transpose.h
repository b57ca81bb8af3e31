#pragma once
// Transposition by blocks that a family turns in registers; edges element by element.

#include <algorithm>
#include <cstdint>

namespace qkv::kernels {

/// Block::block turns kRows x kCols elements. Columns of the source are taken a strip at a time, all rows
/// down, so that the strip's rows of the destination are each written from end to end.
template <class Block, class T>
void transpose_blocked(int64_t rows, int64_t cols, const T* src, int64_t lds, T* dst, int64_t ldd) noexcept {
  constexpr int64_t kStrip = 64 / static_cast<int64_t>(sizeof(T));  // one cache line of the source
  const int64_t whole_rows = rows / Block::kRows * Block::kRows,
                whole_cols = cols / Block::kCols * Block::kCols;
  for (int64_t c0 = 0; c0 < whole_cols; c0 += kStrip) {
    const int64_t c1 = std::min(whole_cols, c0 + kStrip);
    for (int64_t r = 0; r < whole_rows; r += Block::kRows)
      for (int64_t c = c0; c < c1; c += Block::kCols)
        Block::block(src + r * lds + c, lds, dst + c * ldd + r, ldd);
  }
  for (int64_t r = whole_rows; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) dst[c * ldd + r] = src[r * lds + c];
  for (int64_t r = 0; r < whole_rows; ++r)
    for (int64_t c = whole_cols; c < cols; ++c) dst[c * ldd + r] = src[r * lds + c];
}

}  // namespace qkv::kernels
