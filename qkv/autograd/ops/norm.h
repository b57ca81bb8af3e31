#pragma once

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

/// Layer normalisation of each row (Ba et al. 2016, arXiv:1607.06450): (x - mean) / sqrt(var + eps) * gamma +
/// beta. x [n, d] -> same shape and dtype; gamma, beta [d] masters.
Var layer_norm(const Var& x, const ParameterPtr& gamma, const ParameterPtr& beta, double eps);

/// RMS normalisation of each row (Zhang and Sennrich 2019, arXiv:1910.07467): x / sqrt(mean(x^2) + eps) *
/// gamma.
Var rms_norm(const Var& x, const ParameterPtr& gamma, double eps);

/// Softmax over each row; a row of -inf gives zeros.
Var softmax(const Var& x);

}  // namespace qkv
