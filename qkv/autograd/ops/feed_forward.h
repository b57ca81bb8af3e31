#pragma once

#include "qkv/autograd/ops/linear.h"

namespace qkv {

/// y = activation(x W1^T + b1) W2^T + b2, plus the residual if it is defined: position-wise feed-forward
/// (Vaswani et al. 2017, section 3.3, eq. 2) as one operation.
///
///   x         [n, d_in]      f64 | f32 | bf16
///   in        [d_ff, d_in], [d_ff] or null
///   out       [d_out, d_ff], [d_out] or null
///   residual  [n, d_out]     dtype of x, or undefined
///   returns   [n, d_out]     dtype of x
///
/// What linear() twice computes, but for the gradient before the activation: there the derivative is part of
/// the epilogue of dy W2, which spares a pass over [n, d_ff] and a rounding. 2 n d_ff (d_in + d_out)
/// operations forward, twice that backward.
Var feed_forward(const Var& x, const LinearParameters& in, Activation activation, const LinearParameters& out,
                 const Var& residual = {});

}  // namespace qkv
