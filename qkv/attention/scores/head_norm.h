#pragma once

#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/norm.h"

namespace qkv {

/// RMS normalisation of each head by itself: x [n, n_heads * d] -> same shape; gamma [d], shared by the
/// heads.
inline Var head_rms_norm(const Var& x, const ParameterPtr& gamma, double eps) {
  const int64_t d = gamma->value().numel();
  return reshape(rms_norm(reshape(x, {x.value().numel() / d, d}), gamma, eps), x.value().shape());
}

}  // namespace qkv
