#pragma once

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"
#include "qkv/kernels/gemm.h"
#include "qkv/kernels/rows.h"

namespace qkv {

Var add(const Var& a, const Var& b);                // a + b, equal shapes
Var scale(const Var& x, double factor);             // factor * x
Var multiply(const Var& a, const Var& b);           // a * b, elementwise, equal shapes
Var activate(const Var& x, kernels::Activation f);  // f(x)
/// x [n, d] + bias [d], rounded to x's dtype.
Var add_bias(const Var& x, const ParameterPtr& bias);
/// A parameter's value on the tape, rounded to dtype.
Var value_of(const ParameterPtr& parameter, DType dtype);
/// Columns [begin, end) of a matrix, sharing memory; the gradient goes back into those columns.
Var columns(const Var& x, int64_t begin, int64_t end);

/// The same numbers in another shape of as many; a strided x is copied.
Var reshape(const Var& x, const Shape& shape);

/// Dropout with probability p (Srivastava et al. 2014): kept values are scaled so that the expectation stays.
/// Which are kept is a function of `key` and place alone (kernels/rows.h); nothing is stored for the backward
/// pass. p = 0 is the identity.
Var dropout(const Var& x, double p, const RandomKey& key);
/// residual + dropout(x), in one pass.
Var add_dropout(const Var& residual, const Var& x, double p, const RandomKey& key);

}  // namespace qkv
