#pragma once
// Talking heads on one query's row: its numbers in every head, [n_heads, cols], heads head_stride apart, meet
// a matrix [n_heads, n_heads]. Products by GEMM, in A.

#include "qkv/attention/paths/tile.h"

namespace qkv::paths {

/// A row in all heads.
struct HeadRows {
  int64_t n_heads = 0, cols = 0, head_stride = 0;
};
constexpr int64_t kMixed = 512;  // columns mixed at a time: 16 heads' packed scores are 32 KiB

/// y_h = sum_g mixing[h, g] x_g
template <class A>
void mix_row(const kernels::GemmKernels<A>& gemm, const HeadRows& row, const A* mixing, const A* x, A* y,
             Scratch& scratch) {
  for (int64_t c = 0; c < row.cols; c += kMixed) {
    const Scratch::Frame frame(scratch);
    const int64_t cols = std::min(kMixed, row.cols - c);
    gemm.run({.m = row.n_heads,
              .n = cols,
              .k = row.n_heads,
              .a = mixing,
              .lda = row.n_heads,
              .b = pack(gemm, x + c, row.n_heads, cols, row.head_stride, 1, scratch),
              .n_begin = 0,
              .n_end = cols,
              .ldc = row.head_stride,
              .c_acc = y + c});
  }
}

/// sums [n_heads, n_heads]: (g, h) += sum over columns of x_g dy_h
template <class A>
void add_mixing_gradient(const kernels::GemmKernels<A>& gemm, const HeadRows& row, const A* x, const A* dy,
                         A* sums, Scratch& scratch) {
  for (int64_t c = 0; c < row.cols; c += kMixed) {
    const Scratch::Frame frame(scratch);
    const int64_t cols = std::min(kMixed, row.cols - c);
    gemm.run({.m = row.n_heads,
              .n = row.n_heads,
              .k = cols,
              .a = x + c,
              .lda = row.head_stride,
              .b = pack(gemm, dy + c, cols, row.n_heads, 1, row.head_stride, scratch),
              .n_begin = 0,
              .n_end = row.n_heads,
              .ldc = row.n_heads,
              .c_acc = sums,
              .accumulate = true});
  }
}

/// x becomes 0 where it is not finite and y is 0 in every head: what nobody saw must not meet that 0 in a
/// product.
template <class A>
void silence_row(const kernels::AttentionKernels<A>& kernels, const HeadRows& row, A* x, const A* y) {
  for (int64_t h = 0; h < row.n_heads; ++h) {
    A* mine = x + h * row.head_stride;
    if (kernels.all_finite(1, row.cols, mine, row.cols)) continue;
    for (int64_t c = 0; c < row.cols; ++c) {
      bool zero = !std::isfinite(mine[c]);
      for (int64_t g = 0; zero && g < row.n_heads; ++g) zero = y[g * row.head_stride + c] == 0;
      if (zero) mine[c] = 0;
    }
  }
}

}  // namespace qkv::paths
