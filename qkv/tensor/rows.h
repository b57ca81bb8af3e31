#pragma once
// Matrices whose rows may be strided, as columns of a wider one are, but whose rows' elements are adjacent:
// what kernels that go row by row take.

#include "qkv/tensor/tensor.h"

namespace qkv {

/// x [n, d] itself where the elements of its rows are adjacent, else a copy.
inline Tensor with_adjacent_columns(const Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
}

/// From one row to the next, in elements. A single row's stride says nothing: it counts as its width.
inline int64_t row_stride(const Tensor& x) { return x.size(0) <= 1 ? x.size(1) : x.stride(0); }

}  // namespace qkv
