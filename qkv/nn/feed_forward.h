#pragma once

#include "qkv/autograd/ops/elementwise.h"
#include "qkv/base/trace.h"
#include "qkv/nn/linear.h"
#include "qkv/nn/pass.h"

namespace qkv {

/// FFN(x) = W2 activation(W1 x + b1) + b2, with dropout after the activation. Vaswani et al. 2017,
/// section 3.3, eq. 2.
class FeedForward {
 public:
  /// Parameters <name_in>.{weight,bias} [d_ff, d_model] and <name_out>.{weight,bias} [d_model, d_ff].
  FeedForward(ParameterSet& set, const std::string& name_in, const std::string& name_out, int64_t d_model,
              int64_t d_ff, Activation activation, double activation_dropout)
      : in_(set, name_in, d_model, d_ff),
        out_(set, name_out, d_ff, d_model),
        activation_(activation),
        activation_dropout_(activation_dropout) {}

  /// x [n, d_model] -> same shape
  Var operator()(Pass& pass, const Var& x) const {
    const trace::Span span("feed_forward");
    const double p = pass.rate(activation_dropout_);
    const Var h = in_(x, activation_);
    return out_(p > 0 ? dropout(h, p, pass.next_key()) : h);
  }

 private:
  Linear in_, out_;
  Activation activation_;
  double activation_dropout_;
};

}  // namespace qkv
