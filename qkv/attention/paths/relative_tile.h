#pragma once
// Relative keys on a tile (attention/relative.h). Its rows + cols - 1 distances have a vector each: the band.
// A product of queries with the band gives every query the scores of all these distances; score (r, c) is at
// column c - r + rows - 1 of row r, so each row's are one after the other. Backward puts dS back into that
// skewed form, and two products give the gradients of queries and band.

#include "qkv/attention/paths/tile.h"

namespace qkv::paths {

constexpr int64_t kBand = 2 * kTile - 1;

template <class T>
class RelativeTile {
 public:
  using A = accumulator_t<T>;
  RelativeTile(const Problem<T>& p, const TilePlace& place, Scratch& scratch)
      : p_(p), place_(place), scratch_(scratch) {
    band_ = scratch.take<T>(n() * p.width);
    for (int64_t m = 0; m < n(); ++m) {
      const T* row =
          p.relative.rows + row_of(m) * p.relative.row_stride + place.head * p.relative.head_stride;
      std::copy(row, row + p.width, band_ + m * p.width);
    }
  }

  /// s [rows, kTile] += q' . r, unscaled.
  void add_scores(const T* q, A* s) {
    const void* packed = transposed_operand(*p_.kernels, band_, n(), p_.width, p_.width, scratch_);
    A* skewed = scratch_.take<A>(place_.rows * kBand);
    multiply(*p_.kernels, place_.rows, n(), p_.width, q, p_.relative.q_stride, packed, skewed, kBand, false);
    for (int64_t r = 0; r < place_.rows; ++r)
      p_.exact->add_diagonals(1, place_.cols, skewed + r * kBand + place_.rows - 1 - r, s + r * kTile, kTile);
  }

  /// dq [rows, width] += ds band; drows [n_rows, width] += ds^T q. Unscaled.
  void add_gradients(const T* q, const T* ds, A* dq, A* drows) {
    const int64_t rows = place_.rows, width = p_.width;
    T* skewed = scratch_.take<T>(rows * kBand);
    std::fill(skewed, skewed + rows * kBand, T(A(0)));
    for (int64_t r = 0; r < rows; ++r)
      std::copy(ds + r * kTile, ds + r * kTile + place_.cols, skewed + r * kBand + rows - 1 - r);
    const RightOperand<T> band = right_operand(*p_.kernels, band_, n(), width, width, scratch_);
    multiply(*p_.kernels, rows, skewed, kBand, band, dq, width, true);

    T* flipped = scratch_.take<T>(kBand * kTile);
    p_.kernels->gemm.transpose(rows, n(), skewed, kBand, flipped, kTile);
    A* sums = scratch_.take<A>(n() * width);
    multiply(*p_.kernels, n(), flipped, kTile,
             right_operand(*p_.kernels, q, rows, width, p_.relative.q_stride, scratch_), sums, width, false);
    for (int64_t m = 0; m < n(); ++m)
      for (int64_t d = 0; d < width; ++d) drows[row_of(m) * width + d] += sums[m * width + d];
  }

 private:
  int64_t n() const { return place_.rows + place_.cols - 1; }
  int64_t row_of(int64_t m) const {
    return p_.relative.row_of(place_.j0 - (place_.i0 + place_.rows - 1) + m);
  }

  const Problem<T>& p_;
  const TilePlace place_;
  Scratch& scratch_;
  T* band_;  // [n, width]
};

}  // namespace qkv::paths
