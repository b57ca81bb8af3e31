#pragma once

#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/feed_forward.h"
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

  /// x [n, d_model] -> same shape; plus the residual, if it is defined.
  Var operator()(Pass& pass, const Var& x, const Var& residual = {}) const {
    const double p = pass.rate(activation_dropout_);
    if (p == 0) return feed_forward(x, in_.parameters(), activation_, out_.parameters(), residual);
    const trace::Span span("feed_forward");
    return out_.onto(residual, dropout(in_(x, activation_), p, pass.next_key()));
  }

 private:
  Linear in_, out_;
  Activation activation_;
  double activation_dropout_;
};

}  // namespace qkv
