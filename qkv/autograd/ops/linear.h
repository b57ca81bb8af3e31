#pragma once

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

/// y = activation(x W^T + b), or residual + x W^T + b.
///
///   x         [n, d_in]      f64 | f32 | bf16
///   weight    [d_out, d_in]  masters
///   bias      [d_out]        masters, or null
///   residual  [n, d_out]     dtype of x, or undefined
///   returns   [n, d_out]     dtype of x
///
/// Bias, activation and residual are part of the product's epilogue. Backward: dx = dy W, dW += dy^T x, db +=
/// column sums of dy, dresidual = dy. For activations other than relu and tanh the value before it is kept.
/// 2 n d_in d_out operations forward, twice that backward. Error kUnsupported: activation and residual.
Var linear(const Var& x, const ParameterPtr& weight, const ParameterPtr& bias = nullptr,
           Activation activation = Activation::kNone, const Var& residual = {});

/// Rows begin .. end - 1 of a parameter: one part of a stacked projection.
struct ParameterRows {
  ParameterPtr parameter;  // null: none
  int64_t begin = 0, end = 0;
};
/// y = x W^T + b with those rows as W and b, whose gradients go where they came from. Unlike the above it
/// packs W at every call, O(d_in d_out). Error kShape: rows that are not there.
Var linear(const Var& x, const ParameterRows& weight, const ParameterRows& bias);

struct LinearParameters {
  ParameterPtr weight, bias;  // bias may be null
};

/// What linear() is made of, for operations made of several.
struct LinearStep {
  Tensor out;
  /// MatmulOptions::derivative_at for the way back; undefined without activation, and unless `keep`.
  Tensor kept;
};
LinearStep linear_forward(const Tensor& x, const ParameterPtr& weight, const ParameterPtr& bias,
                          Activation activation, bool keep, const Tensor& residual = {});
/// dy through x W^T + bias: the parameters' gradients, and x's.
void linear_backward(const Tensor& dy, const Var& x, const ParameterPtr& weight, const ParameterPtr& bias);
/// Whether either of them is trainable.
bool trains(const ParameterPtr& weight, const ParameterPtr& bias);

}  // namespace qkv
