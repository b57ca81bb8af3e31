#pragma once

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

/// One linear map a head: y_h = x_h W_h (+ b_h).
///
///   x        [n, n_heads * d_in]      f64 | f32 | bf16, rows may be strided
///   weight   [n_heads, d_in, d_out]   masters
///   bias     [n_heads, d_out]         masters, or null
///   returns  [n, n_heads * d_out]     dtype of x
Var head_linear(const Var& x, const ParameterPtr& weight, const ParameterPtr& bias = nullptr);

}  // namespace qkv
