#pragma once
// Cutting heads and putting them together, on the tape: activations [n, n_heads * d], head h columns h d ..
// (h + 1) d - 1.

#include "qkv/autograd/var.h"

namespace qkv {

/// Columns begin .. end - 1 of each head: x [n, n_heads * d] -> [n, n_heads * (end - begin)], copied. Error
/// kShape.
Var head_columns(const Var& x, int64_t n_heads, int64_t begin, int64_t end);

/// [a_h | b_h] for each head: a [n, n_heads * d_a], b [n, n_heads * d_b], or [n, d_b] that all heads share
/// (its gradient is then the sum over heads, in order, in the accumulator's type) -> [n, n_heads * (d_a +
/// d_b)]. Error kShape.
Var join_heads(const Var& a, const Var& b, int64_t n_heads, int64_t d_b);

}  // namespace qkv
