#pragma once
// What optimizers are composed of: whole tensors of f32, split over threads, every sum in a fixed order.

#include "qkv/base/parallel.h"
#include "qkv/tensor/matmul.h"

namespace qkv {

/// In double, over fixed pieces, in order.
double sum_squares(const Tensor& x);
/// y += factor * x.
void add_multiple(const Tensor& y, double factor, const Tensor& x);
/// x *= factor.
void rescale(const Tensor& x, double factor);
/// a [m, k] b [k, n], of one dtype; b may be transposed.
Tensor product(const Tensor& a, const Tensor& b);
/// A tensor of rank 2 or more as a matrix whose rows are its last axis; shares memory.
Tensor as_matrix(const Tensor& t);
/// Whether that has more than one row and more than one column.
bool is_matrix(const Shape& shape);

/// body(begin, end) over pieces of a tensor's elements, for element by element work.
template <class Body>
void each_piece(const Tensor& t, Body&& body) {
  parallel_for(t.numel(), 4096, std::forward<Body>(body));
}

}  // namespace qkv
