#pragma once
// Relative keys and values on a tile (attention/relative.h). Its rows + cols - 1 distances have a vector
// each: the band. A product of queries with the band gives every query the scores of all these distances;
// score (r, c) is at column c - r + rows - 1 of row r, so each row's are one after the other. The other way
// round, what pairs have (weights, or dS) is put into that skewed form, and two products give what rows get
// from the band and what the band gets from rows.

#include "qkv/attention/paths/tile.h"

namespace qkv::paths {

// AMX sums even and odd k apart within steps of 32, so a row has the same bits in a prompt and in a decode
// step only where its pairs lie at the same places of such a step. The band begins accordingly.
constexpr int64_t kBandGrain = 32, kBand = 2 * kTile + kBandGrain;

template <class T>
class RelativeTile {
 public:
  using A = accumulator_t<T>;
  /// relative: the keys' or the values' vectors, `width` long.
  RelativeTile(const Problem<T>& p, const Relative<T>& relative, int64_t width, const TilePlace& place,
               Scratch& scratch)
      : p_(p),
        relative_(relative),
        width_(width),
        place_(place),
        origin_(place.rows - 1 + (kBandGrain - (place.i0 + place.rows - 1) % kBandGrain) % kBandGrain),
        scratch_(scratch) {
    band_ = scratch.take<T>(n() * width);
    for (int64_t m = 0; m < n(); ++m) {
      const T* row = relative.rows + row_of(m) * relative.row_stride + place.head * relative.head_stride;
      std::copy(row, row + width, band_ + m * width);
    }
  }

  /// s [rows, kTile] += x . r of each pair, for x [rows, width], ldx apart.
  void add_products(const T* x, int64_t ldx, A* s) {
    const void* packed = transposed_operand(*p_.kernels, band_, n(), width_, width_, scratch_);
    A* skewed = scratch_.take<A>(place_.rows * kBand);
    multiply(*p_.kernels, place_.rows, n(), width_, x, ldx, packed, skewed, kBand, false);
    for (int64_t r = 0; r < place_.rows; ++r)
      p_.exact->add_diagonals(1, place_.cols, skewed + r * kBand + origin_ - r, s + r * kTile, kTile);
  }

  /// Pairs [rows, kTile] in skewed form, [rows, kBand].
  const T* skew(const T* pairs) {
    const int64_t rows = place_.rows;
    T* skewed = scratch_.take<T>(rows * kBand);
    std::fill(skewed, skewed + rows * kBand, T(A(0)));
    for (int64_t r = 0; r < rows; ++r)
      std::copy(pairs + r * kTile, pairs + r * kTile + place_.cols, skewed + r * kBand + origin_ - r);
    return skewed;
  }
  /// y [rows, width] += sum over a row's pairs of pair * r.
  void add_to_rows(const T* skewed, A* y) {
    const RightOperand<T> band = right_operand(*p_.kernels, band_, n(), width_, width_, scratch_);
    multiply(*p_.kernels, place_.rows, skewed, kBand, band, y, width_, true);
  }
  /// dr [n_rows, width] += sum over pairs of pair * x. Null: nobody wants it.
  void add_to_vectors(const T* skewed, const T* x, int64_t ldx, A* dr) {
    if (!dr) return;
    T* flipped = scratch_.take<T>(kBand * kTile);
    p_.kernels->gemm.transpose(place_.rows, n(), skewed, kBand, flipped, kTile);
    A* sums = scratch_.take<A>(n() * width_);
    multiply(*p_.kernels, n(), flipped, kTile,
             right_operand(*p_.kernels, x, place_.rows, width_, ldx, scratch_), sums, width_, false);
    for (int64_t m = 0; m < n(); ++m)
      for (int64_t d = 0; d < width_; ++d) dr[row_of(m) * width_ + d] += sums[m * width_ + d];
  }

 private:
  int64_t n() const { return origin_ + place_.cols; }
  int64_t row_of(int64_t m) const { return relative_.row_of(place_.j0 - place_.i0 - origin_ + m); }

  const Problem<T>& p_;
  const Relative<T>& relative_;
  const int64_t width_;
  const TilePlace place_;
  const int64_t origin_;
  Scratch& scratch_;
  T* band_;  // [n, width]
};

/// o [rows, d_v] += sum_j w_ij a_{j - i} over the tile's keys, for weights [rows, kTile].
template <class T>
void add_relative_values(const Problem<T>& p, const TilePlace& place, const T* weights, Scratch& scratch,
                         accumulator_t<T>* o) {
  if (!p.relative_values.rows) return;
  const Scratch::Frame frame(scratch);
  RelativeTile<T> tile(p, p.relative_values, p.d_v(), place, scratch);
  tile.add_to_rows(tile.skew(weights), o);
}

}  // namespace qkv::paths
